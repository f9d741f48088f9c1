"""An `if` without `else`, an `elif` or an `else` disappears."""

import ast
import re
from collections.abc import Iterator

from envpool.source_edit import SourceEdit, SourceModule

ELSE_LINE = re.compile(rb"[ \t]*else[ \t]*:[ \t]*(#[^\r\n]*)?[\r\n]*")


def removed_branch(module: SourceModule) -> Iterator[SourceEdit]:
    """Whole lines removed: a guard (`if` without `else`, one of several statements), the last `elif`, or the `else`."""
    for node, function in module.walk():
        for field in ("body", "orelse", "finalbody"):
            block = getattr(node, field, None)
            if isinstance(block, list) and len(block) > 1:
                for statement in block:
                    if isinstance(statement, ast.If) and not statement.orelse:
                        yield from _whole_lines(module, statement.lineno, statement, function)
        if isinstance(node, ast.If) and node.orelse:
            yield from _without_else(module, node, function)
        if isinstance(node, ast.If) and not node.orelse and _is_elif(module, node):
            yield from _whole_lines(module, node.lineno, node, function)


def _without_else(module: SourceModule, node: ast.If, function: str) -> Iterator[SourceEdit]:
    body_end = node.body[-1].end_lineno
    assert body_end is not None
    for number in range(body_end + 1, node.orelse[0].lineno):
        start, end = module.line_span(number, number)
        if ELSE_LINE.fullmatch(module.data[start:end]):
            yield from _whole_lines(module, number, node.orelse[-1], function)
            return


def _is_elif(module: SourceModule, node: ast.If) -> bool:
    return module.data.startswith(b"elif", module.span(node)[0])


def _whole_lines(module: SourceModule, first_line: int, last: ast.stmt, function: str) -> Iterator[SourceEdit]:
    """Remove lines `first_line` to the end of `last`, if nothing else stands on the last one."""
    assert last.end_lineno is not None
    start, end = module.line_span(first_line, last.end_lineno)
    rest = module.data[module.span(last)[1] : end].strip()
    if not rest or rest.startswith(b"#"):
        yield SourceEdit(start, end, "", function)
