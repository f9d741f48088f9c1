"""`a + b` becomes `a`: a term is forgotten."""

import ast
from collections.abc import Iterator

from envpool.packages.source_edit import SourceEdit, SourceModule


def dropped_term(module: SourceModule) -> Iterator[SourceEdit]:
    """The right operand of `+ - * // %` left out, and the left one of `+`; `"..." % x` is left alone."""
    for node, function in module.walk():
        if not isinstance(node, ast.BinOp) or not isinstance(node.op, ast.Add | ast.Sub | ast.Mult | ast.FloorDiv | ast.Mod):
            continue
        if isinstance(node.op, ast.Mod) and isinstance(node.left, ast.JoinedStr | ast.Constant):
            continue
        yield SourceEdit(*module.span(node), module.operand(node.left), function)
        if isinstance(node.op, ast.Add):
            yield SourceEdit(*module.span(node), module.operand(node.right), function)
