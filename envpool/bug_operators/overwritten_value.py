"""`total += x` becomes `total = x`."""

import ast
from collections.abc import Iterator

from envpool.bug_operators.swapped_operator import SIGNS
from envpool.packages.source_edit import SourceEdit, SourceModule


def overwritten_value(module: SourceModule) -> Iterator[SourceEdit]:
    """Updates in place that only assign."""
    for node, function in module.walk():
        if isinstance(node, ast.AugAssign) and type(node.op) in SIGNS:
            sign = f"{SIGNS[type(node.op)]}="
            start, gap = module.between(node.target, node.value)
            position = start + gap.index(sign)
            yield SourceEdit(position, position + len(sign), "=", function)
