"""The start state: set-up, hidden files, and a repository without a past."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from configs.sandbox_config import SandboxConfig
from envpool.agent.history_reads import num_history_reads, reads_history
from envpool.git_scrub import extract_patch
from envpool.pool.sandbox_pool import SandboxPool
from envpool.pool.sandbox_preparation import prepare_for_agent, scrub_history
from envpool.preparation import Preparation
from envpool.sandbox import Sandbox
from envpool.sandbox_errors import SandboxStartError
from envpool.sandbox_parts.image_cache import FolderImages
from envpool.sandboxes.process_sandbox import ProcessBackend

# A repository with every place a fix can hide in: later commits, a branch, tags, a stash, a remote, notes, packs, dangling
# objects, an alternate, a submodule with a history of its own; and files that are tracked, ignored, both, or neither.
HISTORY = """cd /testbed
g() { git -c user.name=a -c user.email=a@b -c protocol.file.allow=always "$@" >/dev/null 2>&1 || { echo "failed: $*"; exit 1; }; }
printf '*.log\\nbuild/\\n' > .gitignore; echo tracked > kept.log; echo old > a.txt; ln -s a.txt link
printf '#!/bin/sh\\n' > run.sh; chmod +x run.sh
g add -A; g add -f kept.log; g commit -m first
git init -q /tmp/sub; (cd /tmp/sub; echo secret-sub > s.txt; g add -A; g commit -m s1
echo open > s.txt; g add -A; g commit -m s2)
g submodule add /tmp/sub sub; g commit -m submodule
base=$(git rev-parse HEAD)
echo secret-fix > a.txt; g commit -am fix; g tag v2; g tag -a -m secret-note v2.1; g branch later; g notes add -m secret-note
g reset --hard $base
echo secret-stash > a.txt; g stash
git clone -q --bare . /tmp/origin.git; g remote add origin /tmp/origin.git; g fetch origin
echo secret-dangling | git hash-object -w --stdin > /dev/null
g repack -ad; echo secret-reflog > a.txt; g commit -am x; g reset --hard $base
mkdir -p /tmp/alt/objects; (cd /tmp; git init -q alternate; cd alternate; echo secret-alternate > x; g add x; g commit -m x)
echo /tmp/alternate/.git/objects >> .git/objects/info/alternates
mkdir build; echo artefact > build/out.o; echo ignored > run.log; echo untracked > left.txt
"""
ALL_OBJECTS = "cd /testbed && git cat-file --batch-all-objects --batch 2>/dev/null | grep -a -c secret"


@pytest.fixture
async def sandbox(tmp_path: Path) -> AsyncIterator[Sandbox]:
    images = FolderImages(tmp_path)
    images.add("repo", {"README.md": "repo\n"})
    pool = SandboxPool(ProcessBackend(SandboxConfig(), images, "preparation"), 1, 60.0)
    async with pool.lease("folder:repo", "/testbed") as leased:
        yield leased
    await pool.close()


async def out(sandbox: Sandbox, command: str) -> str:
    return (await sandbox.run(f"cd /testbed\n{command}", 30.0)).output.strip()


async def test_no_history_is_left_and_the_work_tree_is_untouched(sandbox: Sandbox) -> None:
    assert (await sandbox.run(HISTORY, 60.0)).output.strip() == ""
    assert int(await out(sandbox, ALL_OBJECTS)) > 3
    listing = "find . -path ./.git -prune -o -path ./sub/.git -prune -o -type f -exec sha256sum {} + -o -type l -print | sort"
    before = await out(sandbox, listing)
    await scrub_history(sandbox, "x")
    assert await out(sandbox, ALL_OBJECTS) == "0"
    assert await out(sandbox, listing) == before
    assert (
        await out(sandbox, "git rev-list --all --count; git reflog | wc -l; git tag; git remote; git stash list; git notes")
        == "1\n0"
    )
    assert (
        await out(sandbox, "git status --porcelain; git fsck --lost-found 2>&1; find . -name '.scrubbed-*' -o -name '.tracked-*'")
        == ""
    )
    assert (
        await out(sandbox, "find .git -name alternates -o -name '*.pack' -o -name ORIG_HEAD -o -name FETCH_HEAD -o -name modules")
        == ""
    )
    assert (
        await out(sandbox, "git ls-files | sort")
        == ".gitignore\n.gitmodules\nREADME.md\na.txt\nkept.log\nleft.txt\nlink\nrun.sh\nsub/s.txt"
    )
    assert await out(sandbox, "git ls-files -s run.sh link | cut -c1-6") == "120000\n100755"
    assert await out(sandbox, "git log --format='%an %ad %s' --date=unix") == "developer 1704067200 Initial commit"


async def test_patches_are_taken_against_the_new_commit(sandbox: Sandbox) -> None:
    await sandbox.run(HISTORY, 60.0)
    await scrub_history(sandbox, "x")
    await sandbox.run("cd /testbed; echo new >> a.txt; echo more > run.log; echo x > sub/s.txt; git commit -qam own", 30.0)
    assert (await extract_patch(sandbox, 30.0)).files == ("a.txt", "sub/s.txt")


async def test_a_workdir_without_a_repository_is_left_alone(sandbox: Sandbox) -> None:
    await sandbox.run("rm -rf /testbed/.git", 30.0)
    await scrub_history(sandbox, "x")
    assert await out(sandbox, "ls -A") == "README.md"


async def test_the_set_up_runs_and_hidden_paths_go(sandbox: Sandbox) -> None:
    preparation = Preparation(
        "mkdir r2e_tests; echo t > r2e_tests/t.py; echo bug >> README.md; echo y > /tmp/run_tests.sh",
        ("r2e_tests", "/tmp/run_tests.sh"),
    )
    await prepare_for_agent(sandbox, "folder:repo", preparation, "x")
    assert (
        await out(sandbox, "ls; cat README.md; ls /tmp/run_tests.sh 2>&1 | wc -l; git status --porcelain")
        == "README.md\nrepo\nbug\n1"
    )
    assert (await extract_patch(sandbox, 30.0)).is_empty


async def test_a_set_up_that_fails_is_an_error(sandbox: Sandbox) -> None:
    with pytest.raises(SandboxStartError, match=r"x: its set-up ended with 3: boom"):
        await prepare_for_agent(sandbox, "folder:repo", Preparation("echo boom; exit 3"), "x")


@pytest.mark.parametrize(
    "command",
    [
        "git log", "git  log -p", "cd x && git -C . log --all", "git show HEAD~1:a.py", "git --no-pager blame a.py", "git reflog",
        "git -c core.pager=cat whatchanged", "cat .git/packed-refs", "git cat-file -p abc", "git fsck --lost-found",
        "git checkout HEAD~2", "git stash list", "git diff HEAD~1", "pip download calc==2", "git fetch origin",
    ],
)  # fmt: skip
def test_commands_that_look_for_the_past(command: str) -> None:
    assert reads_history(command)


@pytest.mark.parametrize(
    "command", ["git diff", "git status", "git add -A", "git stash", "git checkout a.py", "ls .github", "legit logger"]
)
def test_commands_that_do_not(command: str) -> None:
    assert not reads_history(command)
    assert num_history_reads([command, "git log"]) == 1
