"""Small edits of Python source by syntax-tree position: the text around an edit stays as it was, byte for byte."""

import ast
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
BugOperator = Callable[["SourceModule"], Iterator["SourceEdit"]]
"""Finds the places of a module where one kind of bug can go. Yields edits in source order; a pure function."""


@dataclass(frozen=True)
class SourceEdit:
    """Replace bytes `start:end` of a file by `replacement`; `function` is the qualified name of what is changed."""

    start: int
    end: int
    replacement: str
    function: str


class SourceModule:
    """A parsed Python file. Raises ValueError when it is not UTF-8 Python without a byte-order mark.

    >>> module = SourceModule(b"def f(a):\\n    return a + 1\\n")
    >>> [module.text(node) for node, _ in module.walk() if isinstance(node, ast.BinOp)]
    ['a + 1']
    """

    def __init__(self, data: bytes) -> None:
        self.data = data
        try:
            data.decode("utf-8")
            self.tree = ast.parse(data)
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            raise ValueError(f"not UTF-8 Python source: {' '.join(str(error).split())}") from error
        if data.startswith(b"\xef\xbb\xbf"):
            raise ValueError("starts with a byte-order mark")

    @cached_property
    def _line_starts(self) -> list[int]:
        starts = [0]
        for line in self.data.splitlines(keepends=True):  # of bytes: at \n, \r\n and \r only, as Python counts lines
            starts.append(starts[-1] + len(line))
        return starts

    def span(self, node: ast.expr | ast.stmt) -> tuple[int, int]:
        """Byte range of a node, without parentheses around it."""
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        return self._line_starts[node.lineno - 1] + node.col_offset, self._line_starts[node.end_lineno - 1] + node.end_col_offset

    def line_span(self, first_line: int, last_line: int) -> tuple[int, int]:
        """Byte range of whole lines (numbered from 1), line ends included."""
        return self._line_starts[first_line - 1], self._line_starts[last_line]

    def text(self, node: ast.expr | ast.stmt) -> str:
        start, end = self.span(node)
        return self.data[start:end].decode()

    def between(self, left: ast.expr | ast.stmt, right: ast.expr | ast.stmt) -> tuple[int, str]:
        """Start and text of what lies between two nodes, comments blanked out."""
        start, end = self.span(left)[1], self.span(right)[0]
        lines = self.data[start:end].split(b"\n")
        blanked = [line.partition(b"#")[0] + b" " * len(b"".join(line.partition(b"#")[1:])) for line in lines]
        return start, b"\n".join(blanked).decode()

    def walk(self) -> Iterator[tuple[ast.AST, str]]:
        """Nodes inside functions, in source order, each with its function's qualified name.

        Left out: decorators, annotations, default values, docstrings, assertions, and what only raises or formats text
        (a wrong error message is no bug that behaviour shows).
        """
        yield from self._walk_body(self.tree.body, "")

    def _walk_body(self, body: list[ast.stmt], prefix: str) -> Iterator[tuple[ast.AST, str]]:
        for node in body:
            if isinstance(node, ast.ClassDef):
                yield from self._walk_body(node.body, f"{prefix}{node.name}.")
            elif isinstance(node, FUNCTIONS):
                yield node, f"{prefix}{node.name}"
                for statement in node.body:
                    yield from _inside(statement, f"{prefix}{node.name}")

    def apply(self, edit: SourceEdit) -> bytes | None:
        """The file with the edit, or None when the result is no valid Python or the same program."""
        changed = self.data[: edit.start] + edit.replacement.encode() + self.data[edit.end :]
        try:
            tree = ast.parse(changed)
            compile(changed, "<edit>", "exec", dont_inherit=True)
        except (SyntaxError, ValueError, RecursionError):
            return None
        return None if ast.dump(tree) == ast.dump(self.tree) else changed


def _inside(node: ast.AST, function: str) -> Iterator[tuple[ast.AST, str]]:
    if isinstance(node, ast.Assert | ast.Raise | ast.JoinedStr | ast.Global | ast.Nonlocal | ast.Import | ast.ImportFrom):
        return
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return
    yield node, function
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "decorator_list", "args") and not isinstance(node, ast.Call):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST):
                yield from _inside(child, function)
