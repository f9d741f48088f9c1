"""The issue text of a bug in a package: what a user sees going wrong, from the failing tests' names and messages."""

import random

from envpool.candidate_bugs import CandidateBug

MAX_BEHAVIOURS = 3
MAX_MESSAGE = 160
OPENINGS = (
    "Some of what {package} does is wrong since the last change.",
    "I upgraded {package} and part of it no longer behaves as it should.",
    "{package} gives wrong results in some cases.",
)
LIST_HEADINGS = ("What I see:", "These cases go wrong:", "For example:")
CLOSINGS = (
    "Everything else that I tried still works. Please find the cause and fix it.",
    "Other behaviour must stay as it is.",
    "Please fix this without changing how the rest behaves.",
)


def issue_text(package: str, bug: CandidateBug, messages: dict[str, str], seed: int) -> str:
    """An issue that names up to three failing behaviours (`messages`: test id -> pytest's message, maybe "").

    It never says where the bug is or of which kind it is: messages that quote a changed line are left out.
    """
    rng = random.Random(f"{seed} {bug.path} {bug.line} {bug.operator}")
    opening, heading, closing = rng.choice(OPENINGS), rng.choice(LIST_HEADINGS), rng.choice(CLOSINGS)
    shown: dict[str, str] = {}
    for test, message in sorted(messages.items()):
        behaviour = behaviour_of(test)
        if behaviour and (len(shown) < MAX_BEHAVIOURS or behaviour in shown):
            shown.setdefault(behaviour, _harmless(message, bug))
    lines = [f"- {behaviour}" + (f": `{message}`" if message else "") for behaviour, message in shown.items()]
    more = len({behaviour_of(test) for test in messages}) - len(shown)
    if more > 0:
        lines.append(f"- and {more} more like these")
    return "\n".join([f"{opening.format(package=package)}", "", heading, "", *lines, "", closing]) + "\n"


def behaviour_of(test: str) -> str:
    """Words for what a test looks at.

    >>> behaviour_of("tests/test_ini.py::TestParse::test_empty_line[a-1]")
    'empty line'
    """
    name = test.rpartition("::")[2].partition("[")[0]
    return " ".join(name.removeprefix("test").replace("_", " ").split()) or name


def _harmless(message: str, bug: CandidateBug) -> str:
    """The message in one line without backquotes; nothing when it quotes a line that the bug touched."""
    shown = " ".join(message.replace("`", "'").split())[:MAX_MESSAGE]
    before, after = bug.before.splitlines(), bug.after.splitlines()
    touched = {line.strip() for line in set(before) ^ set(after) if len(line.strip()) > 3}
    return "" if any(line in shown for line in touched) or bug.path in shown else shown
