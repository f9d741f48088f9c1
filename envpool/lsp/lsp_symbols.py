"""The symbols of a file, and the source around a place in it."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from envpool.lsp.lsp_errors import ServerGarbageError
from envpool.lsp.lsp_positions import lines_of

_words = re.compile(r"\w+").findall
KINDS = _words(
    "symbol file module namespace package class method property field constructor enum interface function variable constant "
    "string number boolean array object key null member struct event operator parameter"
)
"""Names of SymbolKind, from 1 on."""
BODIES = frozenset(_words("class method constructor enum interface function struct namespace module property"))
HIDDEN = frozenset(_words("variable constant string number boolean array object key null parameter"))
MAX_SOURCE_LINES = 60
AROUND_LINES = 4


@dataclass(frozen=True)
class Symbol:
    """One named piece of a file; lines count from 1. `name_line` is where its name stands."""

    name: str
    kind: str
    first: int
    last: int
    name_line: int
    children: tuple["Symbol", ...] = ()


def kind_name(number: Any) -> str:
    """
    >>> kind_name(12), kind_name(99)
    ('function', 'symbol')
    """
    return str(KINDS[number]) if isinstance(number, int) and 0 < number < len(KINDS) else str(KINDS[0])


def parse_symbols(value: Any) -> tuple[Symbol, ...]:
    """Of a documentSymbol answer, nested or flat. ServerGarbageError."""
    if value is None:
        return ()
    if not isinstance(value, list):
        raise ServerGarbageError(f"no list of symbols: {str(value)[:100]}")
    return tuple(sorted((_symbol(item) for item in value), key=lambda symbol: (symbol.first, symbol.last)))


def _symbol(item: Any) -> Symbol:
    try:
        name, kind = str(item["name"]), kind_name(item["kind"])
        full = item["range"] if "range" in item else item["location"]["range"]
        first, last, _ = lines_of(full)
        name_line = lines_of(item["selectionRange"])[0] if "selectionRange" in item else first
        return Symbol(name, kind, first, last, name_line, parse_symbols(item.get("children")))
    except (TypeError, KeyError, AttributeError) as error:
        raise ServerGarbageError(f"no symbol: {str(item)[:100]}") from error


def enclosing(symbols: Sequence[Symbol], line: int) -> Symbol | None:
    """The innermost function, class or the like around a line."""
    found = None
    for symbol in symbols:
        if symbol.first <= line <= symbol.last:
            inner = enclosing(symbol.children, line)
            candidate = inner if inner is not None else symbol if symbol.kind in BODIES else None
            if candidate is not None and (found is None or candidate.last - candidate.first <= found.last - found.first):
                found = candidate
    return found


def outline(symbols: Sequence[Symbol], depth: int = 0) -> Iterator[str]:
    """A line for each symbol but variables and constants, indented by depth."""
    for symbol in symbols:
        if symbol.kind not in HIDDEN:
            lines = f"line {symbol.first}" if symbol.first == symbol.last else f"lines {symbol.first} to {symbol.last}"
            yield f"{'  ' * depth}{symbol.kind} {symbol.name} ({lines})"
            yield from outline(symbol.children, depth + 1)


def source_lines(lines: Sequence[str], symbol: Symbol | None, line: int) -> tuple[int, int]:
    """Which lines to show for a place: the enclosing symbol, or what is near where that is none or long.

    >>> source_lines([""] * 300, Symbol("f", "function", 10, 20, 10), 12), source_lines([""] * 300, None, 2)
    ((10, 20), (1, 6))
    >>> source_lines([""] * 300, Symbol("C", "class", 10, 200, 10), 10)
    (10, 69)
    """
    if symbol is None:
        return max(1, line - AROUND_LINES), min(len(lines), line + AROUND_LINES)
    if symbol.last - symbol.first < MAX_SOURCE_LINES:
        return symbol.first, min(symbol.last, len(lines))
    first = max(symbol.first, min(line - MAX_SOURCE_LINES // 2, symbol.last - MAX_SOURCE_LINES + 1))
    return first, first + MAX_SOURCE_LINES - 1
