"""`if x:` becomes `if not x:`, `if not x:` becomes `if x:`; the same in conditional expressions and comprehensions."""

import ast
from collections.abc import Iterator

from envpool.packages.source_edit import SourceEdit, SourceModule


def negated_condition(module: SourceModule) -> Iterator[SourceEdit]:
    """Conditions negated. Comparisons are left to `swapped_comparison`, loops alone (most would never end)."""
    for node, function in module.walk():
        if isinstance(node, ast.If | ast.IfExp):
            conditions = [node.test]
        elif isinstance(node, ast.comprehension):
            conditions = node.ifs
        else:
            continue
        for condition in conditions:
            if isinstance(condition, ast.Compare) and len(condition.ops) == 1:
                continue
            yield SourceEdit(*module.span(condition), _negated(module, condition), function)


def _negated(module: SourceModule, condition: ast.expr) -> str:
    text = module.text(condition)
    if isinstance(condition, ast.UnaryOp) and isinstance(condition.op, ast.Not):
        return text.removeprefix("not").lstrip(" \t")
    if isinstance(condition, ast.Name | ast.Call | ast.Attribute | ast.Subscript | ast.Constant):
        return f"not {text}"
    return f"not ({text})"
