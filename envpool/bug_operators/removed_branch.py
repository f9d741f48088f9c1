"""An `if` without `else`, an `elif` or an `else` disappears."""

import ast
import re
from collections.abc import Iterator

from envpool.packages.source_edit import SourceEdit, SourceModule, blocks

ELSE_LINE = re.compile(rb"[ \t]*else[ \t]*:[ \t]*(#[^\r\n]*)?[\r\n]*")


def removed_branch(module: SourceModule) -> Iterator[SourceEdit]:
    """Whole lines removed: a guard (`if` without `else`, one of several statements), the last `elif`, or the `else`."""
    for node, function in module.walk():
        for block in blocks(node):
            for statement in block:
                if isinstance(statement, ast.If) and not statement.orelse and len(block) > 1:
                    yield from module.without_lines(statement, statement, function)
        if isinstance(node, ast.If) and node.orelse:
            yield from _without_else(module, node, function)
        if isinstance(node, ast.If) and not node.orelse and _is_elif(module, node):
            yield from module.without_lines(node, node, function)


def _without_else(module: SourceModule, node: ast.If, function: str) -> Iterator[SourceEdit]:
    body_end = node.body[-1].end_lineno
    assert body_end is not None
    for number in range(body_end + 1, node.orelse[0].lineno):
        start, end = module.line_span(number, number)
        if ELSE_LINE.fullmatch(module.data[start:end]):
            yield from module.without_lines(number, node.orelse[-1], function)
            return


def _is_elif(module: SourceModule, node: ast.If) -> bool:
    return module.data.startswith(b"elif", module.span(node)[0])
