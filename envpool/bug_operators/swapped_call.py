"""`min(x)` becomes `max(x)`, `any` becomes `all`, `x.startswith(y)` becomes `x.endswith(y)`, and the like."""

import ast
from collections.abc import Iterator

from envpool.packages.source_edit import SourceEdit, SourceModule

_FUNCTION_PAIRS = (("min", "max"), ("any", "all"))
_METHOD_PAIRS = (
    ("startswith", "endswith"),
    ("lstrip", "rstrip"),
    ("find", "rfind"),
    ("index", "rindex"),
    ("split", "rsplit"),
    ("partition", "rpartition"),
    ("upper", "lower"),
    ("keys", "values"),
    ("append", "extend"),
    ("add", "discard"),
    ("floor", "ceil"),
)
FUNCTIONS = {old: new for pair in _FUNCTION_PAIRS for old, new in (pair, pair[::-1])} | {"sorted": "list", "reversed": "iter"}
METHODS = {old: new for pair in _METHOD_PAIRS for old, new in (pair, pair[::-1])} | {"strip": "rstrip", "intersection": "union"}


def swapped_call(module: SourceModule) -> Iterator[SourceEdit]:
    """The neighbour of a well-known function or method called in its place."""
    for node, function in module.walk():
        if not isinstance(node, ast.Call):
            continue
        end = module.span(node.func)[1]
        if isinstance(node.func, ast.Name) and node.func.id in FUNCTIONS:
            yield SourceEdit(*module.span(node.func), FUNCTIONS[node.func.id], function)
        elif isinstance(node.func, ast.Attribute) and node.func.attr in METHODS:
            yield SourceEdit(end - len(node.func.attr), end, METHODS[node.func.attr], function)
