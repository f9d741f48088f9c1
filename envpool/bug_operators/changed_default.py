"""`def f(a, deep=True)` becomes `def f(a, deep=False)`; numbers get one more, text becomes empty."""

import ast
from collections.abc import Iterator

from envpool.packages.source_edit import SourceEdit, SourceModule


def changed_default(module: SourceModule) -> Iterator[SourceEdit]:
    """Default values of arguments: booleans, decimal numbers and text. None and names stay."""
    for node, function in module.functions():
        for default in (*node.args.defaults, *node.args.kw_defaults):
            if not isinstance(default, ast.Constant):
                continue
            value = default.value
            if isinstance(value, bool):
                yield SourceEdit(*module.span(default), str(not value), function)
            elif isinstance(value, int | float) and module.text(default) == repr(value):
                yield SourceEdit(*module.span(default), repr(value + 1), function)
            elif isinstance(value, str):
                yield SourceEdit(*module.span(default), '""' if value else '" "', function)
