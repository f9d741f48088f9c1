"""Bug operators: exact edits on literal source, and what must hold for every edit of any source."""

import ast
import textwrap
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import envpool
from envpool.bug_operators import BUG_OPERATORS
from envpool.candidate_bugs import candidate_bugs
from envpool.source_edit import SourceModule


def edits(operator: str, body: str) -> list[str]:
    """Every broken version of `def f(...)` with this body, as its changed body."""
    text = "def f(a, b=1):\n" + textwrap.indent(textwrap.dedent(body).strip("\n"), "    ") + "\n"
    module = SourceModule(text.encode())
    changed = [module.apply(edit) for edit in BUG_OPERATORS[operator](module)]
    return [textwrap.dedent(data.decode().split("\n", 1)[1]).strip("\n") for data in changed if data is not None]


@pytest.mark.parametrize(
    ("operator", "before", "after"),
    [
        ("swapped_operator", "return (a) + (b)  # a + b", ["return (a) - (b)  # a + b"]),
        ("swapped_operator", "return a ** -b", ["return a * -b"]),
        ("swapped_operator", "a  *=  b", ["a  //=  b"]),
        ("swapped_operator", "return a and not b", ["return a or not b"]),
        ("swapped_operator", "return a and b and 1", []),
        ("swapped_operator", "return '%d' % a", []),
        ("swapped_operator", "return (a  # + plus é\n        + b)", ["return (a  # + plus é\n        - b)"]),
        ("swapped_comparison", "return a <= b", ["return a >= b"]),
        ("swapped_comparison", "return a not  in b", ["return a in b"]),
        ("swapped_comparison", "return a is b", ["return a is not b"]),
        ("swapped_comparison", "return a < b < 3", []),
        ("swapped_comparison", "return [x for x in a if x == b]", ["return [x for x in a if x != b]"]),
        ("changed_constant", "return a[0], 2.5, True, 'x', None, 0x10", ["return a[1], 2.5, True, 'x', None, 0x10"]),
        ("changed_constant", "return -1", ["return -2"]),
        ("negated_condition", "if a:\n    return b", ["if not a:\n    return b"]),
        ("negated_condition", "if not a:\n    return b", ["if a:\n    return b"]),
        ("negated_condition", "if (a and\n        b):\n    return 1", ["if (not (a and\n        b)):\n    return 1"]),
        ("negated_condition", "return 1 if not(a) else 2", ["return 1 if (a) else 2"]),
        ("negated_condition", "return [x for x in a if x]", ["return [x for x in a if not x]"]),
        ("negated_condition", "if a == b:\n    return 1\nwhile a:\n    pass", []),
        ("off_by_one", "return a < b", ["return a <= b"]),
        ("off_by_one", "return range(len(a))", ["return range(len(a) - 1)"]),
        ("off_by_one", "return range(a, b - 1)", ["return range(a, b)"]),
        ("off_by_one", "return a[b:]", ["return a[b + 1:]"]),
        ("off_by_one", "return a[b * 2]", ["return a[(b * 2) + 1]"]),
        ("off_by_one", "return a[1:]", []),
        ("swapped_arguments", "return f(a,  b)", ["return f(b,  a)"]),
        ("swapped_arguments", "return isinstance(a, b)", []),
        ("swapped_arguments", "return f(a, a, *b)", []),
        ("removed_branch", "if a:  # guard\n    return 0\nreturn b", ["return b"]),
        ("removed_branch", "if a:\n    return 0\nelse:\n    return 1", ["if a:\n    return 0"]),
        ("removed_branch", "if a:\n    return 0\nelif b:\n    return 1", ["if a:\n    return 0"]),
        ("removed_branch", "if a:\n    return 0", []),
    ],
)
def test_edits_by_literal(operator: str, before: str, after: list[str]) -> None:
    assert edits(operator, before)[: max(1, len(after))] == after


def test_all_constants_of_a_line() -> None:
    assert edits("changed_constant", "return 0, 2.5, True, 'x', None, 0x10") == [
        "return 1, 2.5, True, 'x', None, 0x10",
        "return 0, 3.5, True, 'x', None, 0x10",
        "return 0, 2.5, False, 'x', None, 0x10",
    ]


def test_what_is_left_alone() -> None:
    text = b"""
LIMIT = 3

@decorated(1 + 1)
def f(a: 1 + 1 = 2 + 2) -> 3 + 3:
    '''1 + 1'''
    assert a + 1
    raise ValueError(a + 1)
    return f"{a + 1}"
"""
    module = SourceModule(text)
    assert [edit for operator in BUG_OPERATORS.values() for edit in operator(module)] == []


def test_functions_are_named_with_their_class() -> None:
    module = SourceModule(
        b"class A:\n    class B:\n        def f(self):\n            def g():\n                return 1\n            return g\n"
    )
    assert [edit.function for edit in BUG_OPERATORS["changed_constant"](module)] == ["A.B.f"]


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_bytes_around_an_edit_stay(newline: str) -> None:
    text = f"# é – ü{newline}def f(a):{newline}\tx = 'ü'; return a + 1  # ü{newline}".encode()
    module = SourceModule(text)
    (edit,) = BUG_OPERATORS["swapped_operator"](module)
    assert module.apply(edit) == text.replace(b"a + 1", b"a - 1")


@pytest.mark.parametrize("data", [b"def f(:", b"\xff", b"\xef\xbb\xbfx = 1", b"x = '\0'"])
def test_what_is_no_source_is_a_value_error(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"not UTF-8 Python source|byte-order mark"):
        SourceModule(data)


OWN_SOURCES = sorted(Path(envpool.__file__).parent.rglob("*.py"))


@settings(max_examples=25, deadline=None)
@given(path=st.sampled_from(OWN_SOURCES), operator=st.sampled_from(sorted(BUG_OPERATORS)))
def test_every_edit_of_real_code_is_valid_small_and_different(path: Path, operator: str) -> None:
    data = path.read_bytes()
    module = SourceModule(data)
    for edit in list(BUG_OPERATORS[operator](module))[:15]:
        changed = module.apply(edit)
        if changed is not None:
            assert changed.startswith(data[: edit.start])
            assert changed.endswith(data[edit.end :])
            assert ast.dump(ast.parse(changed)) != ast.dump(module.tree)


SOURCES = {
    "a.py": b"def f(x):\n    if x and x < 3:\n        return x + 1\n    return g(x, 2)\n",
    "broken.py": b"def f(:",
    "b.py": b"def g(x, y):\n    return x * y\n",
}


def test_candidates_are_seeded_and_mix_the_operators() -> None:
    bugs = list(candidate_bugs(SOURCES, (), seed=1))
    assert bugs == list(candidate_bugs(SOURCES, (), seed=1))
    assert {bug.operator for bug in bugs} == set(BUG_OPERATORS)
    assert len({bug.operator for bug in bugs[: len(BUG_OPERATORS)]}) == len(BUG_OPERATORS)
    assert len({(bug.path, bug.after) for bug in bugs}) == len(bugs)
    orders = {tuple(bug.after for bug in candidate_bugs(SOURCES, ("changed_constant",), seed)) for seed in range(6)}
    assert len(orders) > 1


def test_a_candidate_says_where_it_is() -> None:
    (bug,) = candidate_bugs({"b.py": SOURCES["b.py"]}, ("swapped_operator",), seed=0)
    assert (bug.path, bug.function, bug.line, bug.operator) == ("b.py", "g", 2, "swapped_operator")
    assert (bug.before, bug.after) == ("def g(x, y):\n    return x * y\n", "def g(x, y):\n    return x // y\n")


def test_unknown_operators_are_refused() -> None:
    with pytest.raises(ValueError, match="unknown bug operator 'typo'; known: swapped_operator, "):
        next(candidate_bugs(SOURCES, ("typo",), seed=0))
