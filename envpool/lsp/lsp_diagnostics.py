"""What a server finds wrong with a file as it is now."""

import time
from dataclasses import dataclass
from typing import Any

from envpool.lsp.language_session import LanguageSession
from envpool.lsp.lsp_errors import LspRequestError, ServerGarbageError
from envpool.lsp.lsp_positions import lines_of

BUSY_S = 5.0
"""How long a server that reports progress may go on after it has published something for the text."""
SEVERITIES = ("error", "warning", "information", "hint")
TSSERVER_CHECKS = ("syntacticDiagnosticsSync", "semanticDiagnosticsSync")
TSSERVER_SEVERITIES = {"error": 0, "warning": 1, "suggestion": 3, "message": 2}


@dataclass(frozen=True, order=True)
class Finding:
    """Line and column from 1; severity is an index of SEVERITIES."""

    line: int
    column: int
    severity: int
    message: str
    code: str


async def diagnose(session: LanguageSession, path: str, deadline: float) -> list[Finding]:
    """Errors and warnings of an open file, in the order of the text. LspError."""
    way = session.server.diagnostics
    if way == "tsserver":
        found = await _ask_tsserver(session, path, deadline)
    elif way == "pull":
        uri = session.documents.uri(path)
        report = await session.request("textDocument/diagnostic", {"textDocument": {"uri": uri}}, deadline)
        found = [_finding(item) for item in _list_of(report, "items")]
    else:
        found = [_finding(item) for item in await _await_published(session, path, deadline)]
    return sorted(set(finding for finding in found if finding.severity < 2))


async def _await_published(session: LanguageSession, path: str, deadline: float) -> list[Any]:
    """What the server publishes for the file's text; an open file is sent again, since others may have changed."""
    client, uri = session.client, session.documents.uri(path)
    before = client.published.get(uri, 0)
    version = await session.documents.nudge(path)
    try:
        # A version tells new from old; a server without versions is believed when it says anything more.
        fresh = await client.wait_until(
            lambda: client.published.get(uri, 0) > before and client.versions[uri] in (version, None),
            deadline - time.monotonic(),
        )
        await client.wait_until(lambda: not client.busy, min(BUSY_S, deadline - time.monotonic()))
    finally:
        await session.documents.restore(path)
    if not fresh:
        raise LspRequestError("the server has not published what it found in time")
    return client.diagnostics[uri]


async def _ask_tsserver(session: LanguageSession, path: str, deadline: float) -> list[Finding]:
    found = []
    for check in TSSERVER_CHECKS:
        arguments = [check, {"file": session.documents.full_path(path), "includeLinePosition": False}]
        params = {"command": "typescript.tsserverRequest", "arguments": arguments}
        for item in _list_of(await session.request("workspace/executeCommand", params, deadline), "body"):
            try:
                line, column = int(item["start"]["line"]), int(item["start"]["offset"])
                severity = TSSERVER_SEVERITIES.get(str(item["category"]), 0)
                found.append(Finding(line, column, severity, one_line(item["text"]), str(item.get("code", ""))))
            except (TypeError, KeyError, ValueError, AttributeError) as error:
                raise ServerGarbageError(f"no diagnostic: {str(item)[:100]}") from error
    return found


def _finding(item: Any) -> Finding:
    try:
        line, _, column = lines_of(item["range"])
        severity = int(item.get("severity") or 1) - 1
        return Finding(line, column, severity, one_line(item["message"]), str(item.get("code") or ""))
    except (TypeError, KeyError, ValueError, AttributeError) as error:
        raise ServerGarbageError(f"no diagnostic: {str(item)[:100]}") from error


def _list_of(value: Any, key: str) -> list[Any]:
    if value is None:
        return []
    found = value.get(key, []) if isinstance(value, dict) else None
    if not isinstance(found, list):
        raise ServerGarbageError(f"no list of {key}: {str(value)[:100]}")
    return found


def one_line(text: Any) -> str:
    """Text without line ends, cut at 300 characters."""
    return " ".join(str(text).split())[:300]
