"""`a < b` becomes `a > b`, `==` becomes `!=`, `in` becomes `not in`, `is` becomes `is not`, and back."""

import ast
import re
from collections.abc import Iterator

from envpool.packages.source_edit import SourceEdit, SourceModule

SWAPS: dict[type[ast.cmpop], tuple[str, str]] = {
    ast.Lt: ("<", ">"),
    ast.Gt: (">", "<"),
    ast.LtE: ("<=", ">="),
    ast.GtE: (">=", "<="),
    ast.Eq: ("==", "!="),
    ast.NotEq: ("!=", "=="),
    ast.In: ("in", "not in"),
    ast.NotIn: ("not in", "in"),
    ast.Is: ("is", "is not"),
    ast.IsNot: ("is not", "is"),
}


def swapped_comparison(module: SourceModule) -> Iterator[SourceEdit]:
    """Comparisons with one operator, turned around."""
    for node, function in module.walk():
        if isinstance(node, ast.Compare) and len(node.ops) == 1:
            old, new = SWAPS[type(node.ops[0])]
            yield comparison_edit(module, node, old, new, function)


def comparison_edit(module: SourceModule, node: ast.Compare, old: str, new: str, function: str) -> SourceEdit:
    """Replace the one operator `old` of a comparison."""
    start, gap = module.between(node.left, node.comparators[0])
    match = re.search(re.escape(old).replace(r"\ ", r"[\s\\]+"), gap)
    assert match is not None, f"{old!r} not found between operands"
    return SourceEdit(start + match.start(), start + match.end(), new, function)
