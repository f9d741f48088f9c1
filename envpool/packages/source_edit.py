"""Small edits of Python source by syntax-tree position: the text around an edit stays as it was, byte for byte."""

import ast
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
Function = ast.FunctionDef | ast.AsyncFunctionDef
Placed = ast.expr | ast.stmt | ast.excepthandler | ast.keyword
"""Nodes that know where they stand."""
_SCOPES = (*FUNCTIONS, ast.Lambda, ast.ClassDef, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
_ATOMS = (
    *(ast.Name, ast.Attribute, ast.Call, ast.Subscript, ast.Constant, ast.List, ast.Dict, ast.Set),
    *(ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp),
)
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

    @cached_property
    def _dump(self) -> str:
        return ast.dump(self.tree)

    @cached_property
    def _function_ranges(self) -> list[tuple[int, int]]:
        return [
            (min(part.lineno for part in (node, *node.decorator_list)), node.end_lineno or node.lineno)
            for node, _ in self.functions()
        ]

    def span(self, node: Placed) -> tuple[int, int]:
        """Byte range of a node, without parentheses around it."""
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        return self._line_starts[node.lineno - 1] + node.col_offset, self._line_starts[node.end_lineno - 1] + node.end_col_offset

    def line_span(self, first_line: int, last_line: int) -> tuple[int, int]:
        """Byte range of whole lines (numbered from 1), line ends included."""
        return self._line_starts[first_line - 1], self._line_starts[last_line]

    def text(self, node: Placed) -> str:
        start, end = self.span(node)
        return self.data[start:end].decode()

    def operand(self, node: ast.expr) -> str:
        """The node's text, in parentheses where it might fall apart beside an operator."""
        return self.text(node) if isinstance(node, _ATOMS) else f"({self.text(node)})"

    def between(self, left: Placed, right: Placed) -> tuple[int, str]:
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

    def functions(self) -> Iterator[tuple[Function, str]]:
        """Functions and the functions in them, each with the qualified name of the outermost."""
        for node, name in self.walk():
            if isinstance(node, FUNCTIONS):
                yield node, name

    def function_lines(self, line: int) -> tuple[int, int]:
        """First line (of the decorators, if any) and last line of the outermost function around a line.

        Raises ValueError when there is none.
        """
        for first, last in self._function_ranges:
            if first <= line <= last:
                return first, last
        raise ValueError(f"line {line} is in no function")

    def without_lines(self, first: Placed | int, last: Placed, function: str) -> Iterator[SourceEdit]:
        """One edit that removes the lines from `first` (a node or a line number) to the end of `last`; none when something
        else stands on them."""
        assert last.end_lineno is not None
        first_line = first if isinstance(first, int) else first.lineno
        start, end = self.line_span(first_line, last.end_lineno)
        head = b"" if isinstance(first, int) else self.data[start : self.span(first)[0]].strip()
        rest = self.data[self.span(last)[1] : end].strip()
        if not head and (not rest or rest.startswith(b"#")):
            yield SourceEdit(start, end, "", function)

    def apply(self, edit: SourceEdit) -> bytes | None:
        """The file with the edit, or None when the result is no valid Python or the same program."""
        changed = self.data[: edit.start] + edit.replacement.encode() + self.data[edit.end :]
        try:
            tree = ast.parse(changed)
            compile(changed, "<edit>", "exec", dont_inherit=True)
        except (SyntaxError, ValueError, RecursionError):
            return None
        return None if ast.dump(tree) == self._dump else changed


def _inside(node: ast.AST, function: str) -> Iterator[tuple[ast.AST, str]]:
    if _is_left_out(node):
        return
    yield node, function
    for name, child in _children(node):
        if name not in ("annotation", "returns", "decorator_list", "args") or isinstance(node, ast.Call):
            yield from _inside(child, function)


def _is_left_out(node: ast.AST) -> bool:
    if isinstance(node, ast.Assert | ast.Raise | ast.JoinedStr | ast.Global | ast.Nonlocal | ast.Import | ast.ImportFrom):
        return True
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _children(node: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    for name, value in ast.iter_fields(node):
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST):
                yield name, child


def own_nodes(function: Function) -> Iterator[ast.AST]:
    """Nodes of a function's body in source order, without what is in functions, classes, lambdas and comprehensions in it;
    otherwise what `SourceModule.walk` leaves out is left out here too."""
    for statement in function.body:
        yield from _own(statement)


def _own(node: ast.AST) -> Iterator[ast.AST]:
    if isinstance(node, _SCOPES) or _is_left_out(node):
        return
    yield node
    for name, child in _children(node):
        if name != "annotation":
            yield from _own(child)


def blocks(node: ast.AST) -> Iterator[list[ast.stmt]]:
    """The statement lists of a compound statement or function."""
    for name in ("body", "orelse", "finalbody"):
        block = getattr(node, name, None)
        if isinstance(block, list):
            yield block
