"""Reading a `DeployableContext` from a sandbox: the touched files and the visible tests, as they are after the patch."""

import shlex
from pathlib import PurePosixPath

from envpool.git_scrub import GIT, apply_patch
from envpool.patch import Patch
from envpool.pool.sandbox_pool import SandboxPool
from envpool.problem import Problem
from envpool.sandbox import Sandbox
from verifier.deployable_context import DeployableContext
from verifier.patch_sections import patch_sections

MAX_FILE_BYTES = 65_536
MAX_FILES = 8
READ_TIMEOUT_S = 30.0


async def collect_context(problem: Problem, patch: Patch, pool: SandboxPool, timeout_s: float) -> DeployableContext:
    """The context of a patch, read from a fresh sandbox with the patch applied; a patch that does not apply (or is empty)
    touches no files. Raises SandboxError."""
    async with pool.lease(problem.image, problem.workdir) as sandbox:
        if not patch.is_empty:
            await apply_patch(sandbox, patch, timeout_s)
        return await read_context(sandbox, problem, patch)


async def read_context(sandbox: Sandbox, problem: Problem, patch: Patch) -> DeployableContext:
    """Touched files and visible tests of a sandbox that the patch is applied in and no hidden test has entered yet.

    At most `MAX_FILES` of each; tests nearest to the touched files first. Deleted, binary and oversized files are left out.
    """
    touched = [path for section in patch_sections(patch.diff) for path in section.paths]
    touched = list(dict.fromkeys(touched))
    tests = await _visible_tests(sandbox, touched)
    return DeployableContext(
        problem_statement=problem.problem_statement,
        patch=patch.diff,
        files=await _read_texts(sandbox, touched[:MAX_FILES]),
        tests=await _read_texts(sandbox, [path for path in tests if path not in touched][:MAX_FILES]),
    )


async def _visible_tests(sandbox: Sandbox, touched: list[str]) -> list[str]:
    """Test files of the base commit (never those the patch adds), nearest to the touched files first."""
    workdir = shlex.quote(sandbox.workdir)
    listing = await sandbox.run(f"{GIT} -C {workdir} ls-tree -r -z --name-only HEAD", READ_TIMEOUT_S, max_output_bytes=4_194_304)
    paths = [path for path in listing.output.split("\0") if is_test_file(path)] if listing.exit_code == 0 else []
    stems = {PurePosixPath(path).stem for path in touched}
    folders = {str(PurePosixPath(path).parent) for path in touched}

    def distance(path: str) -> tuple[bool, bool, str]:
        file = PurePosixPath(path)
        return (file.stem.removeprefix("test_").removesuffix("_test") not in stems, str(file.parent) not in folders, path)

    return sorted(paths, key=distance)


def is_test_file(path: str) -> bool:
    """Whether pytest would collect the file by its name: `test_*.py` or `*_test.py`."""
    name = PurePosixPath(path).name
    return name.endswith(".py") and (name.startswith("test_") or name.endswith("_test.py"))


async def _read_texts(sandbox: Sandbox, paths: list[str]) -> dict[str, str]:
    texts: dict[str, str] = {}
    for path in paths:
        try:
            data = await sandbox.read_file(path, MAX_FILE_BYTES + 1)
            if len(data) <= MAX_FILE_BYTES:
                texts[path] = data.decode()
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError, PermissionError, ValueError):
            continue  # deleted, a folder, a link out of the sandbox, binary or too large: not shown
    return texts
