"""Sandboxes as containers of a Docker engine: no network, bounded memory, processes and CPU, no capabilities."""

import asyncio
import base64
import io
import itertools
import posixpath
import re
import secrets
import shlex
import tarfile
import time
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import aclosing, suppress
from pathlib import Path
from typing import IO, Any

from docker.errors import APIError, ImageNotFound, NotFound

from configs.sandbox_config import SandboxConfig
from envpool.sandbox import ExecResult
from envpool.sandbox_errors import (
    ImageMissingError,
    SandboxError,
    SandboxLostError,
    SandboxStartError,
    SandboxUnavailableError,
)
from envpool.sandbox_parts.container_options import ENVIRONMENT, KEEPER, TASK, host_options
from envpool.sandbox_parts.docker_engine import ENGINE_ERRORS, connect
from envpool.sandbox_parts.docker_images import DockerImages
from envpool.sandbox_parts.docker_shell import DockerShell
from envpool.sandbox_parts.image_cache import BASE_REF, FolderImages
from envpool.sandbox_parts.sandbox_reaper import EXPIRES, LEASE, OWNER, Lease, reap_containers
from envpool.sandbox_parts.shell_session import FLOOD_BYTES, ShellSession
from envpool.sandbox_parts.tar_stream import CHUNK_BYTES, MAX_TAR_BYTES, bounded, checked_members, spooled

DOCKER_PREFIX = "docker:"
ENGINE_THREADS = 8  # engine calls at once: cold starts are bound by the engine, more of them only wait there
SWEEP_THREADS = 2  # the pool's watch, and one that wants to know why a sandbox was lost
LIFE_S = 6 * 3600  # a container ends by itself then, whatever happened to its owner
FILE_S = 60.0
SWEEP_S = 10.0
CALL_S = 90.0  # of one engine call; longer than a start may take, so that what a late call made is still seen and removed
INLINE_BYTES = 24_576  # larger files go through the archive call; the shell reads its stdin byte by byte
NOT_FILE, NOT_FOUND, IS_DIRECTORY = 21, 22, 23


class DockerSandbox:
    """One running container with a shell in it. Files go through the shell (1 to 2 ms), large ones as an archive (50 ms)."""

    def __init__(
        self, client: Any, call: Callable[..., Any], container: str, workdir: str, held: set[str], flood_bytes: int = FLOOD_BYTES
    ) -> None:
        self._held = held  # names of containers that the reaper leaves alone
        self._client, self._call, self.container, self._workdir = client, call, container, workdir
        self._session = ShellSession(self._open_shell, workdir, flood_bytes=flood_bytes)
        self._closing = asyncio.Lock()
        self._removed = False
        self.closed = False

    @property
    def workdir(self) -> str:
        return self._workdir

    async def open(self) -> None:
        """Start the shell."""
        await self._session.open()

    async def run(self, command: str, timeout_s: float, max_output_bytes: int = 65_536) -> ExecResult:
        self._check_open()
        return (await self._session.run(command, timeout_s, max_output_bytes)).decoded()

    async def read_file(self, path: str, max_bytes: int = 1_048_576) -> bytes:
        self._check_open()
        full = shlex.quote(self._full(path))
        script = (
            f"([ -d {full} ] && exit {IS_DIRECTORY}; [ -e {full} ] || exit {NOT_FOUND}; [ -f {full} ] || exit {NOT_FILE}; "
            f"exec head -c {max_bytes:d} -- {full} 2>/dev/null)"
        )
        result = await self._session.run(script, FILE_S, max_bytes + 1)
        if result.exit_code == 0 and not result.timed_out:
            return result.head + result.tail
        raise _file_error(path, result.exit_code)

    async def write_file(self, path: str, data: bytes) -> None:
        self._check_open()
        full = self._full(path)
        if len(data) > INLINE_BYTES:
            return await self._put("/", _archive({full.lstrip("/"): data}))
        name, folder = shlex.quote(full), shlex.quote(posixpath.dirname(full))
        text = base64.encodebytes(data).decode("ascii")
        script = (
            f"([ -d {name} ] && exit {IS_DIRECTORY}; [ ! -e {name} ] || [ -f {name} ] || exit {NOT_FILE}\n"
            f"mkdir -p -- {folder} && base64 -d > {name} <<'END_OF_FILE'\n{text}END_OF_FILE\n)"
        )
        result = await self._session.run(script, FILE_S, 4096)
        if result.exit_code != 0 or result.timed_out:
            raise _file_error(path, result.exit_code)

    async def put_tar(self, folder: str, chunks: AsyncIterable[bytes], max_bytes: int = MAX_TAR_BYTES) -> None:
        self._check_open()
        full = self._full(folder)
        with await spooled(chunks, max_bytes) as file:
            await asyncio.to_thread(checked_members, file)
            made = await self._session.run(f"(mkdir -p -- {shlex.quote(full)})", FILE_S, 4096)
            if made.exit_code != 0:
                raise PermissionError(f"{folder} cannot be made: {made.decoded().output.strip()}")
            await self._put(full, file)

    async def get_tar(self, path: str, max_bytes: int = MAX_TAR_BYTES) -> AsyncIterator[bytes]:
        self._check_open()
        try:
            stream, _ = await self._call(self._client.get_archive, self.container, self._full(path), CHUNK_BYTES)
        except NotFound as error:
            if "no such container" in str(error).lower():
                raise SandboxLostError(f"container {self.container} is gone: {error}") from error
            raise FileNotFoundError(f"{path} does not exist") from error
        except APIError as error:
            raise PermissionError(f"{path} cannot be read: {error.explanation}") from error
        async with aclosing(self._pulled(stream)) as pulled:
            async for chunk in bounded(pulled, max_bytes):
                yield chunk

    async def _pulled(self, stream: Generator[bytes, None, None]) -> AsyncGenerator[bytes, None]:
        try:
            while True:
                pulling = asyncio.ensure_future(self._call(next, stream, b""))
                if not (chunk := await asyncio.shield(pulling)):
                    break
                yield chunk
        finally:
            # One that is cancelled leaves a thread in the generator: it can be closed only once that has come out.
            pulling.add_done_callback(lambda _: stream.close())

    async def close(self) -> None:
        self.closed = True
        async with self._closing:
            if self._removed:
                return
            self._session.abandon()
            try:
                with suppress(NotFound):
                    await self._call(self._client.remove_container, self.container, force=True, v=True)
                self._removed = True
            finally:
                self._held.discard(self.container)
                with suppress(SandboxLostError):  # the container is gone, as it should be
                    await self._session.close()

    async def _put(self, folder: str, archive: bytes | IO[bytes]) -> None:
        try:
            await self._call(self._client.put_archive, self.container, folder, archive)
        except NotFound as error:
            raise SandboxLostError(f"container {self.container} is gone: {error}") from error
        except APIError as error:
            raise PermissionError(f"{folder} cannot be written: {error.explanation}") from error

    async def _open_shell(self) -> DockerShell:
        return await DockerShell.start(self._client, self._call, self.container, self._workdir)

    def _full(self, path: str) -> str:
        return posixpath.join(self._workdir, path)

    def _check_open(self) -> None:
        if self.closed:
            raise SandboxLostError("the sandbox is closed")


class DockerBackend:
    """Starts containers. `folder:` images are unpacked into `config.base_image`; `docker:` images start as they are."""

    has_engine = True

    def __init__(self, config: SandboxConfig, images: FolderImages, owner: str) -> None:
        self._config, self._images, self._owner = config, images, owner
        self._threads = ThreadPoolExecutor(ENGINE_THREADS, thread_name_prefix="docker")
        self._sweepers = ThreadPoolExecutor(SWEEP_THREADS, thread_name_prefix="sweep")
        self._connecting = asyncio.Lock()
        self._client: Any = None
        self._pulls: DockerImages | None = None
        self._numbers = itertools.count()
        self._open: set[DockerSandbox] = set()
        self._held: set[str] = set()
        self._sweeping_client: Any = None

    async def start(self, image: str, workdir: str) -> DockerSandbox:
        """A started container with its shell. ImageMissingError, SandboxStartError, SandboxUnavailableError (no engine)."""
        async with self._connecting:
            if self._client is None:
                self._client = await self._call(connect, self._config.docker_host, CALL_S)
                await self._call(reap_containers, self._client, self._owner)
                if self._config.pull_images:
                    self._pulls = DockerImages(self._client, self._config.registry_mirror, self._config.image_budget_gib)
        self._open = {known for known in self._open if not known.closed}
        name = f"swe-master-{re.sub(r'[^A-Za-z0-9_.-]', '-', self._owner)}-{secrets.token_hex(6)}"
        self._held.add(name)
        creating: Future[None] | None = None
        sandbox = DockerSandbox(self._client, self._call, name, workdir, self._held, self._config.flood_mib << 20)
        try:
            async with asyncio.timeout(self._config.start_timeout_s):
                if self._pulls is not None and image.startswith(DOCKER_PREFIX):
                    await self._pulls.ensure(image.removeprefix(DOCKER_PREFIX))
                creating = self._submit(self._create, name, image, workdir)
                await asyncio.wrap_future(creating)
                await sandbox.open()
                if image.startswith(DOCKER_PREFIX):
                    await sandbox.run(
                        f"git -c safe.directory='*' update-ref {BASE_REF} HEAD 2>/dev/null", self._config.start_timeout_s
                    )
        except BaseException as error:
            sandbox.closed = True
            self._give_up(name, creating)
            if isinstance(error, SandboxError) and not isinstance(error, SandboxLostError):
                raise
            if isinstance(error, (*ENGINE_ERRORS, TimeoutError)):
                raise SandboxStartError(f"cannot start a container from {image}: {error or 'deadline passed'}") from error
            raise
        self._open.add(sandbox)
        return sandbox

    async def sweep(self) -> int:
        """Remove this owner's containers that nobody holds; how many. SandboxUnavailableError when the engine does not answer."""
        return await asyncio.get_running_loop().run_in_executor(self._sweepers, self._sweep)

    async def close(self) -> None:
        for sandbox in list(self._open):
            with suppress(*ENGINE_ERRORS, SandboxUnavailableError):
                await sandbox.close()
        self._open.clear()
        self._sweepers.shutdown(wait=False)
        if self._pulls is not None:
            self._pulls.close()
        await asyncio.to_thread(self._end_threads)
        for client in (self._client, self._sweeping_client):
            if client is not None:
                client.close()

    async def _call(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        return await asyncio.wrap_future(self._submit(function, *args, **kwargs))

    def _submit(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> "Future[Any]":
        try:
            return self._threads.submit(function, *args, **kwargs)
        except RuntimeError as error:
            raise SandboxUnavailableError("the Docker backend is closed") from error

    def _give_up(self, name: str, creating: "Future[None] | None") -> None:
        """Remove what a failed start made or is still making."""
        if creating is None:
            self._held.discard(name)
            return
        with suppress(SandboxUnavailableError):  # `close` removes what is still held
            self._submit(self._remove_when_created, creating, name)

    def _end_threads(self) -> None:
        """Wait for all engine calls; then remove the containers of starts that found no thread for that any more."""
        self._threads.shutdown(wait=True)
        for name in list(self._held):
            self._remove(name)

    def _sweep(self) -> int:
        # A client of its own: with a short deadline, and with connections that no start or removal holds.
        try:
            if self._sweeping_client is None:
                self._sweeping_client = connect(self._config.docker_host, SWEEP_S)
            return reap_containers(self._sweeping_client, self._owner, self._held)
        except ENGINE_ERRORS as error:
            raise SandboxUnavailableError(f"the Docker engine does not answer: {error}") from error

    def _create(self, name: str, image: str, workdir: str) -> None:
        """Create, fill and start one container (in a thread): 300 to 500 ms."""
        if image.startswith(DOCKER_PREFIX):
            reference, tree = image.removeprefix(DOCKER_PREFIX), None
        else:
            reference, tree = self._config.base_image, self._images.path(image)
        host_config = self._client.create_host_config(**host_options(self._config))
        labels = {OWNER: self._owner, LEASE: str(Lease.mine(next(self._numbers))), EXPIRES: str(int(time.time()) + LIFE_S)}
        labels[TASK] = image
        try:
            self._client.create_container(
                reference,
                entrypoint=["/bin/sh", "-c", KEEPER],
                name=name,
                labels=labels,
                environment=ENVIRONMENT,
                host_config=host_config,
            )
        except ImageNotFound as error:
            what = "run: make docker-local" if tree is not None else f"run: docker pull {reference}"
            raise ImageMissingError(f"the Docker engine has no image {reference!r}; {what}") from error
        if tree is not None:
            self._client.put_archive(name, "/", _archive_tree(tree, workdir.strip("/")))
        self._client.start(name)

    def _remove_when_created(self, creating: "Future[None]", name: str) -> None:
        with suppress(Exception):  # its error was raised to who asked for the container
            creating.result(timeout=CALL_S * 3)
        self._remove(name)

    def _remove(self, name: str) -> None:
        try:
            with suppress(*ENGINE_ERRORS):
                self._client.remove_container(name, force=True, v=True)
        finally:
            self._held.discard(name)


def _file_error(path: str, exit_code: int) -> OSError:
    if exit_code == NOT_FOUND:
        return FileNotFoundError(f"{path} does not exist")
    if exit_code == IS_DIRECTORY:
        return IsADirectoryError(f"{path} is a directory")
    return PermissionError(f"{path} is not a file that can be read or written here")


def _archive(files: dict[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mtime = len(data), int(time.time())
            archive.addfile(member, io.BytesIO(data))
    return packed.getvalue()


def _archive_tree(tree: Path, inside: str) -> bytes:
    """The tree as a tar archive under the name `inside`, owned by root, with times and modes."""

    def as_root(member: tarfile.TarInfo) -> tarfile.TarInfo:
        member.uid = member.gid = 0
        member.uname = member.gname = "root"
        return member

    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        archive.add(tree, arcname=inside, filter=as_root)
    return packed.getvalue()
