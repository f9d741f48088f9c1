"""`continue` becomes `break`; in a `for` loop `break` becomes `continue`."""

import ast
from collections.abc import Iterator

from envpool.packages.source_edit import FUNCTIONS, SourceEdit, SourceModule

LOOPS = (ast.For, ast.AsyncFor, ast.While)


def changed_loop_exit(module: SourceModule) -> Iterator[SourceEdit]:
    """Ways out of a loop exchanged; a `while` keeps its `break` (most would never end)."""
    for node, function in module.walk():
        if isinstance(node, LOOPS):
            for statement in _exits(node.body):
                if isinstance(statement, ast.Continue):
                    yield SourceEdit(*module.span(statement), "break", function)
                elif not isinstance(node, ast.While):
                    yield SourceEdit(*module.span(statement), "continue", function)


def _exits(body: list[ast.stmt]) -> Iterator[ast.Break | ast.Continue]:
    """The `break` and `continue` statements that belong to the loop with this body."""
    for statement in body:
        if isinstance(statement, ast.Break | ast.Continue):
            yield statement
        elif isinstance(statement, LOOPS):
            yield from _exits(statement.orelse)
        elif not isinstance(statement, (*FUNCTIONS, ast.ClassDef)):
            for child in ast.iter_child_nodes(statement):
                if isinstance(child, ast.stmt):
                    yield from _exits([child])
                elif isinstance(child, ast.ExceptHandler | ast.match_case):
                    yield from _exits(child.body)
