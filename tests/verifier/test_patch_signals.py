"""Signals without the oracle, from code that really runs."""

from collections.abc import AsyncIterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from envpool.patch import Patch
from envpool.pool.sandbox_pool import SandboxPool
from envpool.pool.sandbox_preparation import prepare_for_agent
from envpool.preparation import NOTHING, Preparation
from tests.verifier.small_repo import BUGGY, FILES, FIXED, GOLD, TASK, file_diff, process_pool
from verifier.patch_signals import PatchSignals, command_for_test, patch_signals, reproductions_in, tried_part

REPRODUCTION = file_diff("reproduce_add.py", None, "from calc import add\n\nassert add(1, 2) == 3\n")
BLIND = file_diff("test_nothing.py", None, "print('always fine')\n")

HEALTHY = FILES | {"calc.py": FIXED, "test_hidden.py": "raise SystemExit(1)\n"}
SUITE = FILES | {"test_calc.py": "from calc import double\n\n\ndef test_double():\n    assert double(2) == 4\n"}


@pytest.fixture
async def pool(tmp_path: Path) -> AsyncIterator[SandboxPool]:
    pool = process_pool(tmp_path, {"calc": FILES, "healthy": HEALTHY, "suite": SUITE}, num_sandboxes=2)
    yield pool
    await pool.close()


async def tried(pool: SandboxPool, *diffs: str, image: str = "folder:calc", start: Preparation = NOTHING) -> list[PatchSignals]:
    problem = replace(TASK.problem, image=image)
    prepare = partial(prepare_for_agent, image=image, preparation=start, instance_id="calc-1")
    return await patch_signals(problem, diffs, pool, 30.0, prepare)


async def test_every_patch_is_tried_with_the_existing_tests_and_everyones_reproductions(pool: SandboxPool) -> None:
    wrong = file_diff("calc.py", BUGGY, BUGGY.replace("a - b", "a * b"))
    breaking = file_diff("calc.py", BUGGY, BUGGY.replace("a * 2", "a * 3"))
    signals = await tried(pool, GOLD + REPRODUCTION, wrong + BLIND, breaking, "", "no diff")
    assert signals == [
        PatchSignals(existing_tests=1.0, reproductions=1.0),
        PatchSignals(existing_tests=1.0, reproductions=0.0),  # its own test passes on the base too and says nothing
        PatchSignals(existing_tests=0.0, reproductions=0.0),
        PatchSignals(),
        PatchSignals(),
    ]


async def test_without_new_tests_there_is_no_second_signal(pool: SandboxPool) -> None:
    assert await tried(pool, GOLD) == [PatchSignals(existing_tests=1.0)]


async def test_patches_are_tried_in_the_state_that_agents_start_from(pool: SandboxPool) -> None:
    """SWE-smith's shape: a healthy image, a set-up that brings the bug, and hidden tests that lie in the image."""
    smith = Preparation("sed -i 's/a + b/a - b/' calc.py", ("test_hidden.py",))
    signals = await tried(pool, GOLD + REPRODUCTION, file_diff("a.txt", None, "1\n"), image="folder:healthy", start=smith)
    assert signals == [PatchSignals(existing_tests=1.0, reproductions=1.0), PatchSignals(existing_tests=1.0, reproductions=0.0)]


@pytest.mark.parametrize("forged", ["conftest.py", "pytest.py", "sitecustomize.py", "tests/conftest.py", "test_deep/conftest.py"])
async def test_a_patch_cannot_bring_its_own_set_up_of_the_tests(pool: SandboxPool, forged: str) -> None:
    cheat = file_diff(forged, None, "import os\nos._exit(0)\n")
    breaking = file_diff("calc.py", BUGGY, BUGGY.replace("a * 2", "a * 3"))
    assert tried_part(cheat + breaking) == Patch(breaking)
    assert await tried(pool, cheat + breaking, cheat, image="folder:suite") == [PatchSignals(existing_tests=0.0), PatchSignals()]


def test_new_tests_and_reproductions_are_found_by_name_and_kept_once() -> None:
    edited = file_diff("test_calc.py", "old\n", "new\n")
    other = file_diff("reproduce_add.py", None, "print(2)\n")
    assert reproductions_in((REPRODUCTION + edited, other, GOLD)) == {"reproduce_add.py": REPRODUCTION}


def test_how_a_test_file_is_run() -> None:
    assert command_for_test("t a.py", "class TestA:\n    pass\n") == "python3 -m pytest -q -x 't a.py'"
    assert command_for_test("t.py", "assert 1\n") == "python3 t.py"
