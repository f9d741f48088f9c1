"""`if a and b:` becomes `if a:` or `if b:`: a case nobody thought of."""

import ast
from collections.abc import Iterator

from envpool.packages.source_edit import SourceEdit, SourceModule


def dropped_condition(module: SourceModule) -> Iterator[SourceEdit]:
    """One part of an `and` or `or` left out."""
    for node, function in module.walk():
        if isinstance(node, ast.BoolOp):
            word = " and " if isinstance(node.op, ast.And) else " or "
            for dropped in node.values:
                left = [value for value in node.values if value is not dropped]
                text = module.text(left[0]) if len(left) == 1 else word.join(map(module.operand, left))
                nested = len(left) == 1 and isinstance(left[0], ast.BoolOp | ast.IfExp | ast.Lambda | ast.NamedExpr)
                yield SourceEdit(*module.span(node), f"({text})" if nested or "\n" in text else text, function)
