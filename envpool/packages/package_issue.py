"""The issue text of bugs in a package: what a user sees going wrong, from the failing tests' names and messages."""

import random
import re
from dataclasses import dataclass
from pathlib import PurePosixPath

from envpool.packages.candidate_bugs import BugSet

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


@dataclass(frozen=True)
class IssueFacts:
    """What an issue is written from: failing tests with pytest's messages (maybe ""), and the source of some of the tests.
    `bugs` only serves to check that a text does not give them away."""

    package: str
    bugs: BugSet
    messages: dict[str, str]
    test_sources: tuple[str, ...]
    seed: int


def issue_text(facts: IssueFacts) -> str:
    """An issue from a template; it names up to three failing behaviours for each bug.

    It never says where a bug is or of which kind it is: messages that give it away are left out.
    """
    places = [(bug.path, bug.line, bug.operator) for bug in facts.bugs.bugs]
    rng = random.Random(f"{facts.seed} {places}")
    opening, heading, closing = rng.choice(OPENINGS), rng.choice(LIST_HEADINGS), rng.choice(CLOSINGS)
    shown: dict[str, str] = {}
    for test, message in sorted(facts.messages.items()):
        behaviour = behaviour_of(test)
        if len(shown) < MAX_BEHAVIOURS * len(places) or behaviour in shown:
            shown.setdefault(behaviour, _harmless(message, facts.bugs))
    lines = [f"- {behaviour}" + (f": `{message}`" if message else "") for behaviour, message in shown.items()]
    more = len({behaviour_of(test) for test in facts.messages}) - len(shown)
    if more > 0:
        lines.append(f"- and {more} more like these")
    return "\n".join([f"{opening.format(package=facts.package)}", "", heading, "", *lines, "", closing]) + "\n"


def gives_away(text: str, bugs: BugSet) -> str:
    """What in a text tells where a bug is, or ""; a changed line, a file that was changed, its module, a line number.

    >>> gives_away("see line 12 of it", BugSet(()))
    'line 12'
    """
    words = " ".join(text.split())
    for path, (before, after) in bugs.changes.items():
        names = (path, PurePosixPath(path).name, path.removesuffix(".py").removeprefix("src/").replace("/", "."))
        for name in names[: 2 if names[1] == "__init__.py" or "." not in names[2] else 3]:
            if re.search(rf"(?<![\w.]){re.escape(name)}(?!\w)", words):
                return name
        changed = set(before.splitlines()) ^ set(after.splitlines())
        for line in sorted(" ".join(line.split()) for line in changed):
            if len(line) > 3 and line in words:
                return line
    found = re.search(r"\blines? \d+", words, re.IGNORECASE)
    return found[0] if found else ""


def behaviour_of(test: str) -> str:
    """Words for what a test looks at.

    >>> behaviour_of("tests/test_ini.py::TestParse::test_empty_line[a-1]")
    'empty line'
    """
    name = test.rpartition("::")[2].partition("[")[0]
    return " ".join(name.removeprefix("test").replace("_", " ").split()) or name


def _harmless(message: str, bugs: BugSet) -> str:
    """The message in one line without backquotes; nothing when it gives a bug away."""
    shown = " ".join(message.replace("`", "'").split())[:MAX_MESSAGE]
    return "" if gives_away(message, bugs) or gives_away(shown, bugs) else shown
