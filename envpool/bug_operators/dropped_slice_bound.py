"""`x[a:b]` becomes `x[:b]` or `x[a:]`, `x[::2]` becomes `x[::]`."""

import ast
from collections.abc import Iterator

from envpool.packages.source_edit import SourceEdit, SourceModule


def dropped_slice_bound(module: SourceModule) -> Iterator[SourceEdit]:
    """One bound, or the step, of a slice left out. Bounds in parentheses stay."""
    for node, function in module.walk():
        if isinstance(node, ast.Slice):
            for bound in (node.lower, node.upper, node.step):
                if bound is not None and not module.data[: module.span(bound)[0]].rstrip().endswith(b"("):
                    yield SourceEdit(*module.span(bound), "", function)
