"""Ask a language server about the sandbox's code. The server runs beside the sandbox, on a copy that is brought up to date before
every question; nothing is installed into the sandbox."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from configs.lsp_config import LspConfig
from configs.rollout_config import EpisodeConfig
from envpool.lsp.language_server import LanguageServer
from envpool.lsp.language_session import LanguageSession
from envpool.lsp.lsp_errors import LspError, LspRefusalError
from envpool.lsp.lsp_questions import COMMANDS, NEEDS, Answer, Asking, Question, headline
from envpool.lsp.lsp_session import LspSession, check_config
from envpool.lsp.sandbox_mirror import SandboxMirror
from envpool.sandbox import Sandbox
from envpool.tool import JsonSchema, Observation, ToolLimits

SPARE_S = 0.5
"""Of a call's time, kept for saying that the server was too slow."""

_PARAMETERS: JsonSchema = {
    "type": "object",
    "properties": {
        "command": {"type": "string", "enum": list(COMMANDS), "description": "What to ask."},
        "file_path": {
            "type": "string",
            "description": "Source file, absolute or relative to the repository; get_workspace_symbols: only for its language.",
        },
        "line": {"type": "integer", "description": "Line of the symbol, counted from 1."},
        "symbol": {"type": "string", "description": "The symbol as it stands on that line; a dotted name means its last part."},
        "query": {"type": "string", "description": "get_workspace_symbols: the name, or a part of it."},
    },
    "required": ["command"],
}


@dataclass(frozen=True)
class LspTool:
    """The entry of TOOLS keeps nothing: a call of it starts a server and ends it. `for_episode` gives one that keeps its
    servers until `close`."""

    name: str = "lsp_tool"
    description: str = (
        "Ask a language server about the code (Python, TypeScript, JavaScript, C, C++, Go): where a symbol is defined, "
        "implemented and used, its type and documentation, the outline of a file, symbols of the whole repository by name, "
        "who calls a function and whom it calls, and errors in a file after an edit. Answers include your latest changes. "
        "Commands about a symbol need file_path, line and symbol; get_document_symbols and get_diagnostics need file_path; "
        "get_workspace_symbols needs query."
    )
    parameters: JsonSchema = field(default_factory=lambda: _PARAMETERS)
    config: LspConfig = field(default_factory=LspConfig)
    sessions: dict[Sandbox, LspSession] | None = None

    def for_episode(self, config: EpisodeConfig) -> "LspTool":
        """With servers of its own. Raises ValueError when none can be started here with this configuration."""
        return self.opened(config.lsp)

    def opened(self, config: LspConfig) -> "LspTool":
        """As `for_episode`."""
        check_config(config)
        return replace(self, config=config, sessions={})

    async def close(self) -> None:
        """End all servers. Idempotent."""
        while self.sessions:
            _, session = self.sessions.popitem()
            await session.close()

    async def __call__(self, sandbox: Sandbox, arguments: Mapping[str, str], limits: ToolLimits) -> Observation:
        if self.sessions is None:
            try:
                opened = self.opened(self.config)
            except ValueError as error:
                return limits.say(str(error), f"Status: failure ({arguments['command']}): {error}")
            try:
                return await opened(sandbox, arguments, limits)
            finally:
                await opened.close()
        session = self.sessions.get(sandbox)
        if session is None:
            session = self.sessions[sandbox] = LspSession(sandbox, self.config)
        try:
            question, answer, notes = await _ask(session, sandbox.workdir, arguments, limits)
        except LspError as error:
            return limits.say(f"error: {error}", f"Status: failure ({arguments['command']}): {error}")
        lines = [f"Status: success ({headline(question, answer.summary)})", *(f"Note: {note}" for note in notes)]
        if answer.long:
            lines += ["[Result]", answer.long]
        return limits.say(answer.short, "\n".join(lines))


async def _ask(
    session: LspSession, workdir: str, arguments: Mapping[str, str], limits: ToolLimits
) -> tuple[Question, Answer, list[str]]:
    command = arguments["command"]
    for name in NEEDS[command]:
        if not arguments.get(name, "").strip():
            raise LspRefusalError(f"{command} needs the parameter {name}")
    deadline = time.monotonic() + max(limits.timeout_s - SPARE_S, limits.timeout_s / 2)
    question = Question(
        command, line=int(arguments.get("line") or 0), symbol=arguments.get("symbol", ""), query=arguments.get("query", "")
    )
    path, notes = arguments.get("file_path", "").strip(), list[str]()

    async def put(running: LanguageSession, mirror: SandboxMirror) -> tuple[Question, Answer]:
        found = replace(question, path=relative_path(mirror, path, workdir) if path else "")
        asking = Asking(found, running, mirror, workdir, deadline)
        answer = await COMMANDS[command](asking)
        if asking.note:
            notes[:] = [asking.note]
        return found, answer

    def choose(mirror: SandboxMirror) -> LanguageServer:
        if not path:
            return session.main_language(mirror)
        return session.language_of(relative_path(mirror, path, workdir))

    asked, answer = await session.ask(choose, put, deadline)
    return asked, answer, notes


def relative_path(mirror: SandboxMirror, path: str, workdir: str) -> str:
    """The file's path below the repository, symlinks followed. LspRefusalError when there is no such source file."""
    try:
        found = mirror.folder.resolved(path)
    except PermissionError as error:
        why = "leads round in circles" if "symbolic links" in str(error) else f"is outside the repository {workdir}"
        raise LspRefusalError(f"{path} {why}") from error
    except (OSError, ValueError) as error:
        raise LspRefusalError(f"{path[:200]!r} is no path of a file: {error}") from error
    if found in mirror.left_out:
        raise LspRefusalError(f"{path} is not shown to the language servers: {mirror.left_out[found]}")
    if not mirror.has(found):
        raise LspRefusalError(f"there is no source file {path} that a language server reads")
    return found
