"""Opening files under a folder that someone else may fill with symlinks: nothing outside is ever touched."""

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path, PurePosixPath

MAX_LINKS = 40


class ContainedPaths:
    """Maps paths as a sandbox sees them to this machine. `mounts` says which folder stands at which absolute path.

    >>> ContainedPaths("/testbed", {"/testbed": Path("/srv/copy")}).locate("pkg/../a.py")
    (PosixPath('/srv/copy'), ('a.py',))
    """

    def __init__(self, workdir: str, mounts: Mapping[str, Path]) -> None:
        self._workdir = PurePosixPath(workdir)
        self._mounts = {PurePosixPath(inside): outside for inside, outside in mounts.items()}

    def locate(self, path: str) -> tuple[Path, tuple[str, ...]]:
        """The mount's folder and the parts below it, symlinks followed as inside. PermissionError when it leads elsewhere."""
        todo = list(reversed((self._workdir / path).parts[1:]))
        inside, links = PurePosixPath("/"), 0
        while todo:
            part = todo.pop()
            if part == "..":
                inside = inside.parent
                continue
            inside = inside / part
            target = self._link_target(inside)
            if target is None:
                continue
            links += 1
            if links > MAX_LINKS:
                raise PermissionError(f"{path}: too many symbolic links")
            if target.is_absolute():
                inside, target = PurePosixPath("/"), PurePosixPath(*target.parts[1:])
            else:
                inside = inside.parent
            todo += reversed(target.parts)
        mount = self._mount_of(inside)
        if mount is None:
            raise PermissionError(f"{path} is outside the sandbox's own folders")
        return self._mounts[mount], inside.relative_to(mount).parts

    def open(self, path: str, flags: int, make_parents: bool = False) -> int:
        """A file descriptor; no component is a symlink by the time it is opened, however fast the tree changes."""
        root, parts = self.locate(path)
        if not parts:
            raise IsADirectoryError(f"{path} is a directory")
        folder = _descend(root, parts[:-1], make_parents)
        try:
            # O_NONBLOCK: opening a named pipe must not wait for its other end
            return os.open(parts[-1], flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o644, dir_fd=folder)
        finally:
            os.close(folder)

    def open_folder(self, path: str) -> int:
        """A descriptor of a folder. NotADirectoryError."""
        return _descend(*self.locate(path), make=False)

    def make_folder(self, path: str) -> None:
        """Make a folder and those above it; one that exists is left as it is."""
        os.close(_descend(*self.locate(path), make=True))

    def make_link(self, path: str, target: str) -> None:
        """Make a symlink, in place of a file or link of that name. `target` is not looked at: only the sandbox follows it."""
        parent, _, name = path.rpartition("/")
        folder = _descend(*self.locate(parent or "/"), make=True)
        try:
            with suppress(FileNotFoundError):
                os.unlink(name, dir_fd=folder)
            os.symlink(target, name, dir_fd=folder)
        finally:
            os.close(folder)

    def _mount_of(self, inside: PurePosixPath) -> PurePosixPath | None:
        return next((mount for mount in self._mounts if inside.is_relative_to(mount)), None)

    def _link_target(self, inside: PurePosixPath) -> PurePosixPath | None:
        mount = self._mount_of(inside)
        if mount is None or inside == mount:
            return None
        try:
            return PurePosixPath(os.readlink(self._mounts[mount] / inside.relative_to(mount)))
        except OSError:
            return None  # no link, or nothing there


def _descend(root: Path, parts: tuple[str, ...], make: bool) -> int:
    """A descriptor of the folder `parts` below `root`, none of them a symlink by the time it is opened."""
    folder = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    for part in parts:
        try:
            if make:
                with suppress(FileExistsError):
                    os.mkdir(part, dir_fd=folder)
            below = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
        finally:
            os.close(folder)
        folder = below
    return folder
