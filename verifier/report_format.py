r"""What SWE-World's reward model (SWR) answers: a simulation, a test report, a reward; written in two forms, read by one parser.

compact                                     full
    <think>                                     <think>
    area(7, 2) != 14? w + h = 7 + 2 = 9         ...
    </think>                                    </think>
    FAILED test_shapes.py::test_area            {"test_report": {"test_shapes.py::test_area": "FAILED"}, "reward": 0}
    <reward>0</reward>

An answer that is not exactly this is no vote. Texts that come from outside are neutralised before they are shown to the model
or put into a target, so none of these tags can stem from them.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from envpool.untrusted_text import cut_to, neutralise

STATUSES = ("PASSED", "FAILED", "ERROR", "SKIPPED", "XFAIL", "XPASS")
FORMS = ("compact", "full")
THOUGHT = re.compile(r"\s*<think>\n?(?P<thought>.*?)\n?</think>\s*(?P<rest>.*)", re.DOTALL)
COMPACT = re.compile(r"(?P<report>.*?)(?:^|\n)<reward>(?P<reward>[01])</reward>\s*", re.DOTALL)
STATUS_LINE = re.compile(rf"(?P<status>{'|'.join(STATUSES)}) (?P<name>\S[^\n]*)")
LOG_STATUS = re.compile(
    rf"^(?:(?P<first>{'|'.join(STATUSES)}) +(?P<after>\S+::\S.*?)(?: - .*)?"
    rf"|(?P<before>\S+::\S.*?) +(?P<last>{'|'.join(STATUSES)})"
    r"(?: +\[ *\d+%\])?)\s*$",
    re.MULTILINE,
)
SESSION_START = re.compile(r"^=+ test session starts =+$", re.MULTILINE)
_OUTCOME = r"\d+ (?:passed|failed|errors?|skipped|xfailed|xpassed|deselected|warnings?|rerun)"
_COUNTED = rf"(?:no tests ran|{_OUTCOME}(?:, {_OUTCOME})*)"
SESSION_END = re.compile(
    rf"^(?:=+ )?{_COUNTED} in [\d.]+ ?s(?:econds?)?(?: \([\d:]+\))?(?: =+)?[ \t]*$"
    r"|^Ran \d+ tests? in [\d.]+s\s+^(?:OK|FAILED|NO TESTS RAN)\b[^\n]*$",
    re.MULTILINE,
)
"""The last line of pytest, or the last lines of unittest and Django."""
MAX_LOG_CHARS = 20_000


@dataclass(frozen=True)
class SimulatedReport:
    """A well-formed answer: the simulation, the status per test (name -> one of STATUSES) and the verdict (0 or 1)."""

    reward: int
    statuses: Mapping[str, str] = field(default_factory=dict)
    thought: str = ""

    @property
    def contradicts_itself(self) -> bool:
        """Whether the verdict is 1 although a test failed, or 0 although tests ran and none failed."""
        failed = any(status in ("FAILED", "ERROR") for status in self.statuses.values())
        return failed if self.reward else bool(self.statuses) and not failed


@dataclass(frozen=True)
class InvalidReport:
    """An answer that is no vote, and why."""

    reason: str


def render_report(
    log: str, resolved: bool, form: str = "compact", thought: str | None = None, statuses: Mapping[str, str] | None = None
) -> str:
    r"""The answer a perfect world model would write: the real statuses and the real verdict.

    `statuses` None: those of a pytest log. `thought` None: nothing in the full form; in the compact one the lines of the log that
    are no status and name no test (what a run says about values it computed).

    >>> render_report("7 + 2 = 9\nPASSED t.py::a\n", True)
    '<think>\n7 + 2 = 9\n</think>\nPASSED t.py::a\n<reward>1</reward>'
    """
    if statuses is None:
        statuses = log_statuses(session_of(log))
    if thought is None and form == "full":
        thought = ""
    if thought is None:
        lines = [line for line in trim_log(log).splitlines() if not LOG_STATUS.match(line)]
        thought = "\n".join(line for line in lines if not any(name in line for name in statuses))
    statuses = {neutralise(name): status for name, status in statuses_within(statuses, MAX_LOG_CHARS).items()}
    head = f"<think>\n{neutralise(thought).strip()}\n</think>\n"
    if form == "full":
        return head + json.dumps({"test_report": statuses, "reward": int(resolved)}, ensure_ascii=False)
    report = "".join(f"{status} {name}\n" for name, status in statuses.items())
    return f"{head}{report}<reward>{int(resolved)}</reward>"


def log_statuses(log: str) -> dict[str, str]:
    """Status per test of a pytest log, `PASSED name` (its short summary) or `name PASSED`; the last word on a test counts.

    >>> log_statuses("t.py::a PASSED [ 50%]\\nFAILED t.py::b - assert 1 == 2")
    {'t.py::a': 'PASSED', 't.py::b': 'FAILED'}
    """
    found = {}
    for match in LOG_STATUS.finditer(log):
        found[" ".join((match["after"] or match["before"]).split())] = match["first"] or match["last"]
    return found


def statuses_within(statuses: Mapping[str, str], max_chars: int) -> dict[str, str]:
    """Those that fit, in their order; failed tests before others.

    >>> statuses_within({"a": "PASSED", "b": "FAILED", "c": "PASSED"}, 16)
    {'a': 'PASSED', 'b': 'FAILED'}
    """
    kept, left = set(), max_chars
    for name, status in sorted(statuses.items(), key=lambda item: item[1] not in ("FAILED", "ERROR")):
        left -= len(name) + len(status) + 1
        if left < 0:
            break
        kept.add(name)
    return {name: status for name, status in statuses.items() if name in kept}


def session_of(log: str) -> str:
    """From the start of the first test session to the end of the last, where the log shows them: without what a script does
    before and after.

    >>> session_of("t.py::a PASSED\\n== 1 passed in 0.1s ==\\n+ git checkout t.py")
    't.py::a PASSED\\n== 1 passed in 0.1s =='
    """
    start = SESSION_START.search(log)
    ends = [match.end() for match in SESSION_END.finditer(log)]
    return log[start.start() if start else 0 : ends[-1] if ends else len(log)]


def trim_log(log: str, max_chars: int = MAX_LOG_CHARS) -> str:
    """The part of a log that speaks of the tests (`session_of`), blanks around it and the middle of an overlong text removed."""
    return cut_to(session_of(log), max_chars).strip()


def parse_report(text: str) -> SimulatedReport | InvalidReport:
    r"""Read a model's answer strictly, in either form.

    >>> parse_report("<think>\n\n</think>\nFAILED t.py::a\n<reward>0</reward>").statuses
    {'t.py::a': 'FAILED'}
    >>> parse_report("<think>\n\n</think>\n<reward>0</reward><reward>1</reward>")
    InvalidReport(reason='2 reward tags')
    """
    if text.count("<think>") != 1 or text.count("</think>") != 1 or (found := THOUGHT.fullmatch(text)) is None:
        return InvalidReport("not one <think> block at the start")
    rest = found["rest"]
    if rest.startswith("{"):
        return _parse_full(rest, found["thought"])
    num_tags = text.count("<reward>")
    if num_tags != 1:
        return InvalidReport("no reward tag" if num_tags == 0 else f"{num_tags} reward tags")
    match = COMPACT.fullmatch(rest)
    if match is None:
        return InvalidReport("the reward is not 0 or 1 on a line of its own at the end")
    statuses: dict[str, str] = {}
    for line in match["report"].strip().splitlines():
        status = STATUS_LINE.fullmatch(line.rstrip())
        if status is None:
            return InvalidReport("a line of the report is no status")
        if statuses.setdefault(status["name"], status["status"]) != status["status"]:
            return InvalidReport("two statuses for one test")
    return SimulatedReport(int(match["reward"]), statuses, found["thought"])


def _parse_full(text: str, thought: str) -> SimulatedReport | InvalidReport:
    try:
        answer = json.loads(text, object_pairs_hook=_unique_keys)
    except (ValueError, RecursionError):
        return InvalidReport("the report is no JSON")
    if not isinstance(answer, dict) or list(answer) != ["test_report", "reward"]:
        return InvalidReport("the report has not exactly the keys test_report and reward, in this order")
    reward, tests = answer["reward"], answer["test_report"]
    if type(reward) is not int or reward not in (0, 1):
        return InvalidReport("the reward is not 0 or 1")
    if isinstance(tests, str):
        tests = log_statuses(tests)
    if not isinstance(tests, dict) or any(status not in STATUSES for status in tests.values()):
        return InvalidReport("a line of the report is no status")
    return SimulatedReport(reward, tests, thought)


def _unique_keys(pairs: list[tuple[str, object]]) -> dict[str, object]:
    keys = dict(pairs)
    if len(keys) != len(pairs):
        raise ValueError("a key twice")
    return keys
