"""Bug operators: exact edits on literal source, and what must hold for every edit of any source."""

import ast
import textwrap
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import envpool
from envpool.bug_operators import BUG_OPERATORS
from envpool.packages.candidate_bugs import BugSet, CandidateBug, bug_combinations, candidate_bugs
from envpool.packages.source_edit import SourceModule


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


@pytest.mark.parametrize(
    ("operator", "before", "after"),
    [
        ("removed_statement", "a.x = b  # kept\nreturn a", ["return a"]),
        ("removed_statement", "a.sort()\na += 1\ndel a[0]", ["a += 1\ndel a[0]", "a.sort()\ndel a[0]", "a.sort()\na += 1"]),
        ("removed_statement", "x = a\nif a:\n    a.sort()\nb(); b()", []),
        ("wrong_variable", "return a", ["return b"]),
        ("wrong_variable", "c = a\nreturn a.x, b(c)", ["c = b\nreturn a.x, b(c)", "c = a\nreturn a.x, b(a)"]),
        ("wrong_variable", "return [a for a in range(3)]", []),
        ("missing_return", "if a:\n    return (a +\n        b)\nreturn None", ["if a:\n    (a +\n        b)\nreturn None"]),
        ("missing_return", "return", []),
        (
            "narrowed_exception",
            "try:\n    a()\nexcept (KeyError, ValueError):\n    pass",
            ["try:\n    a()\nexcept ValueError:\n    pass", "try:\n    a()\nexcept KeyError:\n    pass"],
        ),
        (
            "narrowed_exception",
            "try:\n    a()\nexcept KeyError:\n    b = 2\nexcept ValueError:\n    pass",
            ["try:\n    a()\nexcept ValueError:\n    pass", "try:\n    a()\nexcept KeyError:\n    b = 2"],
        ),
        ("narrowed_exception", "try:\n    a()\nexcept KeyError:\n    pass", []),
        ("dropped_slice_bound", "return a[1:b][::-1]", ["return a[:b][::-1]", "return a[1:][::-1]", "return a[1:b][::]"]),
        ("dropped_slice_bound", "return a[(1):]", []),
        (
            "changed_loop_exit",
            "for x in a:\n    if x:\n        continue\n    while x:\n        break\n    break",
            [
                "for x in a:\n    if x:\n        break\n    while x:\n        break\n    break",
                "for x in a:\n    if x:\n        continue\n    while x:\n        break\n    continue",
            ],
        ),
        ("swapped_call", "return min(a.x.split(b), any)", ["return max(a.x.split(b), any)", "return min(a.x.rsplit(b), any)"]),
        ("swapped_call", "return a.min(b)", []),
        ("dropped_keyword", "return f(a, k=1,  m=b)", ["return f(a,  m=b)", "return f(a, k=1)"]),
        ("dropped_keyword", "return f(k=1, **a)", ["return f(**a)"]),
        ("dropped_keyword", "return f(k=1)", ["return f()"]),
        ("dropped_condition", "return a and (b or 1)", ["return (b or 1)", "return a", "return a and (1)", "return a and (b)"]),
        ("dropped_condition", "return a or b or 1", ["return b or 1", "return a or 1", "return a or b"]),
        ("dropped_term", "return (a - 1) * b", ["return (a - 1)", "return (a) * b"]),
        ("dropped_term", "return a + b", ["return a", "return b"]),
        ("dropped_term", "return 'x%s' % a, a / b", []),
        ("removed_conversion", "return list(x for x in a)", ["return (x for x in a)"]),
        ("removed_conversion", "return sorted(a, key=b), a.strip().lower()", [
            "return sorted(a, key=b), a.strip()", "return sorted(a, key=b), a.lower()",
        ]),
        ("removed_conversion", "return list(*a), a.strip(b)", []),
        ("overwritten_value", "a[b]  +=  1", ["a[b]  =  1"]),
        ("overwritten_value", "a = 1", []),
        ("swapped_elements", "x, y = a,  b\nreturn (a, a)", ["x, y = b,  a\nreturn (a, a)"]),
        ("swapped_elements", "return a, *b", []),
    ],
)  # fmt: skip
def test_all_edits_by_literal(operator: str, before: str, after: list[str]) -> None:
    assert edits(operator, before) == after


def test_defaults_are_changed() -> None:
    module = SourceModule(b"def f(a, b=1, *, c=True, d='', e='x', g=None, h=0x1):\n    return a\n")
    changed = [module.apply(edit) for edit in BUG_OPERATORS["changed_default"](module)]
    assert [data.decode().partition("\n")[0] for data in changed if data is not None] == [
        "def f(a, b=2, *, c=True, d='', e='x', g=None, h=0x1):",
        "def f(a, b=1, *, c=False, d='', e='x', g=None, h=0x1):",
        "def f(a, b=1, *, c=True, d=\" \", e='x', g=None, h=0x1):",
        "def f(a, b=1, *, c=True, d='', e=\"\", g=None, h=0x1):",
    ]


def test_attributes_of_the_same_class_are_mixed_up() -> None:
    text = b"class A:\n    def __init__(self):\n        self.x = 1\n        self.y = 2\n\n    def f(self, o):\n"
    body = b"        return self.y + self.z + o.x + self.x()\n"
    module = SourceModule(text + body)
    (edit,) = BUG_OPERATORS["wrong_attribute"](module)
    assert module.apply(edit) == text + body.replace(b"self.y", b"self.x")
    assert edit.function == "A.f"


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
def f(a: 1 + 1 = None) -> 3 + 3:
    '''1 + 1'''
    assert a + 1
    x = f"{a + 1}"
    raise ValueError(a + 1)
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
    "c.py": b"""
class A:
    def __init__(self, x, y=1):
        self.x = x
        self.y = y
        try:
            self.x += min(self.y, y)
        except (KeyError, ValueError):
            pass
        for z in list(x[1:]):
            if z:
                continue
        return f(z, k=1), y
""",
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
    assert (bug.first_line, bug.last_line) == (1, 2)


def test_unknown_operators_are_refused() -> None:
    with pytest.raises(ValueError, match="unknown bug operator 'typo'; known: swapped_operator, "):
        next(candidate_bugs(SOURCES, ("typo",), seed=0))


def two_functions() -> tuple[CandidateBug, ...]:
    text = b"def f(x):\n    return x + 1\n\n\n@decorated\ndef g(x):\n    return x * 2\n"
    return tuple(candidate_bugs({"a.py": text, "b.py": text}, ("swapped_operator",), seed=0))


def test_bugs_of_one_file_are_combined() -> None:
    here = [bug for bug in two_functions() if bug.path == "a.py"]
    assert sorted((bug.function, bug.first_line, bug.last_line) for bug in here) == [("f", 1, 2), ("g", 5, 7)]
    both = BugSet(tuple(here))
    assert both.operator == "combined"
    assert BugSet((here[0],)).operator == "swapped_operator"
    after = "def f(x):\n    return x - 1\n\n\n@decorated\ndef g(x):\n    return x // 2\n"
    assert both.changes == {"a.py": (here[0].before, after)}


def test_combinations_take_turns_and_never_repeat() -> None:
    bugs = two_functions()
    sets = list(bug_combinations(bugs, 2, seed=3))
    assert sets == list(bug_combinations(bugs, 2, seed=3))
    assert len(set(sets)) == len(sets) == 6
    assert [len(one.changes) for one in sets] == [1, 2, 1, 2, 2, 2]
    assert {bug for one in sets[:2] for bug in one.bugs} >= set(sets[0].bugs)
    assert [len(one.bugs) for one in bug_combinations(bugs, 3, seed=3)] == [3] * 4
    assert list(bug_combinations(bugs, 1, seed=3)) == []


def test_bugs_of_one_function_are_not_combined() -> None:
    bugs = tuple(candidate_bugs({"b.py": b"def g(x, y):\n    return x * y\n"}, (), seed=0))
    assert len(bugs) > 1
    assert list(bug_combinations(bugs, 2, seed=0)) == []
