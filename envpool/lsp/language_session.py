"""One language server of one sandbox, started and told of every change."""

import asyncio
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from configs.lsp_config import LspConfig
from envpool.lsp.language_server import LanguageServer
from envpool.lsp.lsp_client import LspClient
from envpool.lsp.lsp_documents import LspDocuments, file_uri
from envpool.lsp.lsp_errors import LspRefusalError, ServerBrokenError, ServerEndedError
from envpool.lsp.lsp_process import ServerPlace, ServerProcess, processes_of
from envpool.lsp.sandbox_mirror import Changes, SandboxMirror

INDEX_BEGINS_S = 1.5
"""A server that has not reported an index by then has none to build."""
RELIST_S = 5.0
CAPABILITIES: Mapping[str, Any] = {
    "general": {"positionEncodings": ["utf-16"]},
    "window": {"workDoneProgress": True},
    "workspace": {
        "configuration": True,
        "workspaceFolders": True,
        "didChangeConfiguration": {"dynamicRegistration": True},
        "didChangeWatchedFiles": {"dynamicRegistration": True},
        "symbol": {},
    },
    "textDocument": {
        "synchronization": {"didSave": True},
        "hover": {"contentFormat": ["plaintext", "markdown"]},
        "definition": {"linkSupport": False},
        "typeDefinition": {"linkSupport": False},
        "implementation": {"linkSupport": False},
        "references": {},
        "documentHighlight": {},
        "documentSymbol": {"hierarchicalDocumentSymbolSupport": True},
        "callHierarchy": {},
        "publishDiagnostics": {"versionSupport": True},
        "diagnostic": {"dynamicRegistration": True},
    },
}


class LanguageSession:
    """`documents` are what the server has open, `capabilities` what it can do. Times are deadlines of `time.monotonic`."""

    def __init__(self, server: LanguageServer, process: ServerProcess, client: LspClient, documents: LspDocuments) -> None:
        self.server, self.client, self.documents = server, client, documents
        self._process = process
        self.capabilities: Mapping[str, Any] = {}
        self._index_begun = self._patience_spent = False
        self._listings_due = 1 if server.relisted else 0

    @classmethod
    async def start(
        cls, server: LanguageServer, mirror: SandboxMirror, place: ServerPlace, config: LspConfig, deadline: float
    ) -> "LanguageSession":
        """A server that has answered `initialize`. LspRefusalError where it is not installed, ServerBrokenError."""
        launch = server.launch(place.scratch, mirror.files)
        if launch is None:
            raise LspRefusalError(f"no server for {server.title} is installed where the sandboxes run ({server.install_hint})")
        await asyncio.to_thread(_prepare, server, mirror, place)
        process = await ServerProcess.start(launch, place, config.memory_mib)
        client = LspClient(process, server.section, server.relisted)
        documents = LspDocuments(server, client, mirror.folder, place.root, config.max_file_kib * 1024)
        session = cls(server, process, client, documents)
        client.start()
        try:
            await session._initialize(place.root, min(deadline, time.monotonic() + config.start_timeout_s))
        except BaseException:
            await session.close()
            raise
        return session

    @property
    def pids(self) -> list[int]:
        """The server's processes on this machine."""
        return processes_of(self._process.pid)

    def why_broken(self, error: ServerBrokenError) -> str:
        return f"the server was ended: {self._process.killed_because}" if self._process.killed_because else str(error)

    async def request(self, method: str, params: Mapping[str, Any], deadline: float) -> Any:
        """See LspClient.request."""
        return await self.client.request(method, params, deadline - time.monotonic())

    async def tell(self, changes: Changes, files: set[str]) -> bool:
        """False when the server must be started afresh to know of the changes."""
        if self.server.relisted and (changes.created or changes.deleted):
            self._listings_due = self.client.num_counted + 1
        return await self.documents.tell(changes, files)

    async def settle(self, deadline: float) -> None:
        """Until the server knows which files there are, at most `RELIST_S`."""
        left = min(RELIST_S, deadline - time.monotonic())
        await self.client.wait_until(lambda: self.client.num_counted >= self._listings_due, left)

    async def index_is_complete(self, any_path: str, patience_s: float, deadline: float) -> bool:
        """Wait for the server's index of the project, at most until shortly before the deadline, and at most `patience_s`: of
        those who are less than patient only the first one waits."""
        if not self.documents.open_paths:
            await self.documents.shown(any_path)
        if not self.server.waits_for_index:
            return True
        if not self._index_begun:
            left = deadline - time.monotonic()
            await self.client.wait_until(lambda: self.client.num_reports > 0, min(INDEX_BEGINS_S, left))
            self._index_begun = True
        left = deadline - time.monotonic()
        if patience_s < left:
            patience_s, self._patience_spent = 0.0 if self._patience_spent else patience_s, True
        return await self.client.wait_until(lambda: not self.client.busy, min(patience_s, left - min(left / 4, 5.0)))

    async def close(self) -> None:
        """Kill the server with all it started. Idempotent."""
        await self.client.close()

    async def _initialize(self, root: str, deadline: float) -> None:
        params = {
            "processId": None,  # a process of another namespace: the server would miss it and end itself
            "clientInfo": {"name": "swe-master"},
            "rootPath": root,
            "rootUri": file_uri(root),
            "workspaceFolders": [{"uri": file_uri(root), "name": "repository"}],
            "capabilities": CAPABILITIES,
            "initializationOptions": dict(self.server.initialization_options),
        }
        result = await self.request("initialize", params, deadline)
        if not isinstance(result, dict) or not isinstance(result.get("capabilities"), dict):
            raise ServerEndedError(f"the server's answer to initialize is no description of itself: {str(result)[:100]}")
        self.capabilities = result["capabilities"]
        await self.client.notify("initialized", {})
        await self.client.notify("workspace/didChangeConfiguration", {"settings": self.server.configuration})


def _prepare(server: LanguageServer, mirror: SandboxMirror, place: ServerPlace) -> None:
    place.writable.mkdir(parents=True, exist_ok=True)
    for name, data in server.prepared_files(mirror.files, place.root).items():
        Path(place.writable, name).write_bytes(data)
    os.makedirs(place.writable / "cache", exist_ok=True)
