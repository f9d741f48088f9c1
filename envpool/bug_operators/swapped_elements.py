"""`return a, b` becomes `return b, a`; the same in assignments."""

import ast
from collections.abc import Iterator

from envpool.packages.source_edit import SourceEdit, SourceModule


def swapped_elements(module: SourceModule) -> Iterator[SourceEdit]:
    """The two elements of a pair that is returned, yielded or assigned, exchanged."""
    for node, function in module.walk():
        pair = node.value if isinstance(node, ast.Return | ast.Assign | ast.Yield) else None
        if not isinstance(pair, ast.Tuple) or len(pair.elts) != 2:
            continue
        left, right = pair.elts
        if isinstance(left, ast.Starred) or isinstance(right, ast.Starred) or ast.dump(left) == ast.dump(right):
            continue
        middle = module.data[module.span(left)[1] : module.span(right)[0]].decode()
        start, end = module.span(left)[0], module.span(right)[1]
        yield SourceEdit(start, end, module.text(right) + middle + module.text(left), function)
