import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envpool.action_format import ToolCall, parse_action, render_action

NAMES = st.from_regex(r"\A[A-Za-z_][A-Za-z0-9_.-]{0,6}\Z")
SHARDS = [
    "</parameter>",
    "<\\/parameter>",
    "\\",
    "<parameter=",
    "a>",
    "=",
    "k",
    "</function>",
    "<function=",
    "f>",
    "\n",
    " ",
    "<",
]
TEXTS = st.lists(st.sampled_from(SHARDS) | st.text(max_size=3), max_size=14).map("".join)
VIEW = "<function=str_replace_editor>\n<parameter=command>view</parameter>\n<parameter=path>a.py</parameter>\n</function>"


def call_in(text: str) -> ToolCall:
    parsed = parse_action(text)
    assert parsed is not None
    return parsed[1]


def test_canonical_text() -> None:
    call = ToolCall("str_replace_editor", {"command": "view", "path": "a.py"})
    assert render_action(call) == VIEW
    assert parse_action(f"First, look.\n{VIEW}") == ("First, look.\n", call)
    assert render_action(ToolCall("submit", {})) == "<function=submit>\n</function>"


def test_the_first_block_counts() -> None:
    assert call_in(f"{VIEW} and then <function=submit>\n</function>").name == "str_replace_editor"


def test_a_tag_that_is_only_talked_about_is_thought() -> None:
    parsed = parse_action(f"I may call <function=submit> later. {VIEW}")
    assert parsed is not None
    assert parsed[0] == "I may call <function=submit> later. "
    assert parsed[1].name == "str_replace_editor"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no call at all",
        "<function=>\n</function>",
        "<function=submit>",
        "</function><function=submit>",
        "<function=execute_bash>\n<parameter=command>ls",
        "<function=execute_bash>\n<parameter=command>ls</parameter>\n",
    ],
)
def test_incomplete_calls_are_none(text: str) -> None:
    assert parse_action(text) is None


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("<parameter=command>ls</parameter>", "ls"),
        ("<parameter=command>\nls\n</parameter>", "ls"),
        ("<parameter=command>x = 1\n</parameter>", "x = 1\n"),
        ("<parameter=command>\n\n</parameter>", ""),
        ("<parameter=command>  ls  </parameter>", "  ls  "),
        ("< parameter=command></parameter><parameter= command >ls</parameter>", "ls"),
        ("<parameter=command>a </function> b</parameter>", "a </function> b"),
        ("<parameter=command>a <parameter=b> c</parameter>", "a <parameter=b> c"),
        ("<parameter=command>a <\\/parameter> b</parameter>", "a </parameter> b"),
        # repairs
        ("<parameter=command=ls</parameter>", "ls"),
        ("<parameter=command=ls></parameter>", "ls"),
        ("<parameter=command=>ls</parameter>", "ls"),
        ("<parameter=command>ls", "ls"),
    ],
)
def test_values(written: str, value: str) -> None:
    assert call_in(f"<function=execute_bash>\n{written}</function>").arguments == {"command": value}


def test_repeated_parameters_are_named_and_the_first_counts() -> None:
    call = call_in("<function=f><parameter=a>1</parameter><parameter=a>2</parameter><parameter=a>3</parameter></function>")
    assert call.arguments == {"a": "1"}
    assert call.repeated == ("a",)


@settings(max_examples=300, deadline=None)
@given(NAMES, st.dictionaries(NAMES, TEXTS, max_size=3))
def test_parse_reverses_render(name: str, arguments: dict[str, str]) -> None:
    call = ToolCall(name, arguments)
    assert parse_action(render_action(call)) == ("", call)


@settings(max_examples=500, deadline=None)
@given(TEXTS)
def test_any_text_parses_without_error_to_something_stable(text: str) -> None:
    parsed = parse_action(text)
    if parsed is not None:
        assert text.startswith(parsed[0])
        once = render_action(parsed[1])
        assert render_action(call_in(once)) == once


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    "text",
    [
        "<function=a>" * 100_000,
        "<function=a><parameter=b>" * 50_000,
        "<function=a>" + "<parameter=b=</parameter>" * 50_000,
        "<function=" + " " * 1_000_000,
        "<function=a>" + "<parameter= " * 100_000,
        "<function=a><parameter=b>" + "<\\" * 500_000 + "</parameter></function>",
        "<function=" + "a" * 1_000_000,
    ],
    ids=range(7),
)
def test_hostile_texts_take_linear_time(text: str) -> None:
    """Quadratic work on a million characters would run for hours; the mark above is the only clock."""
    parse_action(text)


@pytest.mark.parametrize("name", ["", "a b", "1a", "a>", "é", "a\n"])
def test_names_that_could_not_be_read_back_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="cannot name"):
        render_action(ToolCall(name, {}))
    with pytest.raises(ValueError, match="cannot name"):
        render_action(ToolCall("f", {name: "x"}))
