"""`f(a, key=b)` becomes `f(a)`: an option is not passed on."""

import ast
from collections.abc import Iterator

from envpool.packages.source_edit import SourceEdit, SourceModule


def dropped_keyword(module: SourceModule) -> Iterator[SourceEdit]:
    """One keyword argument of a call left out."""
    for node, function in module.walk():
        if not isinstance(node, ast.Call):
            continue
        spans = sorted([*map(module.span, node.args), *map(module.span, node.keywords)])
        for keyword in node.keywords:
            if keyword.arg is None:
                continue
            start, end = module.span(keyword)
            place = spans.index((start, end))
            if place > 0:
                start = spans[place - 1][1]
            elif len(spans) > 1:
                end = spans[1][0]
            yield SourceEdit(start, end, "", function)
