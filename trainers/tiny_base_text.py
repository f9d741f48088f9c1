"""Generated text that the tiny base model is pre-trained on: recall, copying, evaluation and arithmetic on random small modules.

No demo task, tool call or trajectory is in it, none of the demo's function names (training or held-out), and none of its issue
templates. The demo's single words do occur, so that their embeddings are trained: in random names such as `stone_merge`.

A document is a list of segments `(text, weight)`: weight 1 on answers that can be derived from what stands before, a small
weight on the rest, which is random.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass

from envpool.micro.micro_names import ARGUMENTS, MODULES, NOUNS, OPERATOR_INFIX, OPERATOR_NOUNS, OPERATORS, VERBS
from envpool.micro.micro_tasks import ALL_CASES, apply_operator
from trainers.tiny_base_tokenizer import OTHER_WORDS, PHRASES, SPECIAL_TOKENS

Segment = tuple[str, float]
ANSWER = 1.0
REST = 0.05
_END, _START, _STOP = SPECIAL_TOKENS
_PLAIN_WORDS = [word for word in OTHER_WORDS if word.isalpha() and word.islower()]
_DEMO_WORDS = [*VERBS, *NOUNS, *MODULES, *(word for pair in ARGUMENTS for word in pair)]
_WORDS = _PLAIN_WORDS + _DEMO_WORDS
_SYMBOLS = [phrase for phrase in PHRASES if not any(char.isalpha() for char in phrase)] + list("()[]{}<>=+-*/%.,:;!?'\"#@&|^~$\\")


@dataclass(frozen=True)
class RandomFunction:
    """A function of a pre-training module."""

    name: str
    arguments: tuple[str, str]
    operator: str

    def expression(self, operator: str | None = None) -> str:
        return f"{self.arguments[0]} {operator or self.operator} {self.arguments[1]}"


def random_name(rng: random.Random) -> str:
    """A two-word name that is no function name of the demo.

    >>> random_name(random.Random(0)).count("_")
    1
    """
    while True:
        first, second = rng.choice(_WORDS if rng.random() < 0.5 else VERBS), rng.choice(_WORDS if rng.random() < 0.5 else NOUNS)
        if not (first in VERBS and second in NOUNS):
            return f"{first}_{second}"


def random_functions(count: int, rng: random.Random) -> list[RandomFunction]:
    """Functions with distinct words and arguments."""
    arguments = rng.sample(_DEMO_WORDS if rng.random() < 0.5 else _WORDS, 2 * count)
    names: list[str] = []
    while len(names) < count:
        name = random_name(rng)
        used = {word for other in names for word in other.split("_")}
        if not used.intersection(name.split("_")):
            names.append(name)
    return [RandomFunction(name, (arguments[2 * i], arguments[2 * i + 1]), rng.choice(OPERATORS)) for i, name in enumerate(names)]


def module_source(functions: list[RandomFunction], rng: random.Random) -> str:
    """A module in one of two layouts."""
    if rng.random() < 0.8:
        blocks = [f"def {f.name}({f.arguments[0]}, {f.arguments[1]}):\n    return {f.expression()}\n" for f in functions]
        return "\n\n".join(blocks)
    return "".join(f"{f.name}({f.arguments[0]}, {f.arguments[1]}) = {f.expression()}\n" for f in functions)


def _other_operator(operator: str, rng: random.Random) -> str:
    return rng.choice([other for other in OPERATORS if other != operator])


def ask_expression(f: RandomFunction, rng: random.Random) -> tuple[str, str]:
    question = rng.choice(("body of {n}", "{n} does what", "what is {n} now", "look up {n}", "{n} has the line")).format(n=f.name)
    return question, f.expression()


def ask_rewrite(f: RandomFunction, rng: random.Random) -> tuple[str, str]:
    """The expression before and after a change of the operator, told in words."""
    operator = rng.choice(OPERATORS)
    noun, infix = OPERATOR_NOUNS[operator], OPERATOR_INFIX[operator]
    a, b = f.arguments
    forms = (
        "{n} as a {noun}", "change {n} to {infix}", "swap the line of {n} for the {noun}", "{n} with {infix}",
        "let {n} be {a} {infix} {b}",
        "{noun} in {n}", "use {infix} for {n} now", "the {noun} of {a} with {b} goes into {n}", "{a} {infix} {b} into {n}",
    )  # fmt: skip
    question = rng.choice(forms).format(n=f.name, noun=noun, infix=infix, a=a, b=b)
    return question, f"{f.expression()}{rng.choice((' -> ', '; ', ' = '))}{f.expression(operator)}"


def ask_other(f: RandomFunction, rng: random.Random) -> tuple[str, str]:
    """The expression, then the same with every other operator once, in random order."""
    others = [operator for operator in OPERATORS if operator != f.operator]
    rng.shuffle(others)
    count = rng.choice((1, 2, 4))
    separator = rng.choice((" -> ", "; ", "\n"))
    question = rng.choice(("other ways for {n}", "try {n} again and again", "what else can {n} do")).format(n=f.name)
    return question, separator.join(f.expression(operator) for operator in (f.operator, *others[:count]))


def ask_value(f: RandomFunction, rng: random.Random) -> tuple[str, str]:
    a, b = rng.choice(ALL_CASES)
    value = apply_operator(f.operator, a, b)
    if rng.random() < 0.4:
        return f"{f.name}({a}, {b})", f"{f.expression()} = {a} {f.operator} {b} = {value}"
    return f"{f.name}({a}, {b})", str(value)


def ask_check(f: RandomFunction, rng: random.Random) -> tuple[str, str]:
    a, b = rng.choice(ALL_CASES)
    value = apply_operator(f.operator, a, b)
    wanted = value if rng.random() < 0.5 else apply_operator(_other_operator(f.operator, rng), a, b)
    verdict = "yes" if wanted == value else "no"
    question = rng.choice(("{n}({a}, {b}) == {w}", "if {n}({a}, {b}) != {w}:", "{n}({a}, {b}) should be {w}, is it"))
    return question.format(n=f.name, a=a, b=b, w=wanted), f"{value} {verdict}"


def ask_operator(f: RandomFunction, rng: random.Random) -> tuple[str, str]:
    a, b = rng.choice(ALL_CASES)
    operator = rng.choice(OPERATORS)
    return f"which {a} and {b} makes {apply_operator(operator, a, b)}", f"{a} {operator} {b}"


def ask_name(f: RandomFunction, rng: random.Random) -> tuple[str, str]:
    return f"who has {f.expression()}", f.name


def ask_arguments(f: RandomFunction, rng: random.Random) -> tuple[str, str]:
    return f"input of {f.name}", f"{f.arguments[0]}, {f.arguments[1]}"


Ask = Callable[[RandomFunction, random.Random], tuple[str, str]]
ASKS: tuple[Ask, ...] = (
    ask_expression, ask_expression, ask_rewrite, ask_rewrite, ask_rewrite, ask_other, ask_value, ask_check, ask_check,
    ask_operator, ask_name, ask_arguments,
)  # fmt: skip


def _frame(style: int, question: str, answer: str) -> list[Segment]:
    if style == 0:
        return [(f"{_START}user\n{question}{_STOP}\n{_START}assistant\n", REST), (f"{answer}{_STOP}", ANSWER), ("\n", REST)]
    if style == 1:
        return [(f"{question}: ", REST), (f"{answer}\n", ANSWER)]
    return [(f"? {question}\n", REST), (f"{answer}\n", ANSWER)]


def module_document(rng: random.Random) -> list[Segment]:
    """A module with questions about it; the first question may stand before the module, as an issue does."""
    functions = random_functions(rng.randint(1, 4), rng)
    style, file_name = rng.randrange(3), f"{rng.choice(_WORDS)}.py"
    source = module_source(functions, rng)
    segments: list[Segment] = []
    if rng.random() < 0.7:
        f = rng.choice(functions)
        question, answer = rng.choice(ASKS)(f, rng)
        place = rng.choice((f"{question} ({file_name})", f"{file_name} - {question}", f"{question}, look into {file_name}"))
        segments += _frame(style, place, file_name)
        segments += _frame(style, source.rstrip("\n"), answer)
    else:
        segments.append((source + "\n", REST))
    for _ in range(rng.randint(1, 14)):
        segments += _frame(style, *rng.choice(ASKS)(rng.choice(functions), rng))
    return segments


def change_document(rng: random.Random) -> list[Segment]:
    """A module, a changed line, the module after the change, then values of the changed module against wanted ones."""
    functions = random_functions(rng.randint(1, 3), rng)
    index = rng.randrange(len(functions))
    f = functions[index]
    changed = RandomFunction(f.name, f.arguments, _other_operator(f.operator, rng))
    after = [*functions[:index], changed, *functions[index + 1 :]]
    lines = f"-    return {f.expression()}\n+    return {changed.expression()}\n"
    segments: list[Segment] = []
    if rng.random() < 0.5:
        blocks = [f"def {g.name}({g.arguments[0]}, {g.arguments[1]}):\n    return " for g in after]
        segments.append((module_source(functions, random.Random(1)) + lines, REST))
        segments += [
            part for block, g in zip(blocks, after, strict=True) for part in ((block, REST), (g.expression() + "\n\n\n", ANSWER))
        ]
    else:
        segments.append((lines + module_source(after, rng) + "\n", REST))
    cases = [(g, *rng.choice(ALL_CASES)) for g in after]
    wanted = []
    for g, a, b in cases:
        right = rng.random() < 0.6
        wanted.append(apply_operator(g.operator if right else _other_operator(g.operator, rng), a, b))
    tests = "".join(f"if {g.name}({a}, {b}) != {want}\n" for (g, a, b), want in zip(cases, wanted, strict=True))
    segments.append((tests, REST))
    order = list(range(len(cases)))
    rng.shuffle(order)
    for i in order:
        g, a, b = cases[i]
        value = apply_operator(g.operator, a, b)
        segments.append((f"{g.name}(", REST))
        verdict = "good" if value == wanted[i] else "bad"
        segments.append((f"{a}, {b}) = {value}, {wanted[i]} {verdict} {int(verdict == 'good')}\n", ANSWER))
    return segments


def repeat_document(rng: random.Random) -> list[Segment]:
    """A random string of words, names, numbers and symbols, then the same again, or from the middle on."""
    pieces = []
    for _ in range(rng.randint(4, 30)):
        kind = rng.random()
        if kind < 0.55:
            pieces.append(rng.choice(_WORDS))
            pieces.append(rng.choice((" ", " ", ", ", *_SYMBOLS)) if rng.random() < 0.9 else "\n")
        elif kind < 0.7:
            pieces.append(random_name(rng) + rng.choice((" ", "(", ")", ", ")))
        elif kind < 0.85:
            pieces.append(str(rng.randrange(100)) + " ")
        else:
            pieces.append(rng.choice(_SYMBOLS) + rng.choice(_WORDS) + " ")
    text = "".join(pieces).replace("_ ", " ")
    start = rng.choice((0, 0, rng.randrange(len(pieces))))
    again = text if start == 0 else "".join(pieces[start:]).replace("_ ", " ")
    return [(text + "\n", REST), (again + "\n", 0.5)] * rng.choice((1, 1, 2))


def recall_document(rng: random.Random) -> list[Segment]:
    """Keys with values, then some keys again."""
    count = rng.randint(2, 8)
    keys, values = rng.sample(_WORDS, count), rng.sample(_WORDS, count)
    separator, end = rng.choice(((": ", "\n"), (" -> ", "; "), (" = ", ", "), (" ", "\n")))
    segments: list[Segment] = [("".join(f"{k}{separator}{v}{end}" for k, v in zip(keys, values, strict=True)) + "? ", REST)]
    for _ in range(rng.randint(1, 6)):
        index = rng.randrange(count)
        segments += [(f"{keys[index]}{separator}", REST), (f"{values[index]}{end}", ANSWER)]
    return segments


def arithmetic_document(rng: random.Random) -> list[Segment]:
    """Facts of small integers."""
    segments: list[Segment] = []
    for _ in range(rng.randint(4, 16)):
        a, b = rng.choice(ALL_CASES)
        operator = rng.choice(OPERATORS)
        value = apply_operator(operator, a, b)
        segments += [(f"{a} {operator} {b} = ", REST), (f"{value}\n", ANSWER)]
    return segments


DOCUMENTS: tuple[tuple[Callable[[random.Random], list[Segment]], float], ...] = (
    (module_document, 0.45),
    (change_document, 0.17),
    (repeat_document, 0.18),
    (recall_document, 0.15),
    (arithmetic_document, 0.05),
)


def generate_document(rng: random.Random) -> list[Segment]:
    """One document of a random kind, ended by `<|endoftext|>`."""
    makers, weights = zip(*DOCUMENTS, strict=True)
    return [*rng.choices(makers, weights)[0](rng), (_END, REST)]
