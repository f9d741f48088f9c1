"""The Docker backend's threads, with a scripted engine that stops where a test wants it to: what a slow call must not hold up,
and what is left when the backend closes or a user is cancelled in the middle of one."""

import asyncio
import io
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest
from docker.errors import ImageNotFound

from configs.sandbox_config import SandboxConfig
from envpool.sandbox_errors import ImageMissingError, SandboxUnavailableError
from envpool.sandbox_parts.docker_images import DockerImages
from envpool.sandbox_parts.image_cache import FolderImages
from envpool.sandboxes.docker_sandbox import ENGINE_THREADS, DockerBackend, DockerSandbox

WAIT_S = 60


@dataclass
class OpenStream:
    """What docker's client gives for a stream: it holds the response that it came from."""

    stream: io.BytesIO
    _response: io.BytesIO

    def close(self) -> None:
        self.stream.close()


class ScriptedEngine:
    """As much of `docker.APIClient` as a start, a pull, a removal and a sweep ask for. A call whose name is in `gates` waits
    there; `calls` counts those that began."""

    def __init__(self) -> None:
        self.gates: dict[str, threading.Event] = {}
        self.calls: Counter[str] = Counter()
        self.removed: list[str] = []
        self.stream_closed = threading.Event()
        self.streams: list[io.BytesIO] = []

    def _enter(self, name: str) -> None:
        self.calls[name] += 1
        if name in self.gates:
            assert self.gates[name].wait(WAIT_S), f"nobody opened the gate of {name}"

    def inspect_image(self, reference: str) -> dict[str, Any]:
        raise ImageNotFound(f"no such image: {reference}")

    def pull(self, repository: str, **options: Any) -> list[dict[str, str]]:
        self._enter("pull")
        return [{"error": "manifest unknown"}]

    def create_host_config(self, **options: Any) -> dict[str, Any]:
        return {}

    def create_container(self, reference: str, **options: Any) -> None:
        self._enter("create")

    def start(self, name: str) -> None:
        """Nothing runs in it."""

    def remove_container(self, name: str, **options: Any) -> None:
        self.removed.append(name)

    def containers(self, **options: Any) -> list[Any]:
        return []

    def get_archive(self, container: str, path: str, chunk_bytes: int) -> tuple[Iterator[bytes], dict[str, Any]]:
        return self._archive(), {}

    def _archive(self) -> Iterator[bytes]:
        try:
            self._enter("archive")
            yield b"late"
        finally:
            self.stream_closed.set()

    def exec_create(self, container: str, command: list[str], **options: Any) -> dict[str, str]:
        return {"Id": "exec"}

    def exec_start(self, exec_id: str, socket: bool) -> Any:
        self._enter("open")
        stream, response = io.BytesIO(), io.BytesIO()
        self.streams += [stream, response]
        return OpenStream(stream, response)

    def close(self) -> None:
        """No connection is open."""


@pytest.fixture
def engine() -> Iterator[ScriptedEngine]:
    scripted = ScriptedEngine()
    yield scripted
    for gate in scripted.gates.values():
        gate.set()


@pytest.fixture
def backend(engine: ScriptedEngine, images: FolderImages) -> DockerBackend:
    opened = DockerBackend(SandboxConfig(start_timeout_s=WAIT_S), images, "test")
    opened._client = opened._sweeping_client = engine
    opened._pulls = DockerImages(engine)
    return opened


def sandbox_of(backend: DockerBackend) -> DockerSandbox:
    return DockerSandbox(backend._client, backend._call, "mine", "/testbed", backend._held)


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(WAIT_S):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.002)


async def test_a_pull_holds_up_no_other_call(engine: ScriptedEngine, backend: DockerBackend) -> None:
    pulled = engine.gates["pull"] = threading.Event()
    group = [asyncio.create_task(backend.start("docker:slow:1", "/testbed")) for _ in range(ENGINE_THREADS + 1)]
    await until(lambda: engine.calls["pull"])
    await asyncio.wait_for(sandbox_of(backend).close(), WAIT_S / 2)
    assert (engine.removed, pulled.is_set()) == (["mine"], False)
    group[0].cancel()  # the others wait on
    with pytest.raises(asyncio.CancelledError):
        await group[0]
    pulled.set()
    outcomes = await asyncio.gather(*group[1:], return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [ImageMissingError] * ENGINE_THREADS
    assert (engine.calls["pull"], engine.calls["create"], backend._held) == (1, 0, set())
    await backend.close()


async def test_starts_that_wait_for_a_pull_end_with_the_backend(engine: ScriptedEngine, backend: DockerBackend) -> None:
    engine.gates["pull"] = threading.Event()
    starting = [asyncio.create_task(backend.start(f"docker:slow:{number}", "/testbed")) for number in range(20)]
    await until(lambda: engine.calls["pull"] == 8)  # the other twelve wait for a thread
    await asyncio.wait_for(backend.close(), WAIT_S / 2)
    engine.gates["pull"].set()
    outcomes = await asyncio.gather(*starting, return_exceptions=True)
    assert Counter(type(outcome) for outcome in outcomes) == {ImageMissingError: 8, SandboxUnavailableError: 12}
    with pytest.raises(SandboxUnavailableError, match="closed"):
        await backend.start("docker:late:1", "/testbed")
    assert (engine.calls["create"], backend._held) == (0, set())


async def test_a_sandbox_is_removed_once_and_not_after_its_backend(engine: ScriptedEngine, backend: DockerBackend) -> None:
    sandbox, other = sandbox_of(backend), sandbox_of(backend)
    await sandbox.close()
    await backend.close()
    await sandbox.close()
    assert engine.removed == ["mine"]
    with pytest.raises(SandboxUnavailableError, match="the Docker backend is closed"):
        await other.close()


async def overtaken_start(
    engine: ScriptedEngine, backend: DockerBackend
) -> tuple["asyncio.Task[Any]", "asyncio.Task[None]", threading.Event]:
    """A start whose container is being created until the event is set, and the close that came meanwhile."""
    backend._pulls = None
    created = engine.gates["create"] = threading.Event()
    starting = asyncio.create_task(backend.start("docker:any:1", "/testbed"))
    await until(lambda: engine.calls["create"])
    closing = asyncio.create_task(backend.close())
    await until(lambda: backend._threads._shutdown)
    return starting, closing, created


async def test_a_start_that_is_overtaken_by_close_leaves_no_container(engine: ScriptedEngine, backend: DockerBackend) -> None:
    starting, closing, created = await overtaken_start(engine, backend)
    starting.cancel()  # its removal finds no thread any more
    with pytest.raises(asyncio.CancelledError):
        await starting
    created.set()
    await asyncio.wait_for(closing, WAIT_S)
    assert (len(engine.removed), backend._held) == (1, set())


async def test_a_start_whose_shell_comes_after_close_is_told(engine: ScriptedEngine, backend: DockerBackend) -> None:
    starting, closing, created = await overtaken_start(engine, backend)
    created.set()
    with pytest.raises(SandboxUnavailableError, match="the Docker backend is closed"):
        await starting
    await asyncio.wait_for(closing, WAIT_S)
    assert (len(engine.removed), backend._held) == (1, set())


async def test_a_stream_that_opens_after_its_user_is_cancelled_is_closed(engine: ScriptedEngine, backend: DockerBackend) -> None:
    engine.gates["open"] = threading.Event()
    opening = asyncio.create_task(sandbox_of(backend).open())
    await until(lambda: engine.calls["open"])
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    engine.gates["open"].set()
    await until(lambda: engine.streams and all(stream.closed for stream in engine.streams))
    await backend.close()


async def test_a_cancelled_archive_is_cancelled_and_closed(engine: ScriptedEngine, backend: DockerBackend) -> None:
    engine.gates["archive"] = threading.Event()
    sandbox = sandbox_of(backend)

    async def read() -> list[bytes]:
        return [chunk async for chunk in sandbox.get_tar("big")]

    reading = asyncio.create_task(read())
    await until(lambda: engine.calls["archive"])
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    assert not engine.stream_closed.is_set()
    engine.gates["archive"].set()
    await until(engine.stream_closed.is_set)
    assert await read() == [b"late"]
    await backend.close()


async def test_a_sweep_does_not_wait_for_the_loops_threads(backend: DockerBackend) -> None:
    loop, busy = asyncio.get_running_loop(), threading.Event()
    loop.set_default_executor(ThreadPoolExecutor(1))
    working = asyncio.ensure_future(asyncio.to_thread(busy.wait, WAIT_S))
    try:
        assert await asyncio.wait_for(backend.sweep(), WAIT_S / 2) == 0
    finally:
        busy.set()
    assert await working
    await backend.close()
