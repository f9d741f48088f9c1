"""Folders in and out of a sandbox as tar streams: bounded in bytes, and safe however hostile the other side is.

What comes out of a sandbox was written by an agent: unpack it with `unpack_tar` only. What goes in names relative paths, files,
folders and links; devices, pipes, absolute names and names with `..` are refused before anything is written.
"""

import asyncio
import os
import stat
import tarfile
import tempfile
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import IO

from envpool.sandbox_parts.contained_path import ContainedPaths

CHUNK_BYTES = 1 << 20
MEMORY_BYTES = 4 << 20  # what is larger goes through a temporary file
MAX_TAR_BYTES = 1 << 30
MAX_MEMBERS = 1_000_000


class TransferTooLargeError(OSError):
    """More bytes, or more files, than the caller allowed."""


async def one_chunk(data: bytes) -> AsyncIterator[bytes]:
    """A stream of what is at hand."""
    yield data


async def bounded(chunks: AsyncIterable[bytes], max_bytes: int) -> AsyncIterator[bytes]:
    """The same stream; TransferTooLargeError at the first byte too many."""
    seen = 0
    async for chunk in chunks:
        seen += len(chunk)
        if seen > max_bytes:
            raise TransferTooLargeError(f"a tar stream is larger than {max_bytes} bytes")
        yield chunk


async def spooled(chunks: AsyncIterable[bytes], max_bytes: int) -> IO[bytes]:
    """The whole stream in a file of its own that vanishes when it is closed."""
    file = tempfile.SpooledTemporaryFile(MEMORY_BYTES)  # noqa: SIM115
    try:
        async for chunk in bounded(chunks, max_bytes):
            await asyncio.to_thread(file.write, chunk)
    except BaseException:
        file.close()
        raise
    file.seek(0)
    return file  # type: ignore[return-value]


async def chunks_of(make: Callable[[IO[bytes]], None]) -> AsyncIterator[bytes]:
    """What `make` writes, in a thread, into a temporary file."""
    with tempfile.SpooledTemporaryFile(MEMORY_BYTES) as file:
        await asyncio.to_thread(make, file)
        file.seek(0)
        while chunk := await asyncio.to_thread(file.read, CHUNK_BYTES):
            yield chunk


def checked_members(file: IO[bytes]) -> list[tarfile.TarInfo]:
    """Members of an archive that may go into a sandbox. PermissionError for what may not; `file` is rewound."""
    members = []
    try:
        with tarfile.open(fileobj=file, mode="r:") as archive:
            for member in archive:
                parts = PurePosixPath(member.name).parts
                if member.name.startswith("/") or ".." in parts:
                    raise PermissionError(f"{member.name!r} in a tar stream leaves its folder")
                if not (member.isreg() or member.isdir() or member.issym() or member.islnk()):
                    raise PermissionError(f"{member.name!r} in a tar stream is neither file, folder nor link")
                members.append(member)
                if len(members) > MAX_MEMBERS:
                    raise TransferTooLargeError(f"a tar stream has more than {MAX_MEMBERS} members")
    except tarfile.TarError as error:
        raise ValueError(f"not a tar stream: {error}") from error
    file.seek(0)
    return members


def put_members(paths: ContainedPaths, folder: str, file: IO[bytes]) -> None:
    """Unpack below `folder` as the sandbox sees it; a link in the sandbox's tree leads nowhere outside."""
    checked_members(file)
    paths.make_folder(folder)
    with tarfile.open(fileobj=file, mode="r:") as archive:
        for member in archive:
            target = f"{folder}/{member.name}"
            if member.isdir():
                paths.make_folder(target)
            elif member.issym():
                paths.make_link(target, member.linkname)
            else:
                content = archive.extractfile(member)  # of a hard link: what it names within the archive
                assert content is not None
                _write(paths, target, content, member.mode)


def get_members(paths: ContainedPaths, path: str, file: IO[bytes], max_bytes: int) -> None:
    """Pack a file or folder; sockets, pipes and devices are left out. Its last component is the name within the archive."""
    name = PurePosixPath(path).name or "."
    with tarfile.open(fileobj=file, mode="w") as archive:
        descriptor = paths.open(path, os.O_RDONLY) if paths.locate(path)[1] else paths.open_folder(path)
        try:
            for member, opened in _walk(descriptor, name):
                if file.tell() + (member.size if member.isreg() else 0) > max_bytes:
                    raise TransferTooLargeError(f"{path} is larger than {max_bytes} bytes")
                if opened is None:
                    archive.addfile(member)
                else:
                    with os.fdopen(os.dup(opened), "rb") as content:
                        archive.addfile(member, content)
        finally:
            os.close(descriptor)


async def unpack_tar(chunks: AsyncIterable[bytes], target: Path, max_bytes: int = MAX_TAR_BYTES) -> None:
    """Unpack what came out of a sandbox into a folder of this machine: no links out of it, no devices, no special modes."""

    def unpack() -> None:
        with file, tarfile.open(fileobj=file, mode="r:") as archive:
            archive.extractall(target, filter="data")

    file = await spooled(chunks, max_bytes)
    try:
        await asyncio.to_thread(unpack)
    except tarfile.TarError as error:
        raise PermissionError(f"a sandbox's tar stream cannot be unpacked safely: {error}") from error


def _write(paths: ContainedPaths, target: str, content: IO[bytes], mode: int) -> None:
    descriptor = paths.open(target, os.O_WRONLY | os.O_CREAT, make_parents=True)
    with os.fdopen(descriptor, "wb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise PermissionError(f"{target} is not a regular file")
        os.ftruncate(descriptor, 0)
        while chunk := content.read(CHUNK_BYTES):
            file.write(chunk)
        os.fchmod(descriptor, mode & 0o777)


def _walk(descriptor: int, name: str) -> Iterator[tuple[tarfile.TarInfo, int | None]]:
    """(member, descriptor to read from) below an open file or folder; no link is followed."""
    status = os.fstat(descriptor)
    if stat.S_ISREG(status.st_mode):
        yield _member(name, status, tarfile.REGTYPE), descriptor
        return
    if not stat.S_ISDIR(status.st_mode):
        return
    yield _member(name, status, tarfile.DIRTYPE), None
    for entry in sorted(os.listdir(descriptor)):
        below = f"{name}/{entry}"
        with suppress(FileNotFoundError):  # gone meanwhile
            kind = os.stat(entry, dir_fd=descriptor, follow_symlinks=False)
            if stat.S_ISLNK(kind.st_mode):
                member = _member(below, kind, tarfile.SYMTYPE)
                member.linkname = os.readlink(entry, dir_fd=descriptor)
                yield member, None
            elif stat.S_ISREG(kind.st_mode) or stat.S_ISDIR(kind.st_mode):
                opened = os.open(entry, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=descriptor)
                try:
                    yield from _walk(opened, below)
                finally:
                    os.close(opened)


def _member(name: str, status: os.stat_result, kind: bytes) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.mode, member.mtime = kind, stat.S_IMODE(status.st_mode), int(status.st_mtime)
    member.size = status.st_size if kind == tarfile.REGTYPE else 0
    return member
