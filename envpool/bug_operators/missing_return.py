"""`return x` becomes `x`: the value is computed and forgotten."""

import ast
import re
from collections.abc import Iterator

from envpool.packages.source_edit import SourceEdit, SourceModule

RETURN = re.compile(rb"return[ \t]*")


def missing_return(module: SourceModule) -> Iterator[SourceEdit]:
    """Returns of a value lose their `return`. Constants stay: many of them are None in disguise."""
    for node, function in module.walk():
        if isinstance(node, ast.Return) and node.value is not None and not isinstance(node.value, ast.Constant):
            start = module.span(node)[0]
            match = RETURN.match(module.data, start)
            assert match is not None
            yield SourceEdit(start, match.end(), "", function)
