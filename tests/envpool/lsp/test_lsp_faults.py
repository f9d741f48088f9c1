"""What lsp_tool does when a server misbehaves: servers that are scripts, run as the real ones are."""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from configs.lsp_config import LspConfig
from configs.rollout_config import EpisodeConfig
from configs.sandbox_config import SandboxConfig
from envpool.action_format import ToolCall, render_action
from envpool.agent.episode import run_episode
from envpool.language_servers import LANGUAGE_SERVERS
from envpool.lsp import lsp_session
from envpool.lsp.lsp_errors import LspRequestError, ServerEndedError, ServerGarbageError, ServerTimeoutError
from envpool.lsp.lsp_process import ServerPlace, server_command
from envpool.lsp.lsp_session import check_config
from envpool.policy import Completion, GenerateRequest, PolicyError
from envpool.problem import Problem
from envpool.sandbox import Sandbox
from envpool.sandbox_parts.image_cache import FolderImages
from envpool.sandbox_parts.process_tree import descendants, live_processes
from envpool.sandbox_parts.sandbox_reaper import reap_folders
from envpool.sandboxes.process_sandbox import ProcessBackend, bubblewrap_works
from envpool.tool import ToolLimits
from envpool.trajectory import Trajectory, Turn
from tests.envpool.agent.agent_doubles import CHAT, LinePolicy
from tests.envpool.lsp.lsp_setting import PATIENT, ScriptedServer, Setting, opened, usable_config

FILES = {"a.toy": "toy one\ntoy two\n"}
HOVER = {"command": "get_hover", "file_path": "a.toy", "line": "1", "symbol": "toy"}


WORKER = """
import asyncio, sys
from pathlib import Path
from envpool.sandbox_parts.image_cache import FolderImages
from envpool.language_servers import LANGUAGE_SERVERS
from tests.envpool.lsp.lsp_setting import ScriptedServer, opened, usable_config

async def main():
    LANGUAGE_SERVERS["toy"] = ScriptedServer()
    async with opened(FolderImages(Path(sys.argv[1])), {"a.toy": "toy"}, usable_config(servers=("toy",))) as setting:
        await setting.ask("get_hover", file_path="a.toy", line=1)
        session = setting.tool.sessions[setting.sandbox]
        print(",".join(map(str, setting.pids("toy"))), session._folder, flush=True)
        await asyncio.sleep(1000)

asyncio.run(main())
"""


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    """Registers a scripted server; call it with what the server does when asked for a hover."""

    def register(hover: str = ScriptedServer.hover) -> ScriptedServer:
        server = ScriptedServer(hover=hover)
        monkeypatch.setitem(LANGUAGE_SERVERS, "toy", server)
        return server

    return register


def toy_config(**changes: object) -> LspConfig:
    return usable_config(servers=("toy",), **changes)


async def ask(setting: Setting, limits: ToolLimits = PATIENT) -> str:
    return await setting.ask(limits=limits, **HOVER)  # type: ignore[arg-type]


async def test_a_server_that_keeps_to_the_protocol(toy, images: FolderImages) -> None:  # type: ignore[no-untyped-def]
    toy()
    async with opened(images, FILES, toy_config()) as setting:
        assert await ask(setting) == "Status: success (get_hover of 'toy' on line 1 of a.toy: found)\n[Result]\na toy"


@pytest.mark.parametrize(
    ("hover", "wanted"),
    [
        ("sys.stdout.buffer.write(b'garbage ' * 1000); sys.stdout.buffer.flush()", "no header in"),
        ("sys.stdout.buffer.write(b'X: 1\\r\\n\\r\\n'); sys.stdout.buffer.flush()", "a header without Content-Length"),
        (
            "sys.stdout.buffer.write(b'Content-Length: 4\\r\\n\\r\\n{{{{'); sys.stdout.buffer.flush()",
            "a message that is not JSON",
        ),
        (
            "sys.stdout.buffer.write(b'Content-Length: 2\\r\\n\\r\\n[]'); sys.stdout.buffer.flush()",
            "a message that is not an object",
        ),
        ("sys.stdout.buffer.write(b'Content-Length: 9999999999\\r\\n\\r\\n'); sys.stdout.buffer.flush()", "over the limit of"),
        ("write({'method': 'textDocument/publishDiagnostics', 'params': 5})", "a message of the wrong form"),
        ("write({'nothing': 1})", "a message of the wrong form"),
    ],
)
async def test_garbage_ends_the_server_and_the_next_call_starts_it(toy, images: FolderImages, hover: str, wanted: str) -> None:  # type: ignore[no-untyped-def]
    toy(hover)
    async with opened(images, FILES, toy_config()) as setting:
        told = await ask(setting)
        assert told.startswith("Status: failure (get_hover): ")
        assert wanted in told
        assert "it is started again by the next call" in told
        assert setting.tool.sessions is not None
        assert setting.tool.sessions[setting.sandbox].running == {}
        told = await setting.ask("get_definition", file_path="a.toy", line=1, symbol="toy")
        assert told == "Status: success (get_definition of 'toy' on line 1 of a.toy: nothing found)"


@pytest.mark.parametrize("result", ["5", "'text'", "[5]", "{'contents': 7}", "{'x': 1}", "[{'contents': {}}]"])
async def test_results_of_another_form_do_no_harm(toy, images: FolderImages, result: str) -> None:  # type: ignore[no-untyped-def]
    toy(f"write({{'id': number, 'result': {result}}})")
    async with opened(images, FILES, toy_config()) as setting:
        assert await ask(setting) == "Status: success (get_hover of 'toy' on line 1 of a.toy: nothing found)"


async def test_an_error_of_the_server_is_a_failure_and_it_stays(toy, images: FolderImages) -> None:  # type: ignore[no-untyped-def]
    toy("write({'id': number, 'error': {'code': -32603, 'message': 'toys are\\nbroken'}})")
    async with opened(images, FILES, toy_config()) as setting:
        assert await ask(setting) == "Status: failure (get_hover): textDocument/hover: toys are broken"
        assert setting.pids("toy")


async def test_a_silent_server_is_given_up_at_the_deadline(toy, images: FolderImages) -> None:  # type: ignore[no-untyped-def]
    toy("time.sleep(1000)")
    limits = ToolLimits(timeout_s=6.0, max_observation_bytes=4000, compact=False)
    async with opened(images, FILES, toy_config()) as setting:
        await setting.ask("get_definition", file_path="a.toy", line=1, symbol="toy")  # so that the server has started
        assert setting.tool.sessions is not None
        assert list(setting.tool.sessions[setting.sandbox].running) == ["toy"]
        began = time.monotonic()
        told = await ask(setting, limits)
        assert "no answer to textDocument/hover within" in told
        assert time.monotonic() - began >= 2
        assert setting.tool.sessions[setting.sandbox].running == {}


async def test_a_server_that_dies_is_started_again_in_the_same_call_then_stays_off(toy, images: FolderImages) -> None:  # type: ignore[no-untyped-def]
    toy("sys.stderr.write('Error: out of toys\\n'); sys.exit(3)")
    async with opened(images, FILES, toy_config(max_restarts=2)) as setting:
        assert "the server ended: Error: out of toys; it is started again by the next call" in await ask(setting)
        assert "the server for Toy ended 3 times and stays off now" in await ask(setting)
        assert "the server for Toy ended 3 times and stays off now" in await ask(setting)


async def test_a_server_above_the_memory_limit_is_killed(toy, images: FolderImages) -> None:  # type: ignore[no-untyped-def]
    toy("hoard = [bytearray(8 << 20) for _ in range(30)]\ntime.sleep(1000)")
    async with opened(images, FILES, toy_config(memory_mib=120, max_restarts=0)) as setting:
        told = await ask(setting)
        assert "over lsp.memory_mib=120" in told or "stays off now" in told


async def test_a_call_that_is_cancelled_leaves_nothing(toy, images: FolderImages) -> None:  # type: ignore[no-untyped-def]
    toy("time.sleep(1000)")
    async with opened(images, FILES, toy_config()) as setting:
        call = asyncio.create_task(ask(setting))
        async with asyncio.timeout(60):
            while setting.tool.sessions in (None, {}) or not setting.tool.sessions[setting.sandbox].running:  # type: ignore[index]  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        pids = setting.pids("toy")
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
    assert {process.pid for process in live_processes()}.isdisjoint(pids)


class TestIsolation:
    """Whatever code of the repository a server runs, it runs without network, write access and the worker's files."""

    @pytest.fixture(autouse=True)
    def needs_bubblewrap(self) -> None:
        if not bubblewrap_works():
            pytest.skip("bubblewrap is not installed or may not make namespaces here")

    @pytest.mark.parametrize(
        ("attempt", "said"),
        [
            ("open('/testbed/a.toy', 'w')", "Read-only file system"),
            ("open('/testbed/new', 'w')", "Read-only file system"),
            ("open('/etc/hostname')", "No such file"),
            ("os.listdir('/home')", "No such file"),
            ("__import__('socket').create_connection(('1.1.1.1', 53), 3)", "unreachable"),
            ("os.kill(OUTSIDE, 0)", "No such process"),
        ],
    )
    async def test_what_a_server_cannot_do(self, toy, images: FolderImages, attempt: str, said: str) -> None:  # type: ignore[no-untyped-def]
        attempt = attempt.replace("OUTSIDE", str(max(os.getpid(), 1000)))
        toy(
            f"try:\n    {attempt}\n    said = 'it worked'\nexcept OSError as error:\n    said = str(error)\n"
            "write({'id': number, 'result': {'contents': said}})"
        )
        async with opened(images, FILES, toy_config()) as setting:
            assert said in await ask(setting)

    def test_a_killed_worker_leaves_nothing(self, tmp_path: Path) -> None:
        """Its servers die with it; its folder is removed by the next one."""
        command = [sys.executable, "-c", WORKER, str(tmp_path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[3]) as worker:
            assert worker.stdout is not None
            pids, folder = worker.stdout.readline().strip().split(" ")
            worker.kill()
        deadline = time.monotonic() + 60
        while not {process.pid for process in live_processes()}.isdisjoint(map(int, pids.split(","))):
            assert time.monotonic() < deadline, "the server outlives its worker"
            time.sleep(0.05)
        assert Path(folder).is_dir()
        reap_folders(lsp_session.OWNER)
        assert not Path(folder).exists()

    def test_command_line(self, tmp_path: Path) -> None:
        place = ServerPlace(True, tmp_path / "tree", tmp_path / "toy", "/testbed")
        launch = ScriptedServer().launch("/tmp", ())
        assert launch is not None
        command = server_command(launch, place)
        assert {"--unshare-net", "--unshare-pid", "--die-with-parent"} <= set(command)
        assert command[command.index(str(tmp_path / "tree")) - 1] == "--ro-bind"
        assert command[command.index(str(tmp_path / "toy")) - 1] == "--bind"


def test_what_cannot_work_is_refused_at_the_start(toy, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    toy()
    monkeypatch.setattr(lsp_session, "bubblewrap_works", lambda: False)
    with pytest.raises(ValueError, match="lsp_tool needs bubblewrap"):
        check_config(LspConfig(servers=("toy",)))
    check_config(LspConfig(servers=("toy",), isolation="none"))
    monkeypatch.setattr(ScriptedServer, "launch", lambda self, scratch, files: None)
    with pytest.raises(ValueError, match="no language server is installed here: it is always there"):
        check_config(LspConfig(servers=("toy",), isolation="none"))


def test_errors_are_one_tree() -> None:
    assert [
        issubclass(kind, RuntimeError) for kind in (LspRequestError, ServerEndedError, ServerGarbageError, ServerTimeoutError)
    ]


class TestEpisode:
    """An episode keeps its servers until it ends, however it ends."""

    @pytest.fixture
    async def sandbox(self, images: FolderImages) -> AsyncIterator[Sandbox]:
        backend = ProcessBackend(SandboxConfig(), images, owner="test-lsp")
        yield await backend.start(images.add("project", FILES), "/testbed")
        await backend.close()

    def servers(self) -> list[int]:
        """Processes of scripted servers below this one."""
        below = [process.pid for process in descendants(os.getpid(), live_processes())]
        return [pid for pid in below if b"import json, os, sys, time" in _command_line(pid)]

    async def test_servers_live_from_the_first_call_to_the_end(self, toy, sandbox: Sandbox) -> None:  # type: ignore[no-untyped-def]
        toy()
        alive: list[bool] = []
        lines = [render_action(ToolCall("lsp_tool", HOVER))] * 2 + [render_action(ToolCall("submit", {}))]
        trajectory = await self.play(sandbox, LinePolicy(CHAT, lines), lambda index, turn: alive.append(bool(self.servers())))
        assert [turn.observation for turn in trajectory.turns] == ["a toy", "a toy", ""]
        assert alive == [True, True, True]
        assert self.servers() == []

    async def test_servers_end_when_the_policy_breaks(self, toy, sandbox: Sandbox) -> None:  # type: ignore[no-untyped-def]
        toy()

        class BreakingPolicy(LinePolicy):
            async def __call__(self, request: GenerateRequest) -> Completion:
                if self.requests:
                    raise PolicyError("the engine is gone")
                return await super().__call__(request)

        with pytest.raises(PolicyError):
            await self.play(sandbox, BreakingPolicy(CHAT, [render_action(ToolCall("lsp_tool", HOVER))]))
        assert self.servers() == []

    async def play(self, sandbox: Sandbox, policy: LinePolicy, on_turn: Callable[[int, Turn], None] | None = None) -> Trajectory:
        config = EpisodeConfig(
            tools=("lsp_tool", "submit"), max_tokens=4000, max_tokens_per_turn=400, tool_timeout_s=60.0, lsp=toy_config()
        )
        problem = Problem("demo-1", "demo", "c0", "folder:project", "/testbed", "say what a toy is")
        settings: dict[str, object] = {"sample_index": 0, "policy_name": "lines", "temperature": 1.0, "seed": 0}
        return await run_episode(problem, sandbox, policy, CHAT, config, on_turn=on_turn, **settings)  # type: ignore[arg-type]


def _command_line(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""
