"""`a + b` becomes `a - b`, `x += 1` becomes `x -= 1`, `a and b` becomes `a or b`."""

import ast
from collections.abc import Iterator

from envpool.packages.source_edit import SourceEdit, SourceModule

SIGNS: dict[type[ast.operator], str] = {
    ast.Add: "+",
    ast.Sub: "-",
    ast.Mult: "*",
    ast.Div: "/",
    ast.FloorDiv: "//",
    ast.Mod: "%",
    ast.Pow: "**",
    ast.LShift: "<<",
    ast.RShift: ">>",
    ast.BitAnd: "&",
    ast.BitOr: "|",
}
OPPOSITES = {"+": "-", "-": "+", "*": "//", "/": "*", "//": "*", "%": "//", "**": "*", "<<": ">>", ">>": "<<", "&": "|", "|": "&"}


def swapped_operator(module: SourceModule) -> Iterator[SourceEdit]:
    """Arithmetic, bit and boolean operators turned into their opposites; `"..." % x` is left alone."""
    for node, function in module.walk():
        if isinstance(node, ast.BinOp) and type(node.op) in SIGNS and not _is_text(node.left):
            yield _edit(module, node.left, SIGNS[type(node.op)], OPPOSITES[SIGNS[type(node.op)]], node.right, function)
        elif isinstance(node, ast.AugAssign) and type(node.op) in SIGNS:
            sign = SIGNS[type(node.op)]
            yield _edit(module, node.target, f"{sign}=", f"{OPPOSITES[sign]}=", node.value, function)
        elif isinstance(node, ast.BoolOp) and len(node.values) == 2:
            words = ("and", "or") if isinstance(node.op, ast.And) else ("or", "and")
            yield _edit(module, node.values[0], *words, node.values[1], function)


def _edit(module: SourceModule, left: ast.expr, old: str, new: str, right: ast.expr, function: str) -> SourceEdit:
    start, gap = module.between(left, right)
    position = start + gap.index(old)
    return SourceEdit(position, position + len(old), new, function)


def _is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str | bytes))
