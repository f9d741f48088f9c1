"""`0` becomes `1`, `2.5` becomes `3.5`, `True` becomes `False`."""

import ast
from collections.abc import Iterator

from envpool.packages.source_edit import SourceEdit, SourceModule


def changed_constant(module: SourceModule) -> Iterator[SourceEdit]:
    """Numbers in decimal notation get one more; booleans are negated. Text and other notations stay."""
    for node, function in module.walk():
        if not isinstance(node, ast.Constant):
            continue
        value = node.value
        if isinstance(value, bool):
            yield SourceEdit(*module.span(node), str(not value), function)
        elif isinstance(value, int | float) and module.text(node) == repr(value):
            yield SourceEdit(*module.span(node), repr(value + 1), function)
