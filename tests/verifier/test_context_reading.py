"""What a scorer may see of a patch: read from the state that agents start from, whatever the oracle knows."""

from collections.abc import AsyncIterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from configs.sandbox_config import SandboxConfig
from envpool.patch import Patch
from envpool.pool.sandbox_pool import SandboxPool
from envpool.pool.sandbox_preparation import prepare_for_agent, set_up
from envpool.preparation import NOTHING, Preparation
from envpool.sandbox import ExecResult
from envpool.sandbox_parts.image_cache import FolderImages
from envpool.sandboxes.scripted_sandbox import ScriptedBackend, said
from tests.verifier.small_repo import BUGGY, FILES, FIXED, GOLD, HIDDEN_PATH, TASK, VISIBLE_TEST, file_diff, process_pool
from verifier.context_reading import collect_context, read_context
from verifier.deployable_context import DeployableContext
from verifier.grade_cache import GradedPatch
from verifier.hidden_tests import DOES_NOT_APPLY, NOTHING_LEFT, TESTS_DO_NOT_FIT, grade_patch

HEALTHY = FILES | {"calc.py": FIXED, "test_calc_more.py": "SECRET\n", "secrets/test_calc.py": "SECRET\n"}
SMITH = Preparation("sed -i 's/a + b/a - b/' calc.py", ("test_calc_more.py", "/testbed/secrets"))
SMITH_TASK = replace(TASK, problem=replace(TASK.problem, image="folder:healthy"), preparation=SMITH)
"""SWE-smith's shape: the image is healthy, the set-up brings the bug, the hidden tests lie in the image."""


@pytest.fixture
async def pool(tmp_path: Path) -> AsyncIterator[SandboxPool]:
    pool = process_pool(tmp_path, {"calc": FILES, "healthy": HEALTHY})
    yield pool
    await pool.close()


async def collected(pool: SandboxPool, diff: str, preparation: Preparation = NOTHING) -> DeployableContext | None:
    task = TASK if preparation is NOTHING else SMITH_TASK
    prepare = partial(set_up, preparation=preparation, instance_id="calc-1")
    return await collect_context(task.problem, Patch(diff), pool, 30.0, prepare, preparation.hidden_paths)


async def graded(pool: SandboxPool, diff: str) -> GradedPatch:
    return await grade_patch(TASK, Patch(diff), pool, 30.0, with_context=True)


async def test_touched_files_and_visible_tests_are_read_as_they_are_after_the_patch(pool: SandboxPool) -> None:
    diff = GOLD + file_diff("notes.txt", None, "n\n") + file_diff("test_mine.py", None, "assert True\n")
    found = await graded(pool, diff)
    assert found.report.resolved
    files = {"calc.py": FIXED, "notes.txt": "n\n", "test_mine.py": "assert True\n"}
    expected = DeployableContext("add(1, 2) gives -1", diff, files, {"test_calc.py": VISIBLE_TEST})
    assert found.context == await collected(pool, diff) == expected


@pytest.mark.parametrize("own", ["", file_diff("test_calc_more.py", None, "mine\n")])
async def test_hidden_files_of_the_image_are_not_seen_and_the_set_up_is(pool: SandboxPool, own: str) -> None:
    """A file of the agent's own at a hidden path is seen; it applies although the grader's sandbox holds the hidden one."""
    undone = file_diff("calc.py", BUGGY, FIXED + "\nX = 1\n")
    found = await grade_patch(SMITH_TASK, Patch(undone + own), pool, 30.0, with_context=True)
    assert found.report.resolved
    files = {"calc.py": FIXED + "\nX = 1\n"} | ({"test_calc_more.py": "mine\n"} if own else {})
    expected = DeployableContext("add(1, 2) gives -1", undone + own, files, {"test_calc.py": VISIBLE_TEST})
    assert found.context == await collected(pool, undone + own, SMITH) == expected
    async with pool.lease("folder:healthy", "/testbed") as sandbox:
        await prepare_for_agent(sandbox, "folder:healthy", SMITH, "calc-1")
        assert await read_context(sandbox, SMITH_TASK.problem, Patch(undone + own)) == expected


async def test_what_does_not_apply_to_the_start_state_has_no_context(pool: SandboxPool) -> None:
    healthy = file_diff("calc.py", FIXED, FIXED.replace("a + b", "b + a"))  # fits the image, not the task
    assert await collected(pool, healthy, SMITH) is None
    found = await graded(pool, healthy)
    assert (found.report.notes, found.context) == ((DOES_NOT_APPLY,), None)


@pytest.mark.parametrize("path", [HIDDEN_PATH, "conftest.py", "tests/test_own.py"])
async def test_a_patch_of_which_nothing_is_graded_has_a_context(pool: SandboxPool, path: str) -> None:
    diff = file_diff(path, None, "1\n")
    found = await graded(pool, diff)
    assert (found.report.notes, found.report.resolved) == ((NOTHING_LEFT,), False)
    assert found.context == DeployableContext("add(1, 2) gives -1", diff, {path: "1\n"}, {"test_calc.py": VISIBLE_TEST})


async def test_a_patch_that_the_hidden_tests_do_not_fit_on_has_a_context(tmp_path: Path) -> None:
    num_applied = 0

    def answer(command: str) -> ExecResult:
        nonlocal num_applied
        num_applied += "apply --whitespace" in command
        return said("", 1 if "apply --whitespace" in command and num_applied == 3 else 0)

    images = FolderImages(tmp_path)
    images.add("calc", FILES)
    pool = SandboxPool(ScriptedBackend(SandboxConfig(), images, "tests", answer), 1, 60.0)
    found = await graded(pool, GOLD)
    assert (found.report.notes, num_applied) == ((TESTS_DO_NOT_FIT,), 4)  # for the context, the verdict, the tests; the check
    assert found.context is not None
    assert found.context.patch == GOLD


async def test_the_oracle_changes_no_context(pool: SandboxPool) -> None:
    diff = GOLD + file_diff("conftest.py", None, "1\n") + file_diff("tests/helper.py", None, "2\n")
    contexts = []
    for gold, hidden in ((GOLD, HIDDEN_PATH), (GOLD + file_diff("conftest.py", None, "z\n"), "tests/helper.py")):
        oracle = replace(TASK.oracle, gold_patch=gold, test_patch=TASK.oracle.test_patch.replace(HIDDEN_PATH, hidden))
        found = await grade_patch(replace(TASK, oracle=oracle), Patch(diff), pool, 30.0, with_context=True)
        contexts.append(found.context)
    assert contexts[0] == contexts[1]
    assert contexts[0] is not None
    assert list(contexts[0].files) == ["calc.py", "conftest.py", "tests/helper.py"]


async def test_junk_is_not_shown_and_does_not_keep_a_patch_from_applying(pool: SandboxPool) -> None:
    junk = file_diff("reproduce.py", None, "1\n") + file_diff("../x.py", None, "1\n") + file_diff("a.orig", None, "1\n")
    context = await collected(pool, junk + GOLD)
    assert context is not None
    assert (context.patch, list(context.files)) == (GOLD, ["calc.py"])
    assert await collected(pool, junk) is None
    assert (await graded(pool, junk)).context is None


async def test_links_are_not_followed(pool: SandboxPool) -> None:
    link = file_diff("look.txt", None, "/testbed/secrets/test_calc.py").replace("100644", "120000")
    context = await collected(pool, link + "\\ No newline at end of file\n" + file_diff("b.txt", None, "b\n"), SMITH)
    assert context is not None
    assert context.files == {"b.txt": "b\n"}


async def test_a_visible_test_that_links_to_a_hidden_one_is_not_read(pool: SandboxPool) -> None:
    script = SMITH.setup_script + "; ln -s secrets/test_calc.py test_a.py; ln -s secrets open"
    context = await collected(pool, file_diff("b.txt", None, "b\n"), replace(SMITH, setup_script=script))
    assert context is not None
    assert context.tests == {"test_calc.py": VISIBLE_TEST}


async def test_reading_leaves_the_sandbox_as_it_was(pool: SandboxPool) -> None:
    listing = "cd /testbed && git status --porcelain && find . -type f ! -path ./.git/index -exec sha256sum {} + | sort"
    async with pool.lease("folder:healthy", "/testbed") as sandbox:
        await set_up(sandbox, SMITH, "calc-1")
        before = (await sandbox.run(listing, 30.0)).output
        diff = GOLD + file_diff("new/deep/x.py", None, "1\n")
        assert await read_context(sandbox, SMITH_TASK.problem, Patch(diff), SMITH.hidden_paths) is not None
        assert (await sandbox.run(listing, 30.0)).output == before
        assert "secrets" in before


async def test_renames_deletions_and_odd_names(pool: SandboxPool) -> None:
    rename = (
        "diff --git a/test_calc.py b/test_other.py\nsimilarity index 100%\nrename from test_calc.py\nrename to test_other.py\n"
    )
    gone = "diff --git a/README.md b/README.md\ndeleted file mode 100644\n--- a/README.md\n+++ /dev/null\n@@ -1 +0,0 @@\n-calc\n"
    odd = file_diff("it's/-a b.txt", None, "odd\n")
    context = await collected(pool, rename + gone + odd)
    assert context is not None
    assert context.files == {"test_other.py": VISIBLE_TEST, "it's/-a b.txt": "odd\n"}
    assert context.tests == {}
