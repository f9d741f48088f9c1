"""The words of the context policies: what asks for a summary, how it is shown, what stands for a folded output."""

from envpool.policy import Message

_REQUEST = """\
Do not act now: answer with a summary of your turns {first} to {last} and no tool call. Those turns will be taken out of the \
conversation, and your summary is all that stays of them. Write under four headings:
Progress: what was done and what came of it, failed attempts included.
Findings: what you learned about the code.
Understanding: what you now believe the cause and the fix to be.
Anchors: paths, line numbers, names and commands that you will need again, exactly."""


def summary_request(first: int, last: int) -> Message:
    """Asks for a summary of these turns (counted from 0, `last` not included)."""
    return Message("user", _REQUEST.format(first=first + 1, last=last))


def summary_text(completion: str) -> str:
    r"""The summary in a completion; thinking before it is left out. "" when there is none.

    >>> summary_text("<think>what was it?</think>\nProgress: none. ")
    'Progress: none.'
    """
    return completion.rsplit("</think>", 1)[-1].strip()


def summary_message(index: int, interval: int, text: str) -> Message:
    """How the `index`-th summary is shown.

    >>> summary_message(1, 10, "Progress: ...").content
    '<summary turns="11-20">\\nProgress: ...\\n</summary>'
    """
    return Message("user", f'<summary turns="{index * interval + 1}-{(index + 1) * interval}">\n{text}\n</summary>')


def folded(output: str) -> str:
    r"""One line for an old output; what is not longer than that line stays.

    >>> folded("passed"), folded("a line\n" * 40)
    ('passed', '[output of 40 lines left out]')
    """
    lines = len(output.splitlines())
    note = f"[output of {lines} line{'s' if lines != 1 else ''} left out]"
    return note if len(note) < len(output) else output
