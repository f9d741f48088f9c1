"""`self.start` becomes `self.stop`: another attribute of the same object."""

import ast
from collections.abc import Iterator

from envpool.packages.source_edit import SourceEdit, SourceModule


def wrong_attribute(module: SourceModule) -> Iterator[SourceEdit]:
    """A read attribute of `self` becomes the next one that the class assigns. What is called stays."""
    classes = {
        (node.lineno, node.end_lineno or node.lineno): _attributes(node)
        for node in ast.walk(module.tree)
        if isinstance(node, ast.ClassDef)
    }
    called = {id(node.func) for node, _ in module.walk() if isinstance(node, ast.Call)}
    for node, function in module.walk():
        if (
            not isinstance(node, ast.Attribute)
            or not _is_of_self(node)
            or not isinstance(node.ctx, ast.Load)
            or id(node) in called
        ):
            continue
        around = [names for (first, last), names in sorted(classes.items()) if first <= node.lineno <= last]
        if around and node.attr in around[-1] and len(around[-1]) > 1:
            names = around[-1]
            end = module.span(node)[1]
            other = names[(names.index(node.attr) + 1) % len(names)]
            yield SourceEdit(end - len(node.attr.encode()), end, other, function)


def _is_of_self(node: ast.Attribute) -> bool:
    return isinstance(node.value, ast.Name) and node.value.id == "self"


def _attributes(node: ast.ClassDef) -> list[str]:
    """Names that methods assign on `self`, in order of appearance."""
    found = [
        (inner.lineno, inner.col_offset, inner.attr)
        for inner in ast.walk(node)
        if isinstance(inner, ast.Attribute) and _is_of_self(inner) and isinstance(inner.ctx, ast.Store)
    ]
    return list(dict.fromkeys(name for _, _, name in sorted(found)))
