"""`f(start)` becomes `f(stop)`: another variable of the same function."""

import ast
from collections.abc import Iterator

from envpool.packages.source_edit import Function, SourceEdit, SourceModule, own_nodes

LEFT_ALONE = frozenset({"self", "cls", "_"})


def wrong_variable(module: SourceModule) -> Iterator[SourceEdit]:
    """A variable that is read becomes the next one (in order of appearance, around the end) that is bound on an earlier line.
    What is called, or looked into with a dot, stays: that would only raise."""
    for node, function in module.functions():
        yield from _swaps(module, node, function)


def _swaps(module: SourceModule, node: Function, function: str) -> Iterator[SourceEdit]:
    arguments = node.args.posonlyargs + node.args.args + node.args.kwonlyargs
    bound_at = {argument.arg: 0 for argument in arguments if argument.arg not in LEFT_ALONE}
    nodes = list(own_nodes(node))
    for inner in nodes:
        if isinstance(inner, ast.Name) and isinstance(inner.ctx, ast.Store) and inner.id not in LEFT_ALONE:
            bound_at.setdefault(inner.id, inner.lineno)
    kept = {id(inner.func) for inner in nodes if isinstance(inner, ast.Call)}
    kept |= {id(inner.value) for inner in nodes if isinstance(inner, ast.Attribute)}
    for inner in nodes:
        if not isinstance(inner, ast.Name) or not isinstance(inner.ctx, ast.Load) or id(inner) in kept:
            continue
        known = [name for name, line in bound_at.items() if line < inner.lineno]
        if inner.id in known and len(known) > 1:
            other = known[(known.index(inner.id) + 1) % len(known)]
            yield SourceEdit(*module.span(inner), other, function)
