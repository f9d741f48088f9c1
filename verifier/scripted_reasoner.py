"""A teacher of simulations that needs no endpoint, for the micro tasks: it evaluates a visible test's checks one by one.

It reads what the model reads (the code block of a transition's prompt: `f(7, 2) != 14` checks and functions of one expression),
and stops where the run must stop, at the first check that does not hold:

    merge_area(7, 2) != 14? w + h = 7 + 2 = 9
"""

import ast
import re

from verifier.world_model_data import WorldSample

CHECK = re.compile(r"^if (\w+)\((-?\d+), (-?\d+)\) != (-?\d+):$", re.MULTILINE)
DEFINITION = re.compile(r"^def (\w+)\((\w+), (\w+)\):\n    return (.+)$", re.MULTILINE)
OPERATIONS = {ast.Add: "__add__", ast.Sub: "__sub__", ast.Mult: "__mul__", ast.FloorDiv: "__floordiv__", ast.Mod: "__mod__"}


class ScriptedReasoner:
    """A `verifier.reverse_reasoning.Reasoner`."""

    async def __call__(self, sample: WorldSample, seed: int) -> str:
        if sample.role != "transition":
            return ""
        return simulate_checks(sample.messages[-1].content)


def simulate_checks(text: str) -> str:
    """A line for every check up to the first that does not hold; "" when the text holds no checks that can be followed.

    >>> print(simulate_checks("if area(7, 2) != 14:\\n    x\\n\\ndef area(w, h):\\n    return w + h\\n"))
    area(7, 2) != 14? w + h = 7 + 2 = 9
    """
    functions = {name: (first, second, body) for name, first, second, body in DEFINITION.findall(text)}
    lines = []
    for name, a, b, wanted in CHECK.findall(text):
        if name not in functions:
            return ""
        first, second, body = functions[name]
        value = value_of(body, {first: int(a), second: int(b)})
        filled = re.sub(rf"\b{second}\b", b, re.sub(rf"\b{first}\b", a, body))
        lines.append(f"{name}({a}, {b}) != {wanted}? {body} = {filled} = {value}")
        if value != int(wanted):
            break
    return "\n".join(lines)


def value_of(expression: str, values: dict[str, int]) -> int | str:
    """The value of `a operator b` over names and numbers, or what keeps it from having one."""
    try:
        tree = ast.parse(expression, mode="eval").body
        if isinstance(tree, ast.BinOp) and type(tree.op) in OPERATIONS:
            left, right = (_operand(side, values) for side in (tree.left, tree.right))
            return int(getattr(left, OPERATIONS[type(tree.op)])(right))
        return _operand(tree, values)
    except (SyntaxError, KeyError, ValueError, ZeroDivisionError) as error:
        return type(error).__name__


def _operand(node: ast.AST, values: dict[str, int]) -> int:
    if isinstance(node, ast.Name):
        return values[node.id]
    if isinstance(node, ast.Constant) and type(node.value) is int:
        return node.value
    raise ValueError("no name and no number")
