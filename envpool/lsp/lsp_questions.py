"""What can be asked of a language server, and how its answers read. One function for each command of lsp_tool."""

import math
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from envpool.lsp.language_session import LanguageSession
from envpool.lsp.lsp_diagnostics import SEVERITIES, diagnose, one_line
from envpool.lsp.lsp_errors import LspRefusalError, LspRequestError, ServerGarbageError
from envpool.lsp.lsp_positions import Place, find_position, first_name, lines_of, split_lines
from envpool.lsp.lsp_symbols import Symbol, enclosing, kind_name, outline, parse_symbols, source_lines
from envpool.lsp.sandbox_mirror import SandboxMirror

MAX_SOURCES = 5
"""So many locations are shown with their source, more of them by path and line."""
MAX_LOCATIONS = 200
MAX_FILES = 100
"""Files in the answer to a workspace query (SWE-Master's limit)."""
MAX_FINDINGS = 100
INDEX_S = 2.5
"""How long a definition waits for the project's index: without it, a declaration in sight may be all that is found."""
HIGHLIGHTS = {1: "text", 2: "read", 3: "write"}


@dataclass(frozen=True)
class Question:
    """The arguments of one call. `path` is relative to the repository; "" and 0 where there is none."""

    command: str
    path: str = ""
    line: int = 0
    symbol: str = ""
    query: str = ""


@dataclass(frozen=True)
class Answer:
    """`summary` is one phrase. `long` shows sources, `short` only names, paths and lines (for small models)."""

    summary: str
    long: str
    short: str


class Asking:
    """A question, the server that is asked, and the files; `deadline` is a time of `time.monotonic`."""

    def __init__(
        self, question: Question, session: LanguageSession, mirror: SandboxMirror, workdir: str, deadline: float
    ) -> None:
        self.question, self.session, self.mirror, self.deadline = question, session, mirror, deadline
        self._workdir = workdir
        self.note = ""

    async def at_symbol(self, method: str, extra: Mapping[str, Any] | None = None) -> Any:
        """The answer to a request about the symbol on the line."""
        return await self.request(method, {**await self.position(), **(extra or {})})

    async def position(self) -> dict[str, Any]:
        """The symbol's place as the protocol wants it. LspRefusalError when it is not on the line."""
        question, documents = self.question, self.session.documents
        text = await documents.shown(question.path)
        symbol = question.symbol or first_name(text, question.path, question.line)
        position, count = find_position(text, question.path, question.line, symbol)
        if count > 1:
            self.note = f"{symbol!r} stands {count} times on line {question.line}; the first was asked about"
        return {"textDocument": {"uri": documents.uri(question.path)}, "position": position}

    async def request(self, method: str, params: Mapping[str, Any]) -> Any:
        return await self.session.request(method, params, self.deadline)

    async def symbols(self, path: str) -> tuple[Symbol, ...]:
        """Of a file of the repository."""
        await self.session.documents.shown(path)
        uri = self.session.documents.uri(path)
        return parse_symbols(await self.request("textDocument/documentSymbol", {"textDocument": {"uri": uri}}))

    async def need_index(self, patience_s: float = math.inf) -> None:
        """Wait until the server knows the whole project; the answer says so when that takes too long."""
        files = [path for path in self.mirror.files if self.session.server.reads(path)]
        if files and not await self.session.index_is_complete(self.question.path or files[0], patience_s, self.deadline):
            self.note = "the server still reads the project; ask again later for a complete answer"

    def require(self, capability: str) -> None:
        if not self.session.capabilities.get(capability):
            raise LspRefusalError(f"the server for {self.session.server.title} cannot answer {self.question.command}")

    def place(self, uri: Any, span: Any) -> Place:
        first, last, column = lines_of(span)
        return Place(self.session.documents.path(str(uri)), first, last, column)

    def places(self, value: Any) -> list[Place]:
        """Of an answer with one location, several, or none; each once, the repository's own first."""
        if value is None:
            return []
        found: dict[tuple[str, int, int], Place] = {}
        for item in value if isinstance(value, list) else [value]:
            try:
                linked = "targetUri" in item
                place = self.place(item["targetUri" if linked else "uri"], item["targetSelectionRange" if linked else "range"])
            except (TypeError, KeyError) as error:
                raise ServerGarbageError(f"no location: {str(item)[:100]}") from error
            if self.exists(place.path):
                found.setdefault((place.path, place.line, place.column), place)
        return sorted(found.values(), key=lambda place: (place.path.startswith("/"), place.path, place.line, place.column))

    def exists(self, path: str) -> bool:
        """False for a file of the repository that is gone, whatever the server still remembers of it."""
        if path.startswith("/") or self.mirror.has(path):
            return True
        try:
            return self.mirror.has(self.mirror.folder.resolved(path))  # below a linked folder
        except OSError:
            return False

    def name(self, path: str) -> str:
        """A path as the agent knows it; files outside the repository by what they belong to.

        Those are of this machine, not of the sandbox: the server's own descriptions of the standard library.
        """
        if not path.startswith("/"):
            return f"{self._workdir}/{path}"
        for folder in ("typeshed-fallback/", "node_modules/"):
            if folder in path:
                return f"<{folder.rstrip('/')}>/{path.rpartition(folder)[2]}"
        return f"<outside the repository>{path}"

    def lines(self, path: str) -> list[str]:
        """The lines of a file of the repository, none of any other."""
        if path.startswith("/") or path not in self.mirror.files:
            return []
        try:
            return split_lines(self.mirror.folder.read(path, 64 << 20).decode("utf-8", "replace"))
        except OSError:
            return []

    async def with_source(self, place: Place) -> str:
        """The place and the source of the function or class around it, numbered."""
        lines = self.lines(place.path)
        if not lines:
            return f"{self.name(place.path)}, line {place.line}"
        symbol = self.session.server.enclosing_in_text("\n".join(lines), place.line)
        with suppress(LspRequestError):
            symbol = symbol or enclosing(await self.symbols(place.path), place.line)
        first, last = source_lines(lines, symbol, place.line)
        what = f" in {symbol.kind} {symbol.name}" if symbol is not None else ""
        numbered = "\n".join(f"{number:>6} {lines[number - 1]}" for number in range(first, last + 1))
        cut = symbol is not None and (symbol.first, symbol.last) != (first, last)
        shown = f"lines {first} to {last}" if first < last else f"line {first}"
        if cut and symbol is not None:
            shown += f" of {symbol.first} to {symbol.last}"
        return f"{self.name(place.path)}, line {place.line}{what} ({shown}):\n{numbered}"

    def with_line(self, place: Place) -> str:
        lines = self.lines(place.path)
        text = lines[place.line - 1].strip()[:200] if place.line <= len(lines) else ""
        return f"{self.name(place.path)}:{place.line}: {text}".removesuffix(": ")


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


async def _locations(asking: Asking, method: str, capability: str) -> Answer:
    asking.require(capability)
    if asking.session.server.waits_for_index:
        await asking.need_index(INDEX_S)
    places = asking.places(await asking.at_symbol(method))
    if not places:
        return Answer("nothing found", "", "nothing found")
    parts = [await asking.with_source(place) for place in places[:MAX_SOURCES]]
    parts += [asking.with_line(place) for place in places[MAX_SOURCES:MAX_LOCATIONS]]
    short = "\n".join(asking.with_line(place) for place in places[:MAX_LOCATIONS])
    return Answer(_plural(len(places), "location"), "\n\n".join(parts), short)


async def definition(asking: Asking) -> Answer:
    return await _locations(asking, "textDocument/definition", "definitionProvider")


async def type_definition(asking: Asking) -> Answer:
    return await _locations(asking, "textDocument/typeDefinition", "typeDefinitionProvider")


async def implementation(asking: Asking) -> Answer:
    return await _locations(asking, "textDocument/implementation", "implementationProvider")


async def references(asking: Asking) -> Answer:
    await asking.need_index()
    found = asking.places(await asking.at_symbol("textDocument/references", {"context": {"includeDeclaration": True}}))
    if not found:
        return Answer("nothing found", "", "nothing found")
    by_file: dict[str, list[Place]] = defaultdict(list)
    for place in found[:MAX_LOCATIONS]:
        by_file[place.path].append(place)
    parts = []
    for path, places in by_file.items():
        lines = asking.lines(path)
        parts.append(f"{asking.name(path)} ({_plural(len(places), 'reference')}):")
        for number in dict.fromkeys(place.line for place in places):
            parts.append(f"{number:>6} {lines[number - 1].strip()[:200] if number <= len(lines) else ''}".rstrip())
    if len(found) > MAX_LOCATIONS:
        parts.append(f"... and {len(found) - MAX_LOCATIONS} more")
    summary = f"{_plural(len(found), 'reference')} in {_plural(len({place.path for place in found}), 'file')}"
    short = "\n".join(f"{asking.name(path)}:{','.join(str(place.line) for place in places)}" for path, places in by_file.items())
    return Answer(summary, "\n".join(parts), short)


async def hover(asking: Asking) -> Answer:
    result = await asking.at_symbol("textDocument/hover")
    text = _hover_text(result.get("contents") if isinstance(result, dict) else None).strip()
    return Answer("found" if text else "nothing found", text, text or "nothing found")


def _hover_text(contents: Any) -> str:
    if isinstance(contents, list):
        return "\n".join(part for part in map(_hover_text, contents) if part)
    if isinstance(contents, dict):
        return str(contents.get("value", ""))
    return contents if isinstance(contents, str) else ""


async def document_symbols(asking: Asking) -> Answer:
    lines = list(outline(await asking.symbols(asking.question.path)))
    text = "\n".join(lines)
    return Answer(_plural(len(lines), "symbol") if lines else "nothing found", text, text or "nothing found")


async def workspace_symbols(asking: Asking) -> Answer:
    await asking.need_index()
    found = await asking.request("workspace/symbol", {"query": asking.question.query})
    if found is not None and not isinstance(found, list):
        raise ServerGarbageError(f"no list of symbols: {str(found)[:100]}")
    rows: list[tuple[bool, str]] = []
    files: set[str] = set()
    left_out = 0
    for item in found or []:
        try:
            place = asking.place(item["location"]["uri"], item["location"]["range"])
            name, kind, container = str(item["name"]), kind_name(item["kind"]), str(item.get("containerName") or "")
        except (TypeError, KeyError, AttributeError) as error:
            raise ServerGarbageError(f"no symbol: {str(item)[:100]}") from error
        if place.path.startswith("/") or not asking.exists(place.path):
            continue
        if len(rows) >= MAX_LOCATIONS or (place.path not in files and len(files) >= MAX_FILES):
            left_out += 1
            continue
        files.add(place.path)
        within = f" in {container}" if container else ""
        rows.append((name != asking.question.query, f"{name} ({kind}){within} at {asking.name(place.path)} (line {place.line})"))
    rows.sort(key=lambda row: row[0])  # exact names first, else the server's order
    text = "\n".join(row for _, row in rows) + (f"\n... and {left_out} more" if left_out else "")
    return Answer(_plural(len(rows) + left_out, "symbol") if rows else "nothing found", text, text or "nothing found")


async def call_hierarchy(asking: Asking) -> Answer:
    asking.require("callHierarchyProvider")
    await asking.need_index()
    items = await asking.at_symbol("textDocument/prepareCallHierarchy")
    if not items:
        raise LspRefusalError(f"{asking.question.symbol or 'what stands there'} is nothing that is called")
    if not isinstance(items, list) or not isinstance(items[0], dict):
        raise ServerGarbageError(f"no call hierarchy: {str(items)[:100]}")
    incoming, num_in = await _calls(asking, items[0], "incomingCalls", "from")
    outgoing, num_out = await _calls(asking, items[0], "outgoingCalls", "to")
    text = f"Incoming calls:\n{incoming}\nOutgoing calls:\n{outgoing}"
    return Answer(f"{num_in} incoming, {num_out} outgoing", text, text)


async def _calls(asking: Asking, item: Mapping[str, Any], method: str, end: str) -> tuple[str, str]:
    """One line for each function at the other end, and how many there are."""
    try:
        calls = await asking.request(f"callHierarchy/{method}", {"item": item})
    except LspRequestError:
        return f"  (the server for {asking.session.server.title} cannot tell)", "unknown"
    rows = []
    for call in calls or []:
        try:
            other = call[end]
            place = asking.place(other["uri"], other["selectionRange"])
            lines = sorted({lines_of(span)[0] for span in call["fromRanges"]})
        except (TypeError, KeyError) as error:
            raise ServerGarbageError(f"no call: {str(call)[:100]}") from error
        where = f"called on line {', '.join(map(str, lines))}"
        rows.append(f"  {other.get('name')} ({kind_name(other.get('kind'))}) at {asking.name(place.path)}:{place.line}, {where}")
    return "\n".join(rows[:MAX_LOCATIONS]) or "  (none)", str(len(rows))


async def document_highlights(asking: Asking) -> Answer:
    asking.require("documentHighlightProvider")
    found = await asking.at_symbol("textDocument/documentHighlight")
    if found is not None and not isinstance(found, list):
        raise ServerGarbageError(f"no list of highlights: {str(found)[:100]}")
    lines = asking.lines(asking.question.path)
    rows: list[tuple[int, str]] = []
    for item in found or []:
        try:
            line, kind = lines_of(item["range"])[0], HIGHLIGHTS.get(item.get("kind", 1), "text")
        except (TypeError, KeyError, AttributeError) as error:
            raise ServerGarbageError(f"no highlight: {str(item)[:100]}") from error
        rows.append((line, f"{line:>6} {kind:<5} {lines[line - 1].strip()[:200] if line <= len(lines) else ''}"))
    text = "\n".join(row for _, row in sorted(set(rows)))
    return Answer(_plural(len(rows), "highlight") if rows else "nothing found", text, text or "nothing found")


async def diagnostics(asking: Asking) -> Answer:
    path = asking.question.path
    await asking.session.documents.open(path)
    found = await diagnose(asking.session, path, asking.deadline)
    rows = []
    for finding in found[:MAX_FINDINGS]:
        code = f" [{finding.code}]" if finding.code else ""
        rows.append(
            f"{asking.name(path)}:{finding.line}:{finding.column}: {SEVERITIES[finding.severity]}: {finding.message}{code}"
        )
    if len(found) > MAX_FINDINGS:
        rows.append(f"... and {len(found) - MAX_FINDINGS} more")
    num_errors = sum(finding.severity == 0 for finding in found)
    summary = f"{_plural(num_errors, 'error')}, {_plural(len(found) - num_errors, 'warning')}"
    return Answer(summary, "\n".join(rows), "\n".join(rows) or summary)


COMMANDS: Mapping[str, Callable[[Asking], Awaitable[Answer]]] = {
    "get_definition": definition,
    "get_type_definition": type_definition,
    "get_implementation": implementation,
    "get_references": references,
    "get_hover": hover,
    "get_document_symbols": document_symbols,
    "get_workspace_symbols": workspace_symbols,
    "get_call_hierarchy": call_hierarchy,
    "get_document_highlights": document_highlights,
    "get_diagnostics": diagnostics,
}
NEEDS: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(COMMANDS, ("file_path", "line", "symbol")),
    "get_hover": ("file_path", "line"),
    "get_document_symbols": ("file_path",),
    "get_workspace_symbols": ("query",),
    "get_diagnostics": ("file_path",),
}
"""Arguments that a command cannot do without."""


def headline(question: Question, summary: str) -> str:
    """
    >>> headline(Question("get_hover", "a.py", 3, "f"), "found")
    "get_hover of 'f' on line 3 of a.py: found"
    """
    what = f" of {question.symbol!r}" if question.symbol else f" of {question.query!r}" if question.query else ""
    where = f" on line {question.line} of {question.path}" if question.line else f" in {question.path}" if question.path else ""
    return f"{question.command}{what}{where}: {one_line(summary)}"
