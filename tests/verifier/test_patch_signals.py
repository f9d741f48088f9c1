"""Signals without the oracle, from code that really runs."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from envpool.pool.sandbox_pool import SandboxPool
from tests.verifier.small_repo import BUGGY, FILES, GOLD, TASK, file_diff, process_pool
from verifier.patch_signals import PatchSignals, command_for_test, patch_signals, reproductions_in

REPRODUCTION = file_diff("reproduce_add.py", None, "from calc import add\n\nassert add(1, 2) == 3\n")
BLIND = file_diff("test_nothing.py", None, "print('always fine')\n")


@pytest.fixture
async def pool(tmp_path: Path) -> AsyncIterator[SandboxPool]:
    pool = process_pool(tmp_path, {"calc": FILES}, num_sandboxes=2)
    yield pool
    await pool.close()


async def test_every_patch_is_tried_with_the_existing_tests_and_everyones_reproductions(pool: SandboxPool) -> None:
    wrong = file_diff("calc.py", BUGGY, BUGGY.replace("a - b", "a * b"))
    breaking = file_diff("calc.py", BUGGY, BUGGY.replace("a * 2", "a * 3"))
    signals = await patch_signals(TASK.problem, (GOLD + REPRODUCTION, wrong + BLIND, breaking, "", "no diff"), pool, 30.0)
    assert signals == [
        PatchSignals(existing_tests=1.0, reproductions=1.0),
        PatchSignals(existing_tests=1.0, reproductions=0.0),  # its own test passes on the base too and says nothing
        PatchSignals(existing_tests=0.0, reproductions=0.0),
        PatchSignals(),
        PatchSignals(),
    ]


async def test_without_new_tests_there_is_no_second_signal(pool: SandboxPool) -> None:
    assert await patch_signals(TASK.problem, (GOLD,), pool, 30.0) == [PatchSignals(existing_tests=1.0)]


def test_new_tests_and_reproductions_are_found_by_name_and_kept_once() -> None:
    edited = file_diff("test_calc.py", "old\n", "new\n")
    other = file_diff("reproduce_add.py", None, "print(2)\n")
    assert reproductions_in((REPRODUCTION + edited, other, GOLD)) == {"reproduce_add.py": REPRODUCTION}


def test_how_a_test_file_is_run() -> None:
    assert command_for_test("t a.py", "class TestA:\n    pass\n") == "python3 -m pytest -q -x 't a.py'"
    assert command_for_test("t.py", "assert 1\n") == "python3 t.py"
