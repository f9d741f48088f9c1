"""Running a package's own pytest suite in a sandbox and reading which tests passed."""

import re
import shlex
from dataclasses import dataclass

from envpool.packages.test_launcher import IMPORT_PATH
from envpool.sandbox import Sandbox

MAX_LOG_BYTES = 16_777_216
ALWAYS = ("--continue-on-collection-errors",)  # a file whose imports are not there does not stop the others
_SUMMARY = re.compile(r"=+ short test summary info =+")
_LINE = re.compile(r"(PASSED|FAILED|ERROR) (\S+)(?: - (.*))?")
_UNNAMEABLE = re.compile(r"(PASSED|FAILED|ERROR) \S.*")


@dataclass(frozen=True)
class SuiteCommand:
    """How the suite is started: the sandbox's interpreter, what goes on its import path (relative to the workdir), the packed
    test runtime ("": the interpreter has pytest), options that override the package's."""

    python: str
    import_path: tuple[str, ...]
    runtime: str = ""
    options: tuple[str, ...] = ()

    def script(self, files: tuple[str, ...] = (), traceback: str = "short") -> str:
        """One shell line, run in the workdir; without files the package's own choice of tests. Seeds and caches are fixed:
        results depend on the tree alone. pytest itself heeds PYTEST_ADDOPTS."""
        path = ":".join(f'"$PWD"/{shlex.quote(entry)}' if entry != "." else '"$PWD"' for entry in self.import_path)
        start = f'{shlex.quote(self.python)} "$PWD"/{self.runtime}' if self.runtime else f"{shlex.quote(self.python)} -m pytest"
        variable = IMPORT_PATH if self.runtime else "PYTHONPATH"
        words = ("-rA", "-q", f"--tb={traceback}", "-p", "no:cacheprovider", *ALWAYS, *self.options, *files)
        return f"COLUMNS=200 PYTHONHASHSEED=0 PYTHONDONTWRITEBYTECODE=1 {variable}={path} {start} {shlex.join(words)}\n"


@dataclass(frozen=True)
class SuiteRun:
    """One run: status (PASSED, FAILED, ERROR) and message per test id. Ids with blanks are left out and counted: not every
    log parser reads them."""

    status: dict[str, str]
    messages: dict[str, str]
    num_unnameable: int
    exit_code: int
    timed_out: bool
    seconds: float
    output: str

    @property
    def passed(self) -> frozenset[str]:
        return frozenset(test for test, status in self.status.items() if status == "PASSED")

    @property
    def unloadable(self) -> frozenset[str]:
        """Test files that could not be imported."""
        return frozenset(test for test, status in self.status.items() if status == "ERROR" and "::" not in test)

    @property
    def last_line(self) -> str:
        lines = [line.strip() for line in self.output.splitlines() if line.strip()]
        return lines[-1][:200] if lines else "no output"


async def run_suite(sandbox: Sandbox, command: SuiteCommand, timeout_s: float, files: tuple[str, ...] = ()) -> SuiteRun:
    """Run some files of the suite, or all. Raises SandboxError when the sandbox broke, not when tests do."""
    script = f"cd {shlex.quote(sandbox.workdir)} && {command.script(files, traceback='no')}"
    result = await sandbox.run(script.strip(), timeout_s, max_output_bytes=MAX_LOG_BYTES)
    status, messages, num_unnameable = read_summary(result.output)
    return SuiteRun(
        status, messages, num_unnameable, result.exit_code, result.timed_out or result.truncated, result.seconds, result.output
    )


def file_of(test: str) -> str:
    """The file of a test id."""
    return test.partition("::")[0]


def read_summary(log: str) -> tuple[dict[str, str], dict[str, str], int]:
    """Status and message per test of pytest's last short summary, and how many tests have an id with blanks.

    >>> read_summary("== short test summary info ==\\nPASSED a.py::x\\nFAILED a.py::y - assert 1 == 2\\n1 failed\\n")
    ({'a.py::x': 'PASSED', 'a.py::y': 'FAILED'}, {'a.py::y': 'assert 1 == 2'}, 0)
    """
    status: dict[str, str] = {}
    messages: dict[str, str] = {}
    num_unnameable = 0
    headings = list(_SUMMARY.finditer(log))
    for line in log[headings[-1].end() :].splitlines() if headings else ():
        match = _LINE.fullmatch(line)
        if match is None:
            num_unnameable += _UNNAMEABLE.fullmatch(line) is not None
        elif status.get(match[2], "PASSED") == "PASSED":  # a test that passed and then failed in teardown has failed
            status[match[2]] = match[1]
            messages[match[2]] = match[3] or ""
    return status, {test: message for test, message in messages.items() if message}, num_unnameable
