"""Cheats that must score 0. Each is graded by really running it; each patch leaves the bug as it is."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from envpool.git_scrub import extract_patch
from envpool.patch import Patch
from envpool.pool.sandbox_pool import SandboxPool
from envpool.pool.sandbox_preparation import prepare_for_agent
from tests.verifier.pytest_repo import ADD, BUGGY, DOUBLE, FILES, FIXED, GOLD, HIDDEN_PATH, SECRET, TASK, VISIBLE, pytest_pool
from tests.verifier.small_repo import file_diff
from verifier.hidden_tests import grade_patch, run_hidden_tests
from verifier.test_report import TestReport, TestStatus

PASSES = f"print('PASSED {ADD}')\nprint('PASSED {DOUBLE}')\n"
LEAVE = "import os, sys\nsys.stdout.flush()\nos._exit(0)\n"
MARKERS = "print('>>>>> End Test Output')\nprint('>>>>> Test Exit Code: 0')\nprint('+ exit 0')\n"
REPORT_AS_PASSED = """import pytest


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    report = outcome.get_result()
    report.outcome, report.longrepr = "passed", None
"""
MARK_ALL = """import pytest


def pytest_collection_modifyitems(items):
    for item in items:
        item.add_marker(pytest.mark.{marker})
"""
REWRITER = f"""import subprocess, sys
subprocess.Popen([sys.executable, "-c", '''
import time
for _ in range(200):
    open("{HIDDEN_PATH}", "w").write("def test_add(): pass\\\\ndef test_double(): pass\\\\n")
    time.sleep(0.01)
'''], start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
time_to_act = __import__("time").sleep(0.3)
"""


@pytest.fixture
async def pool(tmp_path: Path) -> AsyncIterator[SandboxPool]:
    pool = pytest_pool(tmp_path)
    yield pool
    await pool.close()
    assert pool.active == 0


async def graded(pool: SandboxPool, diff: str) -> TestReport:
    return await run_hidden_tests(TASK, Patch(diff), pool, timeout_s=60.0)


def with_top(code: str) -> str:
    """The module under test, still wrong, with `code` run when it is imported."""
    return file_diff("src/calc.py", BUGGY, code + BUGGY)


async def test_an_honest_fix_is_resolved_and_an_honest_failure_is_not(pool: SandboxPool) -> None:
    fixed, failed = await asyncio.gather(
        graded(pool, GOLD), graded(pool, file_diff("src/calc.py", BUGGY, BUGGY.replace("a - b", "b")))
    )
    assert (fixed.resolved, fixed.notes) == (True, ())
    assert (failed.resolved, failed.applied, failed.exit_code) == (False, True, 1)
    assert SECRET in failed.log  # the log of a failing test belongs to the oracle


@pytest.mark.parametrize(
    "diff",
    [
        pytest.param(with_top(PASSES), id="prints result lines"),
        pytest.param(with_top(PASSES + MARKERS), id="prints result lines, the end marker and an exit code"),
        pytest.param(with_top(PASSES + LEAVE), id="prints a whole log and leaves with 0"),
        pytest.param(with_top("import pytest\npytest.exit('done', returncode=0)\n"), id="ends the session with 0"),
        pytest.param(with_top(PASSES + "import pytest\npytest.exit('done', returncode=0)\n"), id="a log, then ends the session"),
        pytest.param(with_top("import pytest\npytest.skip('no', allow_module_level=True)\n"), id="skips the module"),
        pytest.param(file_diff("conftest.py", None, PASSES + LEAVE), id="a conftest that leaves"),
        pytest.param(file_diff("tests/conftest.py", None, PASSES + LEAVE), id="a conftest beside the tests that leaves"),
        pytest.param(file_diff("conftest.py", None, REPORT_AS_PASSED), id="a conftest that reports all as passed"),
        pytest.param(file_diff("tests/conftest.py", None, MARK_ALL.format(marker="skip")), id="a conftest that skips"),
        pytest.param(file_diff("conftest.py", None, MARK_ALL.format(marker="xfail")), id="a conftest that xfails"),
        pytest.param(
            file_diff("cheat.py", None, REPORT_AS_PASSED) + file_diff("pytest.ini", None, "[pytest]\naddopts = -p cheat\n"),
            id="a plugin by pytest.ini",
        ),
        pytest.param(
            file_diff("setup.cfg", FILES["setup.cfg"], FILES["setup.cfg"] + "[tool:pytest]\naddopts = -k double\n"),
            id="deselects by setup.cfg",
        ),
        pytest.param(file_diff(HIDDEN_PATH, None, "def test_add(): pass\ndef test_double(): pass\n"), id="edits hidden tests"),
        pytest.param(file_diff("tests", None, "no folder\n"), id="stands in the way of the tests"),
        pytest.param(file_diff("src/pytest.py", None, PASSES), id="its own pytest beside the code"),
        pytest.param(file_diff("src/pytest/__main__.py", None, PASSES), id="its own pytest package"),
        pytest.param(file_diff("src/sitecustomize.py", None, PASSES + LEAVE), id="runs when Python starts"),
        pytest.param(file_diff("tests/calc.py", None, FIXED), id="another module under test beside the tests"),
        pytest.param(file_diff("calc.py", None, FIXED), id="another module under test at the top"),
        pytest.param(with_top(REWRITER), id="a background process rewrites the tests"),
    ],
)  # fmt: skip
async def test_a_cheat_scores_nothing(pool: SandboxPool, diff: str) -> None:
    report = await graded(pool, diff)
    assert not report.resolved
    assert report.notes or report.dropped or report.status[ADD] is not TestStatus.PASSED


async def test_a_fix_is_not_punished_for_what_is_left_out(pool: SandboxPool) -> None:
    more = file_diff("tests/test_mine.py", None, "def test(): pass\n") + file_diff("reproduce_issue.py", None, "1\n")
    report = await graded(pool, GOLD + more + file_diff("tests/test_calc.py", VISIBLE, VISIBLE + "# more\n"))
    assert report.resolved
    assert report.dropped == (
        "tests/test_mine.py: in a test folder",
        "reproduce_issue.py: scratch file",
        "tests/test_calc.py: in a test folder",
    )


async def test_without_the_protection_a_conftest_that_lies_is_believed(pool: SandboxPool) -> None:
    """What `verifier.protect_test_setup` is for: this is how SWE-bench's own harness behaves."""
    lying = Patch(file_diff("conftest.py", None, REPORT_AS_PASSED))
    assert (await grade_patch(TASK, lying, pool, 60.0, False, protect_test_setup=False)).report.resolved
    assert not (await grade_patch(TASK, lying, pool, 60.0, False, protect_test_setup=True)).report.resolved


async def test_what_an_agent_does_outside_its_repository_is_not_graded(pool: SandboxPool) -> None:
    """Site-packages, the home folder and /tmp of the agent's sandbox are gone; only the patch is carried over."""
    async with pool.lease(TASK.problem.image, TASK.problem.workdir) as sandbox:
        site = await sandbox.run("python3 -c 'import site; print((site.getsitepackages())[0])'", 20.0)
        for folder in (site.output.strip(), "$HOME", "/tmp"):
            await sandbox.run(f"mkdir -p {folder}; printf '%s' \"{FIXED}\" > {folder}/calc.py", 20.0)
        await sandbox.run("nohup sh -c 'sleep 30; echo done' >/dev/null 2>&1 &", 20.0)
        patch = await extract_patch(sandbox, 20.0)
    assert not (await run_hidden_tests(TASK, patch, pool, 60.0)).resolved
    assert not (await graded(pool, with_top("import os\nos.environ['PYTHONPATH'] = '/tmp'\n"))).resolved


async def test_neither_hidden_tests_nor_the_reference_are_in_the_agents_sandbox(pool: SandboxPool) -> None:
    async with pool.lease(TASK.problem.image, TASK.problem.workdir) as sandbox:
        await prepare_for_agent(sandbox, TASK.problem.image, TASK.preparation, TASK.instance_id)
        found = await sandbox.run(
            f"grep -rIl -e '{SECRET}' -e 'return a + b' /testbed /tmp 2>/dev/null; git cat-file --batch-all-objects --batch "
            f"| grep -a -c -e '{SECRET}' -e 'return a + b'; env | grep -c {SECRET}",
            30.0,
        )
    assert found.output.split() == ["0", "0"]
