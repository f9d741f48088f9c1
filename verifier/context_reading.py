"""Reading a `DeployableContext`: the touched files and the visible tests, as an agent's sandbox has them after the patch.

It is read from the task's start state (set up, hidden paths not looked at), and it never depends on the oracle. The work tree
is not changed, so that a grader can read it before its own work: the files in question are copied to a folder below `.git`,
and the patch is applied there, in a repository of its own that git did not take the time to set up. There is nothing else in
that folder, so a hidden file can neither be read nor keep a patch from applying; symbolic links are not followed.
"""

import posixpath
import secrets
import shlex
from collections.abc import Awaitable, Callable, Iterable
from pathlib import PurePosixPath

from envpool.git_scrub import GIT, apply_patch
from envpool.patch import Patch
from envpool.pool.sandbox_pool import SandboxPool
from envpool.problem import Problem
from envpool.sandbox import Sandbox
from envpool.sandbox_errors import SandboxLostError
from verifier.deployable_context import DeployableContext
from verifier.patch_sections import patch_sections
from verifier.section_rules import never_graded, without_sections

Prepare = Callable[[Sandbox], Awaitable[None]]
"""Brings a fresh sandbox of the image to the task's start state. Raises SandboxError."""
MAX_FILE_BYTES = 65_536
MAX_FILES = 8
READ_TIMEOUT_S = 30.0
COPY_TIMEOUT_S = 60.0
MAX_LISTING_BYTES = 4_194_304

# Whether no part of a relative path is a symbolic link, in POSIX shell without other programs.
PLAIN = """plain() {
    part=$1
    while [ ! -L "$part" ]; do
        case $part in */*) part=${part%/*} ;; *) return 0 ;; esac
    done
    return 1
}"""
COPY = f"""(
cd -- WORKDIR || exit 90
{PLAIN}
mkdir -p SCRATCH || exit 91
for file in FILES; do
    case $file in */*) folder=${{file%/*}} ;; *) folder=. ;; esac
    plain "$folder" || continue
    if [ -L "$file" ] || [ -f "$file" ]; then
        [ -d SCRATCH/"$folder" ] || mkdir -p -- SCRATCH/"$folder" || exit 92
        cp -P -- "$file" SCRATCH/"$file" || exit 92
    elif [ -d "$file" ]; then
        mkdir -p -- SCRATCH/"$file" || exit 93
    fi
done
mkdir -p SCRATCH/.git/objects SCRATCH/.git/refs && echo 'ref: refs/heads/none' > SCRATCH/.git/HEAD || exit 94
)"""
LIST_PLAIN = f"""(
cd -- WORKDIR/SCRATCH || exit 90
{PLAIN}
for file in FILES; do
    plain "$file" && [ -f "$file" ] && printf '%s\\0' "$file"
done
exit 0
)"""


async def collect_context(
    problem: Problem, patch: Patch, pool: SandboxPool, timeout_s: float, prepare: Prepare, hidden_paths: tuple[str, ...] = ()
) -> DeployableContext | None:
    """`read_context` in a fresh sandbox brought to the start state by `prepare`. Raises SandboxError."""
    if shown_part(patch).is_empty:
        return None
    async with pool.lease(problem.image, problem.workdir) as sandbox:
        await prepare(sandbox)
        return await read_context(sandbox, problem, patch, hidden_paths, timeout_s)


async def read_context(
    sandbox: Sandbox, problem: Problem, patch: Patch, hidden_paths: tuple[str, ...] = (), timeout_s: float = COPY_TIMEOUT_S
) -> DeployableContext | None:
    """The context of a patch that is not applied yet, in a sandbox that is set up and that nobody has worked in.

    `hidden_paths` (absolute, or relative to the workdir) count as not there. At most `MAX_FILES` touched files and as many
    tests, those nearest to the touched files first. Deleted, binary and oversized files and links are left out. None for a
    patch that is empty or does not apply; `timeout_s` bounds applying it.
    """
    shown = shown_part(patch)
    if shown.is_empty:
        return None
    touched = touched_paths(shown)
    tests = await visible_tests(sandbox, touched, hidden_paths)
    scratch = f".git/context_{secrets.token_hex(8)}"
    await _copy(sandbox, _not_hidden((*touched, *tests), hidden_paths, sandbox.workdir), scratch)
    context = None
    if await apply_patch(sandbox, shown, timeout_s, f"{sandbox.workdir}/{scratch}"):
        files = touched[:MAX_FILES]
        plain = await _plain_files(sandbox, [*files, *tests], scratch)
        context = DeployableContext(
            problem_statement=problem.problem_statement,
            patch=shown.diff,
            files=await read_texts(sandbox, [path for path in files if path in plain], scratch),
            tests=await read_texts(sandbox, [path for path in tests if path in plain], scratch),
        )
    await sandbox.run(f"rm -rf -- {shlex.quote(f'{sandbox.workdir}/{scratch}')}", COPY_TIMEOUT_S)
    return context


def shown_part(patch: Patch) -> Patch:
    """What a scorer sees of a patch: all but junk, scratch files and paths outside the repository. It needs no oracle, and
    what is left out here is never graded."""
    return without_sections(patch, never_graded)


def touched_paths(patch: Patch) -> list[str]:
    """The paths of a patch in order, each once."""
    return list(dict.fromkeys(path for section in patch_sections(patch.diff) for path in section.paths))


async def visible_tests(sandbox: Sandbox, touched: list[str], hidden_paths: tuple[str, ...] = ()) -> list[str]:
    """Test files of the start state that the patch does not touch and that are not hidden: the `MAX_FILES` nearest to the
    touched files, nearest first. The sandbox is as for `read_context`."""
    # what git would commit now: tracked files, and others that are not ignored, as they become the agent's one commit
    listing = await sandbox.run(
        f"{GIT} -C {shlex.quote(sandbox.workdir)} ls-files -z -t --cached --others --deleted --exclude-standard 2>/dev/null",
        READ_TIMEOUT_S,
        max_output_bytes=MAX_LISTING_BYTES,
    )
    lines = [line.partition(" ") for line in listing.output.split("\0")] if listing.exit_code == 0 else []
    removed = {path for tag, _, path in lines if tag == "R"}
    tests = {path for _, _, path in lines if is_test_file(path)} - removed - set(touched)
    stems = {PurePosixPath(path).stem for path in touched}
    folders = {str(PurePosixPath(path).parent) for path in touched}

    def distance(path: str) -> tuple[bool, bool, str]:
        file = PurePosixPath(path)
        return (file.stem.removeprefix("test_").removesuffix("_test") not in stems, str(file.parent) not in folders, path)

    return sorted(_not_hidden(tests, hidden_paths, sandbox.workdir), key=distance)[:MAX_FILES]


def is_test_file(path: str) -> bool:
    """Whether pytest would collect the file by its name: `test_*.py` or `*_test.py`."""
    name = PurePosixPath(path).name
    return name.endswith(".py") and (name.startswith("test_") or name.endswith("_test.py"))


async def read_texts(sandbox: Sandbox, paths: list[str], folder: str = "") -> dict[str, str]:
    """The texts of files in a folder of the workdir, by path; what is no text of at most `MAX_FILE_BYTES` is left out."""
    texts: dict[str, str] = {}
    for path in paths:
        try:
            data = await sandbox.read_file(posixpath.join(folder, path), MAX_FILE_BYTES + 1)
            if len(data) <= MAX_FILE_BYTES:
                texts[path] = data.decode()
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError, PermissionError, ValueError):
            continue  # deleted, a folder, a link out of the sandbox, binary or too large: not shown
    return texts


def _not_hidden(paths: Iterable[str], hidden_paths: tuple[str, ...], workdir: str) -> list[str]:
    """The paths that are neither hidden nor below a hidden folder.

    >>> _not_hidden(["t/a.py", "b.py", "c.py"], ("/repo/t", "./c.py"), "/repo")
    ['b.py']
    """
    hidden = [posixpath.normpath(posixpath.join(workdir, path)) for path in hidden_paths]
    full = {path: posixpath.normpath(posixpath.join(workdir, path)) for path in paths}
    return [path for path, where in full.items() if not any(where == h or where.startswith(f"{h}/") for h in hidden)]


async def _copy(sandbox: Sandbox, paths: list[str], scratch: str) -> None:
    """Copy those of the files that are there into a new folder, which becomes a repository."""
    result = await sandbox.run(_filled(COPY, sandbox.workdir, paths, scratch), COPY_TIMEOUT_S)
    if result.exit_code != 0:
        raise SandboxLostError(f"files cannot be copied in {sandbox.workdir} ({result.exit_code}): {result.output[:200].strip()}")


async def _plain_files(sandbox: Sandbox, paths: list[str], scratch: str) -> frozenset[str]:
    """Those of the paths that are regular files and not reached through a link."""
    result = await sandbox.run(_filled(LIST_PLAIN, sandbox.workdir, paths, scratch), READ_TIMEOUT_S, MAX_LISTING_BYTES)
    return frozenset(result.output.split("\0"))


def _filled(script: str, workdir: str, paths: list[str], scratch: str) -> str:
    files = " ".join(map(shlex.quote, paths))
    return script.replace("WORKDIR", shlex.quote(workdir)).replace("SCRATCH", scratch).replace("FILES", files)
