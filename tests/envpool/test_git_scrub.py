from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from configs.sandbox_config import SandboxConfig
from envpool.git_scrub import apply_patch, extract_patch
from envpool.patch import Patch
from envpool.sandbox import Sandbox
from envpool.sandbox_errors import SandboxLostError
from envpool.sandbox_parts.image_cache import FolderImages
from envpool.sandboxes.process_sandbox import ProcessBackend

Start = Callable[[], Awaitable[Sandbox]]
EDIT = """\
diff --git a/calc.py b/calc.py
index 68ed4db..4693ad3 100644
--- a/calc.py
+++ b/calc.py
@@ -1,2 +1,2 @@
 def add(a, b):
-    return a - b
+    return a + b
"""


@pytest.fixture
async def start(images: FolderImages, calc_image: str) -> AsyncIterator[Start]:
    backend = ProcessBackend(SandboxConfig(), images, "test-git-scrub")

    async def fresh() -> Sandbox:
        return await backend.start(calc_image, "/testbed")

    try:
        yield fresh
    finally:
        await backend.close()


async def test_edit_is_exactly_this_patch(start: Start) -> None:
    sandbox = await start()
    assert await extract_patch(sandbox, 30) == Patch("")
    await sandbox.run("sed -i 's/a - b/a + b/' calc.py; cd /tmp", 30)
    lines = [line for line in (await extract_patch(sandbox, 30)).diff.splitlines() if not line.startswith("index ")]
    assert lines == [line for line in EDIT.splitlines() if not line.startswith("index ")]
    assert (await sandbox.run("cd /testbed; git status --short; ls -A /tmp", 30)).output.split("\n")[0] == " M calc.py"


CHANGES = {
    "new, deleted and renamed files": "mkdir a; printf 'x' > a/new; rm pkg/data.txt; git mv calc.py moved.py",
    "committed": "echo >> calc.py; git add calc.py; git commit -qm mine; echo >> calc.py",
    "staged and a lock left behind": "echo >> calc.py; git add calc.py; touch .git/index.lock",
    "no index": "echo >> calc.py; rm .git/index",
    "binary": "printf '\\000\\001\\377' > blob.bin",
    "not UTF-8": "printf 'caf\\351\\n' > latin.txt; printf 'caf\\351\\n' >> calc.py",
    "mode and link": "chmod +x calc.py; ln -s calc.py link",
    "no newline at the end, odd names": "printf 'no newline' > 'with space.txt'; echo x > 'naïve.txt'",
    "hostile configuration": (
        "git config diff.external /bin/false; git config diff.noprefix true; git config core.fsmonitor /bin/false; "
        "git config color.ui always; echo '*.py filter=none diff=none' > .gitattributes; echo >> calc.py"
    ),
}


@pytest.mark.parametrize("change", CHANGES)
async def test_round_trip(start: Start, change: str) -> None:
    listing = "find . -path ./.git -prune -o -not -type d -exec ls -ld {} + | awk '{print $1, $5, $NF}'; cat -v ./*.* | cksum"
    changed, fresh = await start(), await start()
    assert (await changed.run(CHANGES[change], 30)).exit_code == 0
    patch = await extract_patch(changed, 30)
    assert not patch.is_empty
    assert await apply_patch(fresh, patch, 30)
    assert (await fresh.run(listing, 30)).output == (await changed.run(f"cd /testbed; {listing}", 30)).output
    assert (await extract_patch(fresh, 30)).files == patch.files


async def test_caches_are_left_out(start: Start) -> None:
    sandbox = await start()
    await sandbox.run(
        "mkdir -p pkg/__pycache__ .pytest_cache/v; touch pkg/__pycache__/a.pyc x.pyc pkg/y.pyc .pytest_cache/v/z", 30
    )
    assert await extract_patch(sandbox, 30) == Patch("")
    await sandbox.run("echo 1 > real.py", 30)
    assert (await extract_patch(sandbox, 30)).files == ("real.py",)


async def test_broken_repository_is_an_empty_patch(start: Start) -> None:
    sandbox = await start()
    await sandbox.run("echo >> calc.py; rm -rf .git", 30)
    assert await extract_patch(sandbox, 30) == Patch("")


async def test_patch_that_does_not_apply_changes_nothing(start: Start) -> None:
    sandbox = await start()
    assert await apply_patch(sandbox, Patch(""), 30)
    for diff in (
        "not a diff\n",
        EDIT.replace("a - b", "a * b").replace("def add", "def sub"),
        EDIT.replace("calc.py", "absent.py"),
    ):
        assert not await apply_patch(sandbox, Patch(diff), 30)
        assert (await sandbox.run("git status --porcelain; cat calc.py", 30)).output == "def add(a, b):\n    return a - b\n"


async def test_three_way_and_conflict(start: Start) -> None:
    sandbox, other = await start(), await start()
    await other.run("sed -i 's/a - b/a + b/' calc.py", 30)
    patch = await extract_patch(other, 30)
    await sandbox.run("sed -i '1i import math' calc.py; git commit -qam moved; sed -i 's/one/ONE/' pkg/data.txt", 30)
    assert await apply_patch(sandbox, patch, 30)
    assert (await sandbox.run("cat calc.py", 30)).output == "import math\ndef add(a, b):\n    return a + b\n"
    conflicting = await start()
    await conflicting.run("sed -i 's/a - b/a * b/' calc.py; git commit -qam other; sed -i 's/one/ONE/' pkg/data.txt", 30)
    assert not await apply_patch(conflicting, patch, 30)
    assert (await conflicting.run("cat calc.py; git status --porcelain", 30)).output.endswith("return a * b\n M pkg/data.txt\n")


async def test_model_diff_without_index_line_or_last_newline(start: Start) -> None:
    sandbox = await start()
    diff = "\n".join(line for line in EDIT.splitlines() if not line.startswith(("index", "diff")))
    assert await apply_patch(sandbox, Patch(diff), 30)
    assert (await sandbox.run("cat calc.py", 30)).output == "def add(a, b):\n    return a + b\n"


async def test_heredoc_text_in_a_patch_is_not_executed(start: Start) -> None:
    sandbox = await start()
    await sandbox.run("printf '%s\\n' 'EOF' '$(touch owned)' '`touch owned`' \"quote '\" > tricky.sh", 30)
    patch, fresh = await extract_patch(sandbox, 30), await start()
    assert await apply_patch(fresh, patch, 30)
    assert (await fresh.run("cat tricky.sh; ls owned", 30)).output.startswith("EOF\n$(touch owned)\n`touch owned`\nquote '\n")
    assert (await fresh.run("ls owned", 30)).exit_code != 0


async def test_slow_git_is_a_lost_sandbox(start: Start) -> None:
    sandbox = await start()
    with pytest.raises(SandboxLostError, match=r"longer than 0\.001 s"):
        await extract_patch(sandbox, 0.001)


async def test_shell_state_of_the_agent_has_no_effect(start: Start) -> None:
    sandbox = await start()
    await sandbox.run(
        "git() { echo no; }; export GIT_DIR=/nonexistent GIT_INDEX_FILE=/x; cd; echo 1 > /testbed/a.py; PATH=/none", 30
    )
    assert (await extract_patch(sandbox, 30)).files == ("a.py",)
