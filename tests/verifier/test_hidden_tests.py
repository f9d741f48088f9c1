"""Grading by really running hidden tests, in process sandboxes."""

import asyncio
import subprocess
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from configs.sandbox_config import SandboxConfig
from envpool.oracle import HiddenFile
from envpool.patch import Patch
from envpool.pool.sandbox_pool import SandboxPool
from envpool.preparation import Preparation
from envpool.sandbox import ExecResult
from envpool.sandbox_errors import ImageMissingError
from envpool.sandbox_parts.image_cache import FolderImages
from envpool.sandboxes.scripted_sandbox import ScriptedBackend, said
from tests.verifier.small_repo import BUGGY, FILES, FIXED, GOLD, HIDDEN_PATH, TASK, VISIBLE_TEST, file_diff, process_pool
from verifier.hidden_tests import BrokenTaskError, GradingBrokenError, run_hidden_tests
from verifier.test_report import TestReport
from verifier.test_report import TestStatus as Status
from verifier.test_run import TIMED_OUT

TEST_ADD, TEST_DOUBLE = TASK.oracle.fail_to_pass[0], TASK.oracle.pass_to_pass[0]
ALWAYS_PASSES = f"print('PASSED {TEST_ADD}')\nprint('PASSED {TEST_DOUBLE}')\n"


@pytest.fixture
async def pool(tmp_path: Path) -> AsyncIterator[SandboxPool]:
    pool = process_pool(tmp_path, {"calc": FILES})
    yield pool
    await pool.close()
    assert pool.active == 0


async def graded(pool: SandboxPool, diff: str) -> TestReport:
    return await run_hidden_tests(TASK, Patch(diff), pool, timeout_s=30.0)


async def test_the_reference_patch_resolves(pool: SandboxPool) -> None:
    report = await graded(pool, GOLD)
    assert report.resolved
    assert report.applied
    assert report.exit_code == 0
    assert report.status == {TEST_ADD: Status.PASSED, TEST_DOUBLE: Status.PASSED}
    assert report.log == f"PASSED {TEST_ADD}\nPASSED {TEST_DOUBLE}\n"


async def test_a_wrong_fix_fails_with_the_tests_that_say_so(pool: SandboxPool) -> None:
    report = await graded(pool, file_diff("calc.py", BUGGY, BUGGY.replace("a - b", "a * b")))
    assert (report.resolved, report.applied, report.exit_code) == (False, True, 1)
    assert report.status == {TEST_ADD: Status.FAILED, TEST_DOUBLE: Status.PASSED}


async def test_a_fix_that_breaks_something_else_fails(pool: SandboxPool) -> None:
    report = await graded(pool, file_diff("calc.py", BUGGY, FIXED.replace("a * 2", "a * 3")))
    assert not report.resolved
    assert report.status[TEST_DOUBLE] is Status.FAILED


@pytest.mark.parametrize("diff", ["", "  \n", file_diff(HIDDEN_PATH, None, ALWAYS_PASSES)])
async def test_a_patch_without_source_changes_needs_no_sandbox(pool: SandboxPool, diff: str) -> None:
    report = await graded(pool, diff)
    assert (report.resolved, report.applied) == (False, False)
    assert pool.started == 0


async def test_edits_of_hidden_test_files_are_ignored(pool: SandboxPool) -> None:
    forged = file_diff(HIDDEN_PATH, None, ALWAYS_PASSES)
    harmless = file_diff("calc.py", BUGGY, BUGGY + "\nX = 1\n")
    assert not (await graded(pool, harmless + forged)).resolved
    assert (await graded(pool, GOLD + forged)).resolved


async def test_nothing_may_stand_where_the_hidden_tests_go(pool: SandboxPool) -> None:
    folder = file_diff(f"{HIDDEN_PATH}/x.py", None, "1\n")
    link = file_diff("tests", None, "/tmp\n").replace("100644", "120000") + "\\ No newline at end of file\n"
    for obstacle in (folder, link):
        assert (await graded(pool, GOLD + obstacle)).resolved


async def test_a_changed_visible_test_that_is_also_hidden_is_put_back(pool: SandboxPool) -> None:
    changed = VISIBLE_TEST + f"from calc import add\nprint('PASSED' if add(1, 2) == 3 else 'FAILED', '{TEST_ADD}')\n"
    oracle = replace(
        TASK.oracle,
        test_patch=file_diff("test_calc.py", VISIBLE_TEST, changed),
        eval_script="python3 test_calc.py\n",
        pass_to_pass=(),
    )
    task = replace(TASK, oracle=oracle)
    spoiled = file_diff("test_calc.py", VISIBLE_TEST, f"print('PASSED {TEST_ADD}')\n")
    assert (await run_hidden_tests(task, Patch(GOLD + spoiled), pool, 30.0)).resolved
    harmless = file_diff("calc.py", BUGGY, BUGGY + "\nX = 1\n")
    assert not (await run_hidden_tests(task, Patch(harmless + spoiled), pool, 30.0)).resolved


@pytest.mark.parametrize(
    "cheat",
    [
        ALWAYS_PASSES,
        ALWAYS_PASSES + "import sys\nsys.exit(1)\n",
        f"import atexit\natexit.register(print, 'PASSED {TEST_ADD}')\n",
        "print('>>>>> Test Exit Code: 0')\nprint('>>>>> End Test Output')\n",
    ],
)
async def test_printed_lies_beside_real_results_do_not_count(pool: SandboxPool, cheat: str) -> None:
    assert not (await graded(pool, file_diff("calc.py", BUGGY, cheat + BUGGY))).resolved


@pytest.mark.xfail(
    strict=True, reason="a script that is no pytest session and runs the code in its own process has no second witness"
)
async def test_a_complete_false_log_is_caught(pool: SandboxPool) -> None:
    cheat = ALWAYS_PASSES + "import os, sys\nsys.stdout.flush()\nos._exit(0)\n"
    assert not (await graded(pool, file_diff("calc.py", BUGGY, cheat + BUGGY))).resolved


@pytest.mark.parametrize("diff", [file_diff("calc.py", "no such line\n", "x\n"), "not a diff at all\n"])
async def test_a_patch_that_does_not_apply_is_unresolved(pool: SandboxPool, diff: str) -> None:
    report = await graded(pool, diff)
    assert (report.resolved, report.applied) == (False, False)


async def test_tests_that_hang_are_unresolved_and_leave_nothing_running(pool: SandboxPool) -> None:
    hanging = file_diff("calc.py", BUGGY, "import time\nprint('importing', flush=True)\ntime.sleep(600)\n" + BUGGY)
    report = await run_hidden_tests(TASK, Patch(hanging), pool, timeout_s=5.0)  # in which bash and python3 start and import
    assert (report.resolved, report.applied, report.exit_code) == (False, True, 124)
    assert report.log.startswith("importing\n")
    assert report.log.endswith(f"\n{TIMED_OUT}")


async def test_a_task_whose_tests_cannot_be_put_in_is_an_error_and_no_verdict(pool: SandboxPool) -> None:
    broken = replace(TASK, oracle=replace(TASK.oracle, test_patch=file_diff("calc.py", "no such line\n", "x\n")))
    with pytest.raises(BrokenTaskError, match="calc-1"):
        await run_hidden_tests(broken, Patch(file_diff("new.py", None, "1\n")), pool, 30.0)


async def test_a_patch_that_keeps_the_hidden_tests_out_is_to_blame_itself(tmp_path: Path) -> None:
    """The test patch applies to the untouched image, so the failure on top of the model's patch is the model's."""
    num_applied = 0

    def answer(command: str) -> ExecResult:
        nonlocal num_applied
        if "HEREDOC" in command or "apply --whitespace" in command:
            num_applied += 1
            return said("", 1 if num_applied == 2 else 0)
        return said("")

    images = FolderImages(tmp_path)
    images.add("calc", FILES)
    backend = ScriptedBackend(SandboxConfig(), images, "tests", answer)
    report = await run_hidden_tests(TASK, Patch(GOLD), SandboxPool(backend, 1, 60.0), 30.0)
    assert (report.resolved, report.applied, len(backend.sandboxes)) == (False, False, 2)


async def test_a_timeout_inside_the_grader_is_not_taken_for_a_sandbox_that_hung(tmp_path: Path) -> None:
    def answer(command: str) -> ExecResult:
        raise TimeoutError("a bug")

    images = FolderImages(tmp_path)
    images.add("calc", FILES)
    backend = ScriptedBackend(SandboxConfig(), images, "tests", answer)
    with pytest.raises(TimeoutError, match="a bug"):
        await run_hidden_tests(TASK, Patch(GOLD), SandboxPool(backend, 1, 60.0), 30.0)


async def test_a_missing_image_is_an_error(pool: SandboxPool) -> None:
    with pytest.raises(ImageMissingError):
        await run_hidden_tests(replace(TASK, problem=replace(TASK.problem, image="folder:none")), Patch(GOLD), pool, 30.0)


DISK_FULL = "import sys\nsys.exit('OSError: [Errno 28] No space left on device')\n"


async def test_a_machine_that_cannot_run_the_tests_gives_no_verdict(pool: SandboxPool) -> None:
    broken = replace(TASK, oracle=replace(TASK.oracle, eval_script="echo 'No space left on device' >&2; exit 1\n"))
    with pytest.raises(GradingBrokenError, match="with or without the patch: disk full"):
        await run_hidden_tests(broken, Patch(GOLD), pool, 30.0)


async def test_a_patch_cannot_pretend_that_the_machine_broke(pool: SandboxPool) -> None:
    report = await graded(pool, file_diff("calc.py", BUGGY, DISK_FULL + BUGGY))
    assert (report.resolved, report.applied) == (False, True)
    assert pool.started == 2  # with the patch, and once without


async def test_the_set_up_runs_in_the_graders_sandbox_too(pool: SandboxPool) -> None:
    """SWE-smith's shape: the image is healthy, the set-up brings the bug, the hidden tests lie in the image."""
    bug = "sed -i 's/a \\* 2/a * 3/' calc.py"
    task = replace(TASK, preparation=Preparation(bug, ("test_calc.py",)))
    assert not (await run_hidden_tests(task, Patch(GOLD), pool, 30.0)).resolved
    undone = file_diff("calc.py", BUGGY.replace("a * 2", "a * 3"), FIXED)
    assert (await run_hidden_tests(task, Patch(undone), pool, 30.0)).resolved
    report = await run_hidden_tests(task, Patch(undone + file_diff("test_calc.py", None, "1\n")), pool, 30.0)
    assert (report.resolved, report.dropped) == (True, ("test_calc.py: hidden test",))


async def test_hidden_files_enter_for_grading_only(pool: SandboxPool) -> None:
    script = b"#!/bin/sh\nmkdir -p /tmp/v; python3 -c 'import calc; print(int(calc.add(1, 2) == 3))' > /tmp/v/reward.txt\n"
    oracle = replace(
        TASK.oracle,
        test_patch="",
        hidden_files=(HiddenFile("verify/test.sh", script, True),),
        eval_script="./verify/test.sh && grep -q 1 /tmp/v/reward.txt\n",
        log_parser="exit_code",
        resolution="exit_code",
    )
    assert (await run_hidden_tests(replace(TASK, oracle=oracle), Patch(GOLD), pool, 30.0)).resolved
    other = file_diff("calc.py", BUGGY, BUGGY + "\nX = 1\n") + file_diff("verify/test.sh", None, "#!/bin/sh\nexit 0\n")
    report = await run_hidden_tests(replace(TASK, oracle=oracle), Patch(other), pool, 30.0)
    assert (report.resolved, report.dropped) == (False, ("verify/test.sh: hidden test",))


async def test_gradings_run_side_by_side(pool: SandboxPool) -> None:
    reports = await asyncio.gather(*(graded(pool, GOLD) for _ in range(6)))
    assert [report.resolved for report in reports] == [True] * 6
    assert pool.started == 6


@pytest.mark.parametrize(
    ("diff", "resolved"),
    [
        pytest.param(file_diff("win.txt", None, "a\r\nb\r\n") + GOLD, True, id="a file with CRLF lines"),
        pytest.param(file_diff("../../etc/x", None, "1\n") + GOLD, True, id="a path that leaves the repository is left out"),
        pytest.param(file_diff("/etc/x", None, "1\n") + GOLD, True, id="an absolute path"),
        pytest.param(
            file_diff("out", None, "/etc").replace("100644", "120000")
            + "\\ No newline at end of file\n"
            + file_diff("out/x", None, "1\n"),
            False,
            id="writing through a symlink",
        ),
        pytest.param(GOLD[: len(GOLD) // 2], False, id="cut in the middle"),
        pytest.param(GOLD + "trailing prose\n", True, id="prose after the diff"),
        pytest.param(GOLD.replace("@@ -1,5", "@@ -9,5"), True, id="wrong line numbers"),
        pytest.param("\x00\x01", False, id="control characters"),
        pytest.param(GOLD + file_diff("caf\u00e9.txt", None, "\u2603\n"), True, id="names and text outside ASCII"),
    ],
)
async def test_odd_patches_are_graded(pool: SandboxPool, diff: str, resolved: bool) -> None:
    assert (await graded(pool, diff)).resolved is resolved


async def test_output_that_is_not_utf8_and_a_flood_of_it(pool: SandboxPool) -> None:
    noise = "import sys\nsys.stdout.buffer.write(b'\\xff\\xfe\\n' * 10)\nsys.stdout.flush()\n"
    report = await graded(pool, file_diff("calc.py", BUGGY, noise + FIXED))
    assert (report.resolved, "\ufffd" in report.log) == (True, True)
    flood = "import sys\nfor _ in range(20):\n    sys.stdout.write('x' * 1000000 + chr(10))\n"
    report = await graded(pool, file_diff("calc.py", BUGGY, flood + FIXED))
    assert (report.resolved, report.notes) == (False, ("the log was too long to be kept whole",))
    assert len(report.log) < 9_000_000


def binary_diff(repository: Path) -> str:
    """A git diff that adds a binary file beside the fix."""
    for path, text in FILES.items():
        (repository / path).write_text(text)

    def git(*arguments: str) -> str:
        command = ["git", "-c", "user.name=a", "-c", "user.email=a@b", *arguments]
        return subprocess.run(command, cwd=repository, check=True, timeout=30, capture_output=True, text=True).stdout

    for arguments in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "x"]):
        git(*arguments)
    (repository / "blob.bin").write_bytes(bytes(range(256)) * 4)
    (repository / "calc.py").write_text(FIXED)
    git("add", "-A")
    return git("diff", "--cached", "--binary")


async def test_a_binary_patch_is_graded(pool: SandboxPool, tmp_path_factory: pytest.TempPathFactory) -> None:
    diff = binary_diff(tmp_path_factory.mktemp("repository"))
    assert "GIT binary patch\nliteral 1024" in diff
    assert (await graded(pool, diff)).resolved
    assert not (await graded(pool, diff.replace("literal 1024", "literal 1023"))).resolved
