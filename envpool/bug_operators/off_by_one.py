"""`a < b` becomes `a <= b`, `range(n)` becomes `range(n - 1)`, `x[i:]` becomes `x[i + 1:]`."""

import ast
from collections.abc import Iterator

from envpool.bug_operators.swapped_comparison import comparison_edit
from envpool.packages.source_edit import SourceEdit, SourceModule

BOUNDARIES: dict[type[ast.cmpop], tuple[str, str]] = {
    ast.Lt: ("<", "<="),
    ast.LtE: ("<=", "<"),
    ast.Gt: (">", ">="),
    ast.GtE: (">=", ">"),
}


def off_by_one(module: SourceModule) -> Iterator[SourceEdit]:
    """Boundaries moved by one: comparisons, the end of a range, the bounds of a slice, an index. Plain numbers are left to
    `changed_constant`."""
    for node, function in module.walk():
        if isinstance(node, ast.Compare) and len(node.ops) == 1 and type(node.ops[0]) in BOUNDARIES:
            yield comparison_edit(module, node, *BOUNDARIES[type(node.ops[0])], function)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "range":
            if len(node.args) in (1, 2) and not node.keywords:
                yield from _moved(module, node.args[-1], "- 1", function)
        elif isinstance(node, ast.Slice):
            for bound in (node.lower, node.upper):
                if bound is not None:
                    yield from _moved(module, bound, "+ 1", function)
        elif isinstance(node, ast.Subscript) and isinstance(node.slice, ast.BinOp):
            yield from _moved(module, node.slice, "+ 1", function)


def _moved(module: SourceModule, node: ast.expr, by: str, function: str) -> Iterator[SourceEdit]:
    if isinstance(node, ast.Constant | ast.Starred | ast.UnaryOp):
        return
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Sub) and _is_one(node.right):
        yield SourceEdit(module.span(node.left)[1], module.span(node.right)[1], "", function)  # `n - 1` becomes `n`
        return
    simple = isinstance(node, ast.Name | ast.Attribute | ast.Call | ast.Subscript)
    text = module.text(node) if simple else f"({module.text(node)})"
    yield SourceEdit(*module.span(node), f"{text} {by}", function)


def _is_one(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and type(node.value) is int and node.value == 1
