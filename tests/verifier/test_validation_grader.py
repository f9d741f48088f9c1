"""The grader as makers of tasks see it, on a small repository in real sandboxes."""

from dataclasses import replace
from pathlib import Path

from envpool.packages.package_validation import Verdict, nothing_changed
from tests.verifier.small_repo import FILES, GOLD, HIDDEN_PATH, TASK, file_diff, process_pool
from verifier.validation_grader import HiddenTestGrader

ADD, DOUBLE = f"{HIDDEN_PATH}::test_add", f"{HIDDEN_PATH}::test_double"


async def test_the_bug_fails_and_the_gold_patch_resolves(tmp_path: Path) -> None:
    pool = process_pool(tmp_path, {"calc": FILES})
    try:
        grade = HiddenTestGrader(pool)
        assert await grade(TASK, nothing_changed(0)) == Verdict({ADD: "failed", DOUBLE: "passed"}, False)
        assert await grade(TASK, GOLD) == Verdict({ADD: "passed", DOUBLE: "passed"}, True)
    finally:
        await pool.close()


async def test_a_task_whose_tests_cannot_be_put_in_resolves_nothing(tmp_path: Path) -> None:
    misfit = replace(TASK, oracle=replace(TASK.oracle, test_patch=file_diff("missing.py", "x = 1\n", "x = 2\n")))
    pool = process_pool(tmp_path, {"calc": FILES})
    try:
        assert await HiddenTestGrader(pool)(misfit, GOLD) == Verdict({}, False)
    finally:
        await pool.close()
