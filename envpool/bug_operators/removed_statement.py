"""A call for its effect, an update in place, or a stored attribute disappears."""

import ast
from collections.abc import Iterator

from envpool.packages.source_edit import SourceEdit, SourceModule, blocks


def removed_statement(module: SourceModule) -> Iterator[SourceEdit]:
    """Whole statements that only have an effect removed; the block keeps at least one other statement."""
    for node, function in module.walk():
        for block in blocks(node):
            for statement in block:
                if len(block) > 1 and _has_only_an_effect(statement):
                    yield from module.without_lines(statement, statement, function)


def _has_only_an_effect(statement: ast.stmt) -> bool:
    if isinstance(statement, ast.Expr):
        return isinstance(statement.value, ast.Call | ast.Await)
    if isinstance(statement, ast.Assign):
        return all(isinstance(target, ast.Attribute | ast.Subscript) for target in statement.targets)
    return isinstance(statement, ast.AugAssign | ast.Delete)
