"""A language model's verdict: did the language server help here, or was it only called?

The rubric follows SWE-Master's (appendix B of its paper) in our own words. It asks for a report and one boxed yes or no.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from configs.curate_config import LspCurationConfig
from envpool.curation.lsp_turns import lsp_call
from envpool.endpoints.chat_endpoint import ChatEndpoint
from envpool.trajectory import Trajectory, Turn

OTHER_OBSERVATION_CHARS = 100
_BOXED = re.compile(r"\\boxed\{\s*(?:\\text\{)?\s*([^{}]*?)\s*\}")

RUBRIC = """\
You review the work of a software-engineering agent. Beside a shell and an editor it could ask a language server (lsp_tool) \
where symbols are defined and used, for types, outlines and callers. The agent resolved the issue; the question is only whether \
its use of the language server is worth imitating.

Speaks for it:
- navigation: it went from the issue to the code concerned in few steps because of what the server said;
- understanding: it drew right conclusions from definitions, references, types or callers;
- strategy: it chose the question that fits what it had to know next, and the answer changed what it did;
- economy: it read less of files than it would otherwise have had to.

Speaks against it:
- calls with wrong arguments, at wrong places, or for what the server cannot know;
- calls that failed and taught it nothing;
- answers that it did not use, or asked again for what it already knew;
- so many calls that a plain text search would have been quicker.

Compare with how the same agent would have worked with text search alone: is this run better for having had the server?
{hard_rule}
Write a short report under these headings: Summary; Where it helped; Problems; Numbers (calls in all, successful, that helped, \
failed, redundant); Turning points; Verdict. End with exactly one line that holds \\boxed{{yes}} when the run is worth imitating \
and \\boxed{{no}} when it is not."""
HARD_RULE = "\nWhatever else holds: a single call of the language server that failed or found nothing means no.\n"


class LspVerdict(Enum):
    """What the judge said."""

    YES = "yes"
    NO = "no"
    INVALID = "invalid"  # no try gave one boxed yes or no


@dataclass(frozen=True)
class Judgement:
    """The verdict, how many times the judge was asked for it, and its last report."""

    verdict: LspVerdict
    tries: int
    report: str


async def judge_lsp_use(trajectory: Trajectory, endpoint: ChatEndpoint, config: LspCurationConfig) -> Judgement:
    """Ask up to `config.judge_tries` times for a readable verdict. Raises PolicyError when the endpoint broke."""
    session = f"judge/{trajectory.instance_id}/{trajectory.sample_index}"
    messages = [
        {"role": "system", "content": RUBRIC.format(hard_rule=HARD_RULE if config.hard_rule else "")},
        {"role": "user", "content": transcript(trajectory.prompt, trajectory.turns)},
    ]
    report = ""
    for number in range(1, config.judge_tries + 1):
        answer = await endpoint.ask(
            messages, config.judge_max_tokens, config.judge_temperature, config.seed + number, session=session
        )
        report = answer.text
        verdict = parse_verdict(report)
        if answer.finish_reason == "stop" and verdict is not LspVerdict.INVALID:
            return Judgement(verdict, number, report)
    return Judgement(LspVerdict.INVALID, config.judge_tries, report)


def parse_verdict(report: str) -> LspVerdict:
    r"""Exactly one box after any reasoning block, holding yes or no; anything else is invalid.

    >>> parse_verdict("Summary: ... \\boxed{yes}"), parse_verdict("\\boxed{yes} or \\boxed{no}"), parse_verdict("yes")
    (<LspVerdict.YES: 'yes'>, <LspVerdict.INVALID: 'invalid'>, <LspVerdict.INVALID: 'invalid'>)
    """
    boxes = _BOXED.findall(report.rpartition("</think>")[2])
    word = boxes[0].lower() if len(boxes) == 1 else ""
    return LspVerdict(word) if word in ("yes", "no") else LspVerdict.INVALID


def transcript(prompt: str, turns: Sequence[Turn]) -> str:
    """The run as the judge reads it: what the language server said in full, other observations cut to 100 characters."""
    parts = [f"# Task\n\n{prompt}"]
    for number, turn in enumerate(turns, start=1):
        seen = turn.observation
        if lsp_call(turn) is None and len(seen) > OTHER_OBSERVATION_CHARS:
            seen = f"{seen[:OTHER_OBSERVATION_CHARS]} [...]"
        parts.append(f"# Step {number}\n\n{turn.text}\n\n## Observation\n\n{seen}")
    return "\n\n".join(parts)
