"""Which test files reach which functions of a package, found by running each file once under `envpool.packages.call_tracer`."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import orjson

from envpool.packages.candidate_bugs import BugSet, CandidateBug
from envpool.packages.package_suite import SuiteCommand, run_suite
from envpool.sandbox import Sandbox

TRACER = Path(__file__).with_name("call_tracer.py")
TRACER_DIR = ".call-tracer"
RESULT_FILE = "reached.json"
MAX_RESULT_BYTES = 16_777_216


@dataclass(frozen=True)
class FileReach:
    """What one test file does: the functions it calls (path, first line), whether it also runs other processes, in which
    nobody looked (`opaque`; then it may reach anything), and its seconds under the tracer."""

    calls: frozenset[tuple[str, int]]
    opaque: bool
    seconds: float


@dataclass(frozen=True)
class TestReach:
    """What every test file with usable tests reaches.

    >>> reach = TestReach({"t.py": FileReach(frozenset({("a.py", 3)}), False, 0.1)})
    >>> reach.reaches("t.py", "a.py", 1, 5), reach.reaches("t.py", "a.py", 4, 5)
    (True, False)
    """

    __test__ = False
    files: Mapping[str, FileReach]

    def reaches(self, file: str, path: str, first_line: int, last_line: int) -> bool:
        """Whether a test file calls a function that starts on these lines."""
        return any(called == path and first_line <= line <= last_line for called, line in self.files[file].calls)

    def files_of(self, bugs: BugSet) -> tuple[str, ...]:
        """Test files that can notice one of the bugs; those that nobody could look into are always among them."""
        return tuple(file for file in self.files if any(self._can_notice(file, bug) for bug in bugs.bugs))

    def seconds(self, files: tuple[str, ...]) -> float:
        """What some files take together, no less than without a tracer."""
        return sum(self.files[file].seconds for file in files)

    def _can_notice(self, file: str, bug: CandidateBug) -> bool:
        return self.files[file].opaque or self.reaches(file, bug.path, bug.first_line, bug.last_line)


async def trace_file(sandbox: Sandbox, command: SuiteCommand, file: str, timeout_s: float) -> FileReach:
    """Run one test file under the tracer. Opaque when that gives no result (it hung, or ended the process)."""
    result_path = f"{sandbox.workdir}/{TRACER_DIR}/{RESULT_FILE}"
    await sandbox.write_file(f"{sandbox.workdir}/{TRACER_DIR}/{TRACER.name}", TRACER.read_bytes())
    await sandbox.write_file(result_path, b"")
    traced = replace(command, import_path=(*command.import_path, TRACER_DIR), options=(*command.options, "-p", TRACER.stem))
    run = await run_suite(sandbox, traced, timeout_s, (file,))
    return read_reach(await sandbox.read_file(result_path, MAX_RESULT_BYTES), run.seconds)


def read_reach(data: bytes, seconds: float) -> FileReach:
    """The tracer's result.

    >>> read_reach(b'{"calls": [["a.py", 3]], "opaque": false}', 0.5)
    FileReach(calls=frozenset({('a.py', 3)}), opaque=False, seconds=0.5)
    """
    try:
        found = orjson.loads(data)
        return FileReach(frozenset((str(path), int(line)) for path, line in found["calls"]), bool(found["opaque"]), seconds)
    except (ValueError, KeyError, TypeError):
        return FileReach(frozenset(), True, seconds)
