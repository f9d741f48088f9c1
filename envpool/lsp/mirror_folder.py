"""A folder on this machine whose contents someone else dictates: nothing outside it is ever read, written or removed."""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath

from envpool.sandbox_parts.contained_path import ContainedPaths

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def is_plain(path: str) -> bool:
    """Whether a relative path names something below a folder, whatever the folder holds.

    >>> [is_plain(path) for path in ("a/b.py", "../a", "/etc/passwd", "a//b", "", ".", "a\\0b", "a/./b")]
    [True, False, False, False, False, False, False, False]
    """
    return "\0" not in path and all(part not in ("", ".", "..") for part in path.split("/"))


class MirrorFolder:
    """Files and symlinks by relative path. Changes never go through a symlink; reading follows those that stay inside, as
    seen from `workdir`, where the folder stands for its readers. Every method raises OSError for a path that does not fit."""

    def __init__(self, root: Path, workdir: str) -> None:
        self.root = root
        self._paths = ContainedPaths(workdir, {workdir: root})

    def read(self, path: str, max_bytes: int) -> bytes:
        """At most so many bytes of a file."""
        with os.fdopen(self._paths.open(path, os.O_RDONLY), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise PermissionError(f"{path} is not a regular file")
            return file.read(max_bytes)

    def resolved(self, path: str) -> str:
        """The file's own relative path, symlinks followed. `path` is absolute, as readers see it, or relative."""
        return "/".join(self._paths.locate(path)[1])

    def write(self, path: str, data: bytes) -> bool:
        """Make or replace a file; False when it held just that before."""
        with self._parent(path, make=True) as (folder, name):
            try:
                descriptor = os.open(name, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
            except FileNotFoundError:
                descriptor = os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644, dir_fd=folder)
            with os.fdopen(descriptor, "r+b") as file:
                known = os.fstat(file.fileno()).st_size
                if known == len(data) and known > 0 and file.read() == data:
                    return False
                file.seek(0)
                file.truncate()
                file.write(data)
        return True

    def link(self, path: str, target: str) -> None:
        """Make a symlink; an older one is replaced."""
        with self._parent(path, make=True) as (folder, name):
            with suppress(FileNotFoundError):
                os.unlink(name, dir_fd=folder)
            os.symlink(target, name, dir_fd=folder)

    def remove(self, path: str) -> None:
        """Remove a file or symlink and the folders that become empty. What is gone already is fine."""
        with suppress(FileNotFoundError, NotADirectoryError), self._parent(path, make=False) as (folder, name):
            os.unlink(name, dir_fd=folder)
        for parent in list(PurePosixPath(path).parents)[:-1]:
            try:
                with self._parent(str(parent), make=False) as (folder, name):
                    os.rmdir(name, dir_fd=folder)
            except OSError:
                return

    @contextmanager
    def _parent(self, path: str, make: bool) -> Iterator[tuple[int, str]]:
        """A descriptor of the folder that holds `path`, and the last part of `path`."""
        if not is_plain(path):
            raise PermissionError(f"{path!r} is not a path below the folder")
        *parents, name = path.split("/")
        folder = os.open(self.root, _FOLDER)
        try:
            for part in parents:
                if make:
                    with suppress(FileExistsError):
                        os.mkdir(part, 0o755, dir_fd=folder)
                below = os.open(part, _FOLDER, dir_fd=folder)
                os.close(folder)
                folder = below
            yield folder, name
        finally:
            os.close(folder)
