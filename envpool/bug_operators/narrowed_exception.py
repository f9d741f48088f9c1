"""`except (A, B):` becomes `except B:`, and one of several `except` clauses disappears."""

import ast
from collections.abc import Iterator

from envpool.packages.source_edit import SourceEdit, SourceModule


def narrowed_exception(module: SourceModule) -> Iterator[SourceEdit]:
    """Exceptions that are no longer caught: one clause of several, or one type of several."""
    for node, function in module.walk():
        if not isinstance(node, ast.Try):
            continue
        for handler in node.handlers:
            if len(node.handlers) > 1:
                yield from module.without_lines(handler, handler.body[-1], function)
            if isinstance(handler.type, ast.Tuple) and len(handler.type.elts) > 1:
                for dropped in handler.type.elts:
                    left = [module.text(kind) for kind in handler.type.elts if kind is not dropped]
                    text = left[0] if len(left) == 1 else f"({', '.join(left)})"
                    yield SourceEdit(*module.span(handler.type), text, function)
