"""From a symbol on a line to a position of the protocol, and from the protocol's values to plain ones.

Columns of the protocol count UTF-16 code units (LSP 3.17, position encodings)."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from envpool.lsp.lsp_errors import LspRefusalError, ServerGarbageError

MAX_LINE_CHARS = 10_000
NEAR_LINES = 5
_WORD = r"[^\W\d][\w$]*|\$[\w$]*"
# String literals that end on their line, comments to its end, words: the first that matches at a place wins.
_TOKEN = re.compile(
    r"""(?P<text>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'|`(?:[^`\\\n]|\\.)*`|//[^\n]*|\#[^\n]*|/\*.*?\*/)|(?P<word>"""
    + _WORD
    + r"|\d[\w.]*)"
)
_NAME = re.compile(_WORD)


@dataclass(frozen=True)
class Place:
    """A range of lines in a file, counted from 1; `path` is relative to the repository, or absolute outside of it."""

    path: str
    line: int
    last_line: int
    column: int


def symbol_columns(line: str, symbol: str) -> list[int]:
    """Where a symbol stands on a line as a whole word, in characters: in code first, then in strings and comments. Of a dotted
    name the last part counts, where the whole of it stands.

    >>> symbol_columns('area = "area" + subarea(area)', "area")
    [0, 24, 8]
    >>> symbol_columns("x = self.shape.area()", "shape.area"), symbol_columns("def f(): pass", "g")
    ([15], [])
    """
    parts = [re.escape(part) for part in re.split(r"\s*(?:\.|::|->)\s*", symbol.strip()) if part]
    if not parts or len(line) > MAX_LINE_CHARS:
        return []
    between = r"\s*(?:\.|::|->)\s*"
    wanted = re.compile(rf"(?<![\w$]){between.join(parts[:-1])}{between if parts[:-1] else ''}({parts[-1]})(?![\w$])")
    in_text = [(found.start(), found.end()) for found in _TOKEN.finditer(line) if found["text"] is not None]
    columns = [found.start(1) for found in wanted.finditer(line)]
    return sorted(columns, key=lambda column: (any(first <= column < last for first, last in in_text), column))


def find_position(text: str, path: str, line: int, symbol: str) -> tuple[dict[str, int], int]:
    """The protocol's position of a symbol on a line (from 1), and how often it stands there. LspRefusalError, with where it
    is instead, when it is not there."""
    lines = split_lines(text)
    if not 1 <= line <= len(lines):
        raise LspRefusalError(f"line {line} does not exist: {path} has {len(lines)} lines")
    columns = symbol_columns(lines[line - 1], symbol)
    if not columns:
        raise LspRefusalError(_not_there(lines, path, line, symbol))
    return {"line": line - 1, "character": utf16_length(lines[line - 1][: columns[0]])}, len(columns)


def first_name(text: str, path: str, line: int) -> str:
    """The first word of a line's code, for questions without a symbol. LspRefusalError when there is none."""
    lines = split_lines(text)
    if not 1 <= line <= len(lines):
        raise LspRefusalError(f"line {line} does not exist: {path} has {len(lines)} lines")
    words = [found["word"] for found in _TOKEN.finditer(lines[line - 1][:MAX_LINE_CHARS]) if found["word"]]
    names = [word for word in words if _NAME.fullmatch(word) and word not in _KEYWORDS]
    if not names:
        raise LspRefusalError(f"line {line} of {path} holds no symbol: {lines[line - 1].strip()[:100]!r}; name one with symbol")
    return names[0]


_KEYWORDS = frozenset(
    re.findall(
        r"\w+",
        "def class async await return import from as if elif else for while with try except raise lambda not and or in is None "
        "function const let var export default interface type new this func package struct static void public private",
    )
)


def _not_there(lines: Sequence[str], path: str, line: int, symbol: str) -> str:
    message = f"symbol {symbol[:60]!r} is not on line {line} of {path}: {lines[line - 1].strip()[:100]!r}"
    others = [number for number, other in enumerate(lines, 1) if symbol[:60] in other and symbol_columns(other, symbol)]
    if others:
        nearest = sorted(sorted(others, key=lambda number: abs(number - line))[:NEAR_LINES])
        return f"{message}; it is on line{'s' if len(nearest) > 1 else ''} {', '.join(map(str, nearest))}"
    return f"{message}, nor on any other line of the file"


def split_lines(text: str) -> list[str]:
    r"""Lines as the protocol counts them.

    >>> split_lines("a\r\nb\x0cc\n")
    ['a', 'b\x0cc', '']
    """
    return re.split(r"\r\n|\n|\r", text)


def utf16_length(text: str) -> int:
    """
    >>> utf16_length("aü"), utf16_length("𝒳")
    (2, 2)
    """
    return len(text.encode("utf-16-le", "surrogatepass")) // 2


def lines_of(value: Any) -> tuple[int, int, int]:
    """First line, last line and first column of a protocol range, counted from 1. ServerGarbageError."""
    try:
        start, end = value["start"], value["end"]
        first, last, column = int(start["line"]), int(end["line"]), int(start["character"])
    except (TypeError, KeyError, ValueError) as error:
        raise ServerGarbageError(f"no range: {str(value)[:100]}") from error
    if last > first and int(end.get("character", 1)) == 0:
        last -= 1  # it ends before the line begins
    return first + 1, last + 1, column + 1
