import io
import os
import stat
import tarfile
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from configs.sandbox_config import SandboxConfig
from envpool.sandbox import Sandbox
from envpool.sandbox_parts.image_cache import FolderImages
from envpool.sandbox_parts.tar_stream import TransferTooLargeError, one_chunk, unpack_tar
from envpool.sandboxes import SANDBOXES
from envpool.sandboxes.process_sandbox import bubblewrap_works

BACKENDS = ["none", "bubblewrap", pytest.param("docker", marks=pytest.mark.docker), "scripted"]


@pytest.fixture(params=BACKENDS)
async def sandbox(request: pytest.FixtureRequest, images: FolderImages, calc_image: str) -> AsyncIterator[Sandbox]:
    kind = str(request.param)
    config = SandboxConfig(isolation=kind if kind in ("none", "bubblewrap") else "auto")
    if kind == "bubblewrap" and not bubblewrap_works():
        pytest.skip("bubblewrap is not installed or may not make namespaces here")
    if kind == "docker":
        config = SandboxConfig(docker_host=request.getfixturevalue("docker_engine"))
    name = "process" if kind in ("none", "bubblewrap") else kind
    backend = SANDBOXES[name](config, images, "tartest")
    try:
        yield await backend.start(calc_image, "/testbed")
    finally:
        await backend.close()


def packed(*members: tuple[str, bytes | None, str], mode: int = 0o640) -> bytes:
    """(name, content or None, link target) of each member; a name that ends in / is a folder."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for name, content, link in members:
            member = tarfile.TarInfo(name.rstrip("/"))
            member.mode = mode
            if link:
                member.type, member.linkname = tarfile.SYMTYPE, link
            elif content is None:
                member.type = tarfile.DIRTYPE if name.endswith("/") else tarfile.FIFOTYPE
            else:
                member.size = len(content)
            archive.addfile(member, io.BytesIO(content or b""))
    return file.getvalue()


async def gathered(stream: AsyncIterator[bytes]) -> bytes:
    return b"".join([chunk async for chunk in stream])


async def in_pieces(data: bytes, size: int) -> AsyncIterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


async def test_round_trip(sandbox: Sandbox, tmp_path: Path) -> None:
    every_byte = bytes(range(256)) * 9000  # more than one chunk
    sent = packed(("a/b/one.bin", every_byte, ""), ("a/it's.txt", b"two", ""), ("empty", b"", ""))
    await sandbox.put_tar("new/place", in_pieces(sent, 70_000))
    assert await sandbox.read_file("new/place/a/it's.txt") == b"two"
    out = tmp_path / "out"
    await unpack_tar(sandbox.get_tar("new/place"), out)
    assert (out / "place/a/b/one.bin").read_bytes() == every_byte
    assert sorted(str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()) == [
        "place/a/b/one.bin",
        "place/a/it's.txt",
        "place/empty",
    ]
    await unpack_tar(sandbox.get_tar("new/place/a/it's.txt"), out)
    assert (out / "it's.txt").read_bytes() == b"two"


async def test_limits(sandbox: Sandbox) -> None:
    large = packed(("large", b"x" * 100_000, ""))
    with pytest.raises(TransferTooLargeError):
        await sandbox.put_tar(".", in_pieces(large, 1000), max_bytes=50_000)
    with pytest.raises(FileNotFoundError):
        await sandbox.read_file("large")
    await sandbox.put_tar(".", one_chunk(large))
    with pytest.raises(TransferTooLargeError):
        await gathered(sandbox.get_tar("large", max_bytes=50_000))
    with pytest.raises(FileNotFoundError):
        await gathered(sandbox.get_tar("absent"))


@pytest.mark.parametrize(
    "member", [("/etc/owned", b"x", ""), ("../owned", b"x", ""), ("a/../../owned", b"x", ""), ("pipe", None, "")]
)
async def test_refused_members(images: FolderImages, calc_image: str, member: tuple[str, bytes | None, str]) -> None:
    backend = SANDBOXES["process"](SandboxConfig(isolation="none"), images, "tartest")
    sandbox = await backend.start(calc_image, "/testbed")
    try:
        with pytest.raises(PermissionError, match="tar stream"):
            await sandbox.put_tar(".", one_chunk(packed(("first", b"x", ""), member)))
        with pytest.raises(FileNotFoundError):
            await sandbox.read_file("first")  # refused before anything is written
        with pytest.raises(ValueError, match="not a tar"):
            await sandbox.put_tar(".", one_chunk(b"what is this" * 100))
    finally:
        await backend.close()


@pytest.fixture
def outside() -> Iterator[Path]:
    """A folder that no sandbox has: /tmp is one of its own."""
    with tempfile.TemporaryDirectory(dir="/var/tmp", prefix="swe-master-outside-") as folder:
        (Path(folder) / "secret").write_text("secret")
        yield Path(folder)


def names_in(folder: Path) -> set[str]:
    return set(os.listdir(folder)) if folder.exists() else set()


async def test_links_in_the_sandbox_lead_nowhere_outside(
    images: FolderImages, calc_image: str, outside: Path, tmp_path: Path
) -> None:
    backend = SANDBOXES["process"](SandboxConfig(isolation="none"), images, "tartest")
    sandbox = await backend.start(calc_image, "/testbed")
    try:
        await sandbox.run(f"ln -s {outside} way; ln -s {outside}/secret file; mkfifo pipe; chmod 700 calc.py", 20)
        for folder in ("way", "way/deeper"):
            with pytest.raises(PermissionError):
                await sandbox.put_tar(folder, one_chunk(packed(("owned", b"x", ""))))
        with pytest.raises(PermissionError):  # the archive brings the link itself
            await sandbox.put_tar(".", one_chunk(packed(("w2", None, str(outside)), ("w2/owned", b"x", ""))))
        with pytest.raises(PermissionError):
            await gathered(sandbox.get_tar("way"))
        assert names_in(outside) == {"secret"}
        with tarfile.open(fileobj=io.BytesIO(await gathered(sandbox.get_tar(".")))) as archive:
            kinds = {member.name: member.type for member in archive}
            assert archive.getmember("./calc.py").mode == 0o700
        assert kinds["./way"] == kinds["./file"] == tarfile.SYMTYPE
        assert "./pipe" not in kinds
        with pytest.raises(PermissionError, match="cannot be unpacked safely"):
            await unpack_tar(sandbox.get_tar("."), tmp_path / "here")
        assert "way" not in names_in(tmp_path / "here")
    finally:
        await backend.close()


async def test_unpacking_gives_no_special_modes(tmp_path: Path) -> None:
    await unpack_tar(one_chunk(packed(("tool", b"#!/bin/sh\n", ""), mode=0o6777)), tmp_path)
    assert stat.S_IMODE(os.stat(tmp_path / "tool").st_mode) & 0o6022 == 0
