"""Words and issue templates of the micro tasks, split so that held-out names and templates never occur in training.

A third split, `validation`, has names and templates of its own: settings are tuned on it and the held-out tasks guide no choice.
"""

from collections.abc import Iterator
from typing import Literal

Split = Literal["train", "validation", "heldout"]

VERBS = str.split(
    "merge scale blend count shift split join rate pack trim fold mix load rank pick move plan fill swap tune hold send draw lift"
)
NOUNS = str.split(
    "area score price stock speed width grade tax cargo weight fare budget signal target level volume batch margin"
    " reward energy height credit demand supply"
)
MODULES = str.split(
    "shapes orders ledger garden travel kitchen library market weather factory harbor museum theatre school bakery studio"
    " airport clinic racing farm castle office stable cinema"
)
ARGUMENTS: tuple[tuple[str, str], ...] = (
    ("w", "h"), ("a", "b"), ("x", "y"), ("n", "k"), ("left", "right"), ("low", "high"), ("first", "last"), ("size", "step"),
    ("base", "extra"), ("total", "part"), ("m", "d"), ("p", "q"), ("row", "col"), ("old", "new"), ("i", "j"), ("top", "end"),
)  # fmt: skip

OPERATORS = ("+", "-", "*", "//", "%")
OPERATOR_NOUNS = {"+": "sum", "-": "difference", "*": "product", "//": "quotient", "%": "remainder"}
OPERATOR_INFIX = {"+": "plus", "-": "minus", "*": "times", "//": "over", "%": "modulo"}

EXPLICIT_TEMPLATES: dict[Split, tuple[str, ...]] = {
    "train": (
        "{f} in {m}.py should return the {noun} of {a} and {b}.",
        "{m}.py: {f} must give {a} {infix} {b}.",
        "Expected the {noun} of {a} and {b} from {f} in {m}.py.",
        "{f} of {m}.py has to compute {a} {infix} {b}.",
        "Bug in {m}.py: {f} does not return the {noun}.",
        "We need {a} {infix} {b} from {f}, see {m}.py.",
        "In {m}.py the function {f} is meant to be the {noun} of its arguments.",
        "Please make {f} in {m}.py return {a} {infix} {b}.",
    ),
    "validation": (
        "The function {f} in {m}.py should be {a} {infix} {b}.",
        "We need the {noun} of {a} and {b}, please fix {f} in {m}.py.",
        "{m}.py has a mistake: {f} does not give the {noun}.",
    ),
    "heldout": (
        "The {noun} of {a} and {b} is expected from {f} in {m}.py.",
        "{f} from {m}.py has a bug, it should be {a} {infix} {b}.",
        "Please see {m}.py: {f} has to return the {noun} of its arguments.",
        "In {m}.py we need {f} to give {a} {infix} {b}.",
    ),
}
VAGUE_TEMPLATES: dict[Split, tuple[str, ...]] = {
    "train": (
        "{f} in {m}.py returns wrong values.",
        "{m}.py: {f} is broken.",
        "The result of {f} in {m}.py is not right.",
        "Bug in {m}.py: {f} fails.",
        "Something is wrong with {f}, see {m}.py.",
        "Please fix {f} in {m}.py, it gives bad results.",
        "In {m}.py the function {f} does not work.",
        "{f} of {m}.py has a mistake.",
    ),
    "validation": (
        "Please fix the function {f} of {m}.py.",
        "{m}.py: the result of {f} is wrong.",
        "{f} fails, see {m}.py.",
    ),
    "heldout": (
        "There is a mistake in {m}.py, {f} gives wrong values.",
        "{f} from {m}.py does not work, please fix it.",
        "The function {f} in {m}.py is broken.",
        "Please see {m}.py: the result of {f} is bad.",
    ),
}


def name_split(verb: str, noun: str) -> Split:
    """Which split the function name `verb_noun` belongs to: every fifth name is held out, every fifth for validation; every
    word occurs in all splits.

    >>> name_split("merge", "area"), name_split("scale", "area"), name_split("blend", "area")
    ('heldout', 'validation', 'train')
    """
    splits: tuple[Split, ...] = ("heldout", "validation", "train", "train", "train")
    return splits[(VERBS.index(verb) + 2 * NOUNS.index(noun)) % 5]


def function_names(split: Split) -> Iterator[str]:
    """All function names of a split."""
    for verb in VERBS:
        for noun in NOUNS:
            if name_split(verb, noun) == split:
                yield f"{verb}_{noun}"
