"""A copy of a sandbox's source files on this machine, brought up to date before every use.

One way for every backend: a `find` in the sandbox lists the files with size, times and inode; what differs from the last list is
fetched (a few files one by one, more of them as one compressed archive). So every edit is seen, whoever made it: the editor
tool, a shell command, a background process.
"""

import asyncio
import base64
import binascii
import io
import re
import shlex
import tarfile
import time
import zlib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from configs.lsp_config import LspConfig
from envpool.lsp.lsp_errors import MirrorError
from envpool.lsp.mirror_folder import MirrorFolder, is_plain
from envpool.sandbox import Sandbox
from envpool.sandbox_errors import SandboxError

SKIPPED_FOLDERS = (".git", ".hg", ".svn", "__pycache__", ".tox", ".nox", ".mypy_cache", ".pytest_cache", ".ruff_cache", ".eggs")
MODULE_FILES = ("*.d.ts", "*.d.mts", "*.d.cts", "package.json")
"""All that is taken of node_modules: its types."""
MAX_LIST_BYTES = 32 << 20
MAX_ARCHIVE_BYTES = 60 << 20  # a shell gives up on a command that prints more
FEW_FILES = 8
MANY_FILES = 400
RACY_S = 0.05
"""A file that changed so shortly before it was listed may change again within the clock's same tick."""
# A shell and an environment of its own: functions and a PATH that the agent set have no effect.
CLEAN_SHELL = 'command -p env -i PATH="/usr/local/bin:/usr/bin:/bin:$PATH" LANG=C.UTF-8 sh -c '


@dataclass(frozen=True)
class Changes:
    """What a sync found, paths relative to the workdir. `edited` files existed before."""

    created: tuple[str, ...] = ()
    edited: tuple[str, ...] = ()
    deleted: tuple[str, ...] = ()

    @property
    def present(self) -> tuple[str, ...]:
        return self.created + self.edited

    def __bool__(self) -> bool:
        return bool(self.created or self.edited or self.deleted)


@dataclass(frozen=True)
class Listed:
    """A file (`f`) or symlink (`l`) as the sandbox lists it; `stamp` changes whenever its contents may have."""

    kind: str
    size: int
    stamp: str
    target: str
    changed_s: float


def list_command(workdir: str, patterns: tuple[str, ...]) -> str:
    """Prints the sandbox's clock, then for every file and symlink: fields, NUL, target of a symlink, NUL."""
    skipped = " -o ".join(f"-name {shlex.quote(name)}" for name in SKIPPED_FOLDERS)
    wanted = " -o ".join(["-type l", *(f"-iname {shlex.quote(pattern)}" for pattern in patterns)])
    modules = " ".join(f"! -name {shlex.quote(name)}" for name in MODULE_FILES)
    script = (
        f"cd -- {shlex.quote(workdir)} && date +%s.%N && find . -type d \\( {skipped} \\) -prune -o "
        f"-path '*/node_modules/*' {modules} -o \\( -type f -o -type l \\) \\( {wanted} \\) "
        f"-printf '%y %s %T@ %C@ %i %P\\0%l\\0' 2>/dev/null"
    )
    return CLEAN_SHELL + shlex.quote(script)


def parse_listing(output: str) -> tuple[float, dict[str, Listed]]:
    r"""The sandbox's clock and its files by path. ValueError for anything else. Names that are not UTF-8 are left out.

    >>> parse_listing("9.5\nf 12 1.0 9.0 77 a b.py\0\0l 1 1.0 2.0 78 c\0../d\0")[1]["a b.py"]
    Listed(kind='f', size=12, stamp='12 1.0 9.0 77', target='', changed_s=9.0)
    """
    clock, newline, rest = output.partition("\n")
    if not newline:
        raise ValueError("no list of files")
    files = {}
    fields = rest.split("\0")
    for entry, target in zip(fields[0::2], fields[1::2], strict=False):
        kind, size, modified, changed, inode, path = entry.split(" ", 5)
        if is_plain(path) and "\ufffd" not in path + target:
            files[path] = Listed(kind, int(size), f"{size} {modified} {changed} {inode}", target, float(changed))
    return float(clock), files


class SandboxMirror:
    """`folder` holds the copy. `files` are the regular files in it; `left_out` says why others are not.

    `with_links` False leaves symlinks out: a reader that is not isolated would follow them to this machine's own files.
    """

    def __init__(
        self, sandbox: Sandbox, root: Path, patterns: tuple[str, ...], config: LspConfig, with_links: bool = True
    ) -> None:
        self._sandbox, self._patterns, self._config, self._with_links = sandbox, patterns, config, with_links
        self.folder = MirrorFolder(root, sandbox.workdir)
        self._known: dict[str, Listed] = {}
        self.left_out: dict[str, str] = {}

    @property
    def files(self) -> list[str]:
        return sorted(path for path, listed in self._known.items() if listed.kind == "f")

    def has(self, path: str) -> bool:
        return path in self._known

    async def sync(self, timeout_s: float) -> Changes:
        """Bring the copy up to date; what changed since the last sync. MirrorError when the sandbox's files cannot be listed
        or fetched, SandboxError when the sandbox broke."""
        deadline = time.monotonic() + timeout_s
        result = await self._sandbox.run(list_command(self._sandbox.workdir, self._patterns), timeout_s, MAX_LIST_BYTES)
        if result.timed_out or result.truncated:
            raise MirrorError(f"{self._sandbox.workdir} has too many files to be listed")
        try:
            clock, found = parse_listing(result.output)
        except ValueError as error:
            tail = " ".join(result.output[-200:].split())
            raise MirrorError(f"the files of {self._sandbox.workdir} cannot be listed (GNU find is needed): {tail}") from error
        wanted = self._choose(found)
        gone = [path for path, known in self._known.items() if path not in wanted or wanted[path].kind != known.kind]
        stale = [path for path, listed in wanted.items() if path in gone or self._known.get(path) != listed]
        contents = await self._fetch([path for path in stale if wanted[path].kind == "f"], deadline)
        return await asyncio.to_thread(self._apply, wanted, gone, stale, contents, clock)

    def _choose(self, found: Mapping[str, Listed]) -> dict[str, Listed]:
        """Within the limits; the files nearest to the root first."""
        self.left_out = {}
        wanted: dict[str, Listed] = {}
        num_bytes = 0
        for path in sorted(found, key=lambda path: (path.count("/"), path)):
            listed = found[path]
            if listed.kind == "l":
                if self._with_links:
                    wanted[path] = listed
            elif listed.size > self._config.max_file_kib * 1024:
                self.left_out[path] = f"{listed.size >> 10} KiB, over lsp.max_file_kib={self._config.max_file_kib}"
            elif len(wanted) >= self._config.max_files:
                self.left_out[path] = f"more than lsp.max_files={self._config.max_files} files"
            elif num_bytes + listed.size > self._config.max_mirror_mib << 20:
                self.left_out[path] = f"all files together are over lsp.max_mirror_mib={self._config.max_mirror_mib}"
            else:
                wanted[path] = listed
                num_bytes += listed.size
        return wanted

    async def _fetch(self, paths: list[str], deadline: float) -> dict[str, bytes]:
        """The contents of those that are still there."""
        max_bytes = self._config.max_file_kib * 1024
        if len(paths) > FEW_FILES:
            return await self._fetch_archive(paths, deadline)
        contents = {}
        for path in paths:
            try:
                contents[path] = await self._sandbox.read_file(path, max_bytes)
            except SandboxError:
                raise
            except OSError:
                continue  # gone or replaced meanwhile; the next sync sees it
        return contents

    async def _fetch_archive(self, paths: list[str], deadline: float) -> dict[str, bytes]:
        contents: dict[str, bytes] = {}
        for first in range(0, len(paths), MANY_FILES):
            part = paths[first : first + MANY_FILES]
            names = base64.encodebytes("".join(f"./{path}\0" for path in part).encode()).decode("ascii")
            script = (
                f"cd -- {shlex.quote(self._sandbox.workdir)} && base64 -d | "
                "tar --null --no-recursion -T - -cf - 2>/dev/null | gzip -1 | base64 -w 0"
            )
            command = f"{CLEAN_SHELL}{shlex.quote(script)} <<'END_OF_LIST'\n{names}END_OF_LIST\n"
            result = await self._sandbox.run(command, max(deadline - time.monotonic(), 0.1), MAX_ARCHIVE_BYTES)
            if result.timed_out or result.truncated:
                raise MirrorError(f"the files of {self._sandbox.workdir} cannot be copied in time")
            limit = (self._config.max_mirror_mib << 20) + MANY_FILES * 2048 + (1 << 20)
            contents |= await asyncio.to_thread(unpack, result.output, limit, self._config.max_file_kib * 1024)
        wanted = set(paths)
        return {path: data for path, data in contents.items() if path in wanted}

    def _apply(
        self, wanted: dict[str, Listed], gone: list[str], stale: list[str], contents: Mapping[str, bytes], clock: float
    ) -> Changes:
        """Write to the copy (in a thread). What could not be fetched is not known, so that the next sync tries again."""
        before = set(self._known)
        for path in gone:
            self._known.pop(path, None)
            with suppress(OSError):  # nothing there that belongs to the copy
                self.folder.remove(path)
        touched = set()
        for path in sorted(stale, key=lambda path: wanted[path].kind):  # files before symlinks
            listed = wanted[path]
            try:
                if listed.kind == "l":
                    self.folder.link(path, listed.target)
                    self._known[path] = listed
                    touched.add(path)
                elif path in contents:
                    if self.folder.write(path, contents[path]):
                        touched.add(path)
                    racy = listed.changed_s > clock - RACY_S
                    self._known[path] = Listed(listed.kind, listed.size, "racy", "", 0.0) if racy else listed
            except OSError:  # a name that does not fit here, or a list that contradicts itself
                self._known.pop(path, None)
        after = set(self._known)
        return Changes(tuple(sorted(after - before)), tuple(sorted(touched & before & after)), tuple(sorted(before - after)))


def unpack(output: str, max_bytes: int, max_file_bytes: int) -> dict[str, bytes]:
    """Regular files of a base64, gzip, tar text, as far as it goes. MirrorError when it unpacks to more than `max_bytes`."""
    try:
        packed = base64.b64decode(re.sub(r"[^A-Za-z0-9+/=]", "", output))
        unpacker = zlib.decompressobj(wbits=31)
        data = unpacker.decompress(packed, max_bytes)
    except (binascii.Error, zlib.error, ValueError) as error:
        raise MirrorError(f"the archive of the sandbox's files is broken: {error}") from error
    if unpacker.unconsumed_tail:
        raise MirrorError(f"the archive of the sandbox's files is larger than {max_bytes >> 20} MiB")
    contents = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as archive:
            for member in archive:
                file = archive.extractfile(member) if member.isreg() and member.size <= max_file_bytes else None
                if file is not None:
                    contents[member.name.removeprefix("./")] = file.read()
    except (tarfile.TarError, OSError, ValueError):
        pass  # cut off: what came is used, the rest is asked for again
    return contents
