"""`f(a, b)` becomes `f(b, a)`."""

import ast
from collections.abc import Iterator
from itertools import pairwise

from envpool.packages.source_edit import SourceEdit, SourceModule


def swapped_arguments(module: SourceModule) -> Iterator[SourceEdit]:
    """Neighbouring positional arguments exchanged. `isinstance` and its like are left alone: they would only raise."""
    for node, function in module.walk():
        if not isinstance(node, ast.Call) or (isinstance(node.func, ast.Name) and node.func.id in LEFT_ALONE):
            continue
        for left, right in pairwise(node.args):
            if isinstance(left, ast.Starred) or isinstance(right, ast.Starred) or ast.dump(left) == ast.dump(right):
                continue
            start, end = module.span(left)[0], module.span(right)[1]
            middle = module.data[module.span(left)[1] : module.span(right)[0]].decode()
            yield SourceEdit(start, end, module.text(right) + middle + module.text(left), function)


LEFT_ALONE = frozenset({"isinstance", "issubclass", "getattr", "setattr", "hasattr", "delattr", "super", "print", "open"})
