"""`list(x)` becomes `x`, `text.strip()` becomes `text`: a value is used as it came."""

import ast
from collections.abc import Iterator

from envpool.packages.source_edit import SourceEdit, SourceModule

FUNCTIONS = frozenset({"list", "tuple", "set", "frozenset", "dict", "sorted", "reversed", "str", "int", "float", "abs", "iter"})
METHODS = frozenset({"strip", "lstrip", "rstrip", "lower", "upper", "casefold", "copy"})


def removed_conversion(module: SourceModule) -> Iterator[SourceEdit]:
    """Conversions of one argument, and methods without arguments that give a cleaned or copied value, left out."""
    for node, function in module.walk():
        if not isinstance(node, ast.Call) or node.keywords:
            continue
        if isinstance(node.func, ast.Name) and node.func.id in FUNCTIONS and len(node.args) == 1:
            if not isinstance(node.args[0], ast.Starred):
                yield SourceEdit(*module.span(node), module.operand(node.args[0]), function)
        elif isinstance(node.func, ast.Attribute) and node.func.attr in METHODS and not node.args:
            yield SourceEdit(*module.span(node), module.operand(node.func.value), function)
