"""The language servers of one sandbox: started on first use, kept, restarted after a crash, ended with the episode."""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from functools import cache
from pathlib import Path
from typing import TypeVar

from configs.lsp_config import LspConfig
from envpool.language_servers import select_servers
from envpool.lsp.language_server import LanguageServer
from envpool.lsp.language_session import LanguageSession
from envpool.lsp.lsp_errors import LspRefusalError, ServerBrokenError, ServerEndedError
from envpool.lsp.lsp_process import SCRATCH, ServerPlace
from envpool.lsp.sandbox_mirror import SandboxMirror
from envpool.sandbox import Sandbox
from envpool.sandbox_parts.sandbox_reaper import reap_folders, remove_folder, sandbox_folder
from envpool.sandboxes.process_sandbox import bubblewrap_works

logger = logging.getLogger(__name__)

OWNER = "lsp"
Result = TypeVar("Result")
_HELD: set[Path] = set()  # folders of this process's sessions


def check_config(config: LspConfig) -> None:
    """Raises ValueError when lsp_tool cannot work here with this configuration."""
    servers = select_servers(config.servers)
    if config.isolation not in ("bubblewrap", "none"):
        raise ValueError(f"lsp.isolation={config.isolation!r}: use bubblewrap or none")
    if config.isolation == "bubblewrap" and not bubblewrap_works():
        raise ValueError(
            "lsp_tool needs bubblewrap (bwrap is missing or may not make namespaces here): a language server reads code that "
            "nobody has checked; install it, take lsp_tool out of episode.tools, or set lsp.isolation=none to trust the code"
        )
    if not any(server.launch(SCRATCH, ()) for server in servers):
        hints = "; ".join(server.install_hint for server in servers)
        raise ValueError(f"lsp_tool is offered, but no language server is installed here: {hints}")


class LspSession:
    """Nothing is started before the first question. One question at a time."""

    def __init__(self, sandbox: Sandbox, config: LspConfig) -> None:
        self._sandbox, self._config = sandbox, config
        self._servers = select_servers(config.servers)
        self._isolated = config.isolation == "bubblewrap"
        self._running: dict[str, LanguageSession] = {}
        self._ended: Counter[str] = Counter()
        self._folder: Path | None = None
        self._mirror: SandboxMirror | None = None
        self._lock = asyncio.Lock()
        self._closed = False

    @property
    def running(self) -> dict[str, LanguageSession]:
        """The started servers by language."""
        return dict(self._running)

    async def ask(
        self,
        choose: Callable[[SandboxMirror], LanguageServer],
        question: Callable[[LanguageSession, SandboxMirror], Awaitable[Result]],
        deadline: float,
    ) -> Result:
        """The answer of the server that `choose` names, after it was told of every change. A server that dies meanwhile is
        started again, once. LspError, and SandboxError when the sandbox broke."""
        async with self._lock:
            mirror = await self._synced(deadline)
            server = choose(mirror)
            for is_last in (False, True):
                session = await self._started(server, mirror, deadline)
                try:
                    await session.settle(deadline)
                    return await question(session, mirror)
                except ServerBrokenError as error:
                    why = session.why_broken(error)
                    await self._end(server.name, why)
                    if is_last or not isinstance(error, ServerEndedError):
                        raise type(error)(f"{why}; it is started again by the next call") from error
        raise AssertionError("unreachable: the last try returns or raises")

    def language_of(self, path: str) -> LanguageServer:
        """The server for a file. LspRefusalError when there is none."""
        for server in self._servers:
            if server.reads(path):
                return server
        known = ", ".join(suffix for server in self._servers for suffix in server.suffixes)
        raise LspRefusalError(f"no language server reads {path}; known suffixes: {known}")

    def main_language(self, mirror: SandboxMirror) -> LanguageServer:
        """The one with the most files. LspRefusalError when no file has a server."""
        counts = Counter({server.name: sum(map(server.reads, mirror.files)) for server in self._servers})
        name, count = counts.most_common(1)[0]
        if count == 0:
            raise LspRefusalError(f"no file in {self._sandbox.workdir} has a language server")
        return next(server for server in self._servers if server.name == name)

    async def close(self) -> None:
        """End all servers and remove the copy, also when the caller is cancelled meanwhile. Idempotent."""
        self._closed = True
        await asyncio.shield(asyncio.ensure_future(self._close()))

    async def _close(self) -> None:
        sessions, self._running = list(self._running.values()), {}
        for ended in await asyncio.gather(*(session.close() for session in sessions), return_exceptions=True):
            if isinstance(ended, Exception):
                logger.warning("a language server could not be ended cleanly: %s", ended)
        folder, self._folder = self._folder, None
        if folder is not None:
            if not await asyncio.to_thread(remove_folder, folder):
                logger.warning("cannot remove the folder %s", folder)
            _HELD.discard(folder)

    async def _synced(self, deadline: float) -> SandboxMirror:
        if self._closed:
            raise LspRefusalError("the episode is over")
        if self._mirror is None:
            await asyncio.to_thread(_reap)
            self._folder = await asyncio.to_thread(sandbox_folder, OWNER, _HELD)
            tree = self._folder / "tree"
            tree.mkdir()
            patterns = [f"*{suffix}" for server in self._servers for suffix in server.suffixes]
            patterns += [name for server in self._servers for name in server.project_files]
            self._mirror = SandboxMirror(self._sandbox, tree, tuple(patterns), self._config, with_links=self._isolated)
        changes = await self._mirror.sync(max(deadline - time.monotonic(), 0.1))
        if changes:
            files = set(self._mirror.files)
            for name, session in self.running.items():
                try:
                    knows = await session.tell(changes, files)
                except ServerBrokenError:
                    continue  # who asks next finds it broken
                if not knows:
                    await session.close()
                    del self._running[name]
        return self._mirror

    async def _started(self, server: LanguageServer, mirror: SandboxMirror, deadline: float) -> LanguageSession:
        session = self._running.get(server.name)
        if session is not None and session.client.broken is None:
            return session
        if session is not None:
            assert session.client.broken is not None
            await self._end(server.name, session.why_broken(session.client.broken))
        if self._ended[server.name] > self._config.max_restarts:
            raise LspRefusalError(f"the server for {server.title} ended {self._ended[server.name]} times and stays off now")
        assert self._folder is not None
        place = ServerPlace(self._isolated, self._folder / "tree", self._folder / server.name, self._sandbox.workdir)
        try:
            session = await LanguageSession.start(server, mirror, place, self._config, deadline)
        except ServerBrokenError as error:
            self._ended[server.name] += 1
            raise type(error)(f"the server for {server.title} does not start: {error}") from error
        self._running[server.name] = session
        return session

    async def _end(self, name: str, why: str) -> None:
        session = self._running.pop(name, None)
        if session is not None:
            logger.info("language server %s ended: %s", name, why)
            self._ended[name] += 1
            await session.close()


@cache
def _reap() -> None:
    """Once per process: remove what killed processes left behind."""
    reap_folders(OWNER)
