"""What the tests of lsp_tool share: a sandbox with a project, a tool that keeps its servers, and a server made of a script."""

import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest

from configs.lsp_config import LspConfig
from configs.sandbox_config import SandboxConfig
from envpool.action_format import ToolCall
from envpool.language_servers import LANGUAGE_SERVERS
from envpool.lsp.language_server import LanguageServer, Launch
from envpool.sandbox import Sandbox
from envpool.sandbox_parts.image_cache import FolderImages
from envpool.sandboxes.process_sandbox import ProcessBackend, bubblewrap_works
from envpool.tool import ToolLimits, call_tool
from envpool.tools.lsp_tool import LspTool

PATIENT = ToolLimits(timeout_s=100.0, max_observation_bytes=60_000, compact=False)
"""A shared machine may need long for a server's first answer; no test waits for that limit on purpose."""


def need_server(language: str) -> None:
    """Skips the test where the language's server is not installed."""
    server = LANGUAGE_SERVERS[language]
    if server.launch("/tmp", ()) is None:
        pytest.skip(f"no server for {server.title} here; run cluster/images/language_servers.sh ({server.install_hint})")


def usable_config(**changes: object) -> LspConfig:
    """With bubblewrap where it works, else without."""
    return LspConfig(isolation="bubblewrap" if bubblewrap_works() else "none", **changes)  # type: ignore[arg-type]


@dataclass
class Setting:
    """A sandbox and a tool for it. `ask` makes a call as the episode does and gives what the agent reads."""

    sandbox: Sandbox
    tool: LspTool

    async def ask(self, command: str, limits: ToolLimits = PATIENT, **arguments: object) -> str:
        call = ToolCall("lsp_tool", {"command": command, **{name: str(value) for name, value in arguments.items()}})
        return (await call_tool(call, {"lsp_tool": self.tool}, self.sandbox, limits)).text

    def pids(self, language: str) -> list[int]:
        assert self.tool.sessions is not None
        return self.tool.sessions[self.sandbox].running[language].pids


@asynccontextmanager
async def opened(images: FolderImages, files: dict[str, str], config: LspConfig) -> AsyncIterator[Setting]:
    """Everything is ended afterwards."""
    backend = ProcessBackend(SandboxConfig(isolation="auto"), images, owner="test-lsp")
    try:
        sandbox = await backend.start(images.add("project", files), "/testbed")
        tool = LspTool().opened(config)
        try:
            yield Setting(sandbox, tool)
        finally:
            await tool.close()
    finally:
        await backend.close()


SCRIPTED = """
import json, os, sys, time

def read():
    length = 0
    while (line := sys.stdin.buffer.readline().strip()):
        if line.lower().startswith(b"content-length:"):
            length = int(line.split(b":")[1])
    return json.loads(sys.stdin.buffer.read(length)) if length else sys.exit(0)

def write(message):
    body = json.dumps({"jsonrpc": "2.0", **message}).encode()
    sys.stdout.buffer.write(b"Content-Length: %d\\r\\n\\r\\n" % len(body) + body)
    sys.stdout.buffer.flush()

while True:
    message = read()
    method, number = message.get("method"), message.get("id")
    if method == "initialize":
        write({"id": number, "result": {"capabilities": {"definitionProvider": True}}})
    elif number is not None and method == "textDocument/hover":
        HOVER
    elif number is not None:
        write({"id": number, "result": None})
"""


@dataclass(frozen=True)
class ScriptedServer(LanguageServer):
    """A server for .toy files that keeps to the protocol until it is asked for a hover; then it does what `hover` says."""

    name: str = "toy"
    title: str = "Toy"
    suffixes: tuple[str, ...] = (".toy",)
    project_files: tuple[str, ...] = ()
    install_hint: str = "it is always there"
    language_ids: dict[str, str] = None  # type: ignore[assignment]
    hover: str = "write({'id': number, 'result': {'contents': 'a toy'}})"

    def launch(self, scratch: str, files: Sequence[str]) -> Launch | None:
        script = SCRIPTED.replace("HOVER", self.hover.replace("\n", "\n        "))
        return Launch((sys.executable, "-c", script), (sys.base_prefix, sys.prefix))

    def language_id(self, path: str) -> str:
        return "toy"
