import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envpool.action_format import ToolCall
from envpool.action_formats import ACTION_FORMATS, action_format

NATIVE = ACTION_FORMATS["native"]
NAMES = st.from_regex(r"\A[A-Za-z_][A-Za-z0-9_.-]{0,6}\Z")
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)
SHARDS = [
    "<tool_call>",
    "</tool_call>",
    "{",
    "}",
    '"',
    ":",
    ",",
    '"name"',
    '"arguments"',
    '"f"',
    "\\",
    "\\ud800",
    "\n",
    " ",
    "1",
    "[",
    "]",
]
WORDS = st.lists(st.sampled_from(SHARDS) | st.text(max_size=3), max_size=20).map("".join)


def written(value: object) -> str:
    return f"<tool_call>\n{json.dumps(value)}\n</tool_call>"


def call_in(text: str) -> ToolCall:
    parsed = NATIVE.parse(text)
    assert parsed is not None
    return parsed[1]


def test_canonical_text() -> None:
    text = '<tool_call>\n{"name": "view", "arguments": {"path": "ä.py", "lines": [1, -1]}}\n</tool_call>'
    thought, call = NATIVE.parse(f"First, look.\n{text}") or ("", ToolCall("", {}))
    assert thought == "First, look."
    assert call == ToolCall("view", {"path": "ä.py", "lines": "[1, -1]"})
    assert call.json_values == {"lines"}
    assert NATIVE.render(call) == text
    assert NATIVE.render(ToolCall("submit", {})) == '<tool_call>\n{"name": "submit", "arguments": {}}\n</tool_call>'


def test_the_first_call_counts_and_a_tag_that_is_only_talked_about_is_thought() -> None:
    text = f"I use <tool_call> now.\n{written({'name': 'a', 'arguments': {}})}\n{written({'name': 'b', 'arguments': {}})}"
    parsed = NATIVE.parse(text)
    assert parsed is not None
    assert parsed[0] == "I use <tool_call> now."
    assert parsed[1].name == "a"


def test_a_closing_tag_inside_a_value_ends_nothing() -> None:
    assert call_in(written({"name": "f", "arguments": {"x": "</tool_call>"}})).arguments == {"x": "</tool_call>"}


@pytest.mark.parametrize(
    ("text", "arguments"),
    [
        ('<tool_call>{"name": "f", "arguments": {"x": "1"}}', {"x": "1"}),  # the closing tag was left out
        ('<tool_call>{"name": "f"}</tool_call>', {}),
        ('<tool_call>{"name": "f", "arguments": "{\\"x\\": \\"1\\"}"}</tool_call>', {"x": "1"}),  # encoded twice
        ('<tool_call>{"name": "f", "arguments": {"x": "1", "y": null}}</tool_call>', {"x": "1"}),
        ('<tool_call>{"name": "f", "arguments": {"x": "a\nb"}}</tool_call>', {"x": "a\nb"}),  # a raw line end in a string
        ('<tool_call>{"name": "f", "arguments": {"x": "\\ud800"}}</tool_call>', {"x": "?"}),
    ],
)
def test_repairs(text: str, arguments: dict[str, str]) -> None:
    assert call_in(text).arguments == arguments


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "it holds no <tool_call>"),
        ("<tool_call> f(x) </tool_call>", "no JSON object follows its <tool_call>"),
        (
            '<tool_call>{"name": "f", "arguments": {"x": "1"}',
            "its call is not valid JSON (Expecting ',' delimiter at character 37 of it)",
        ),
        ('<tool_call>{"name": "f"} and more', "something other than </tool_call> follows the JSON object of its call"),
        (written({"arguments": {}}), "the name in its call is missing or no identifier"),
        (written({"name": "a b"}), "the name in its call is missing or no identifier"),
        (written({"name": "f", "arguments": [1]}), "the arguments of its call are no JSON object"),
        (written({"name": "f", "arguments": {"a b": 1}}), "a parameter of its call is no identifier"),
        (
            '<tool_call>{"name": "f", "arguments": {"x": NaN}}</tool_call>',
            "its call is not valid JSON (a number that JSON has not)",
        ),
        (
            '<tool_call>{"name": "f", "arguments": {"x": 1e999}}</tool_call>',
            "its call is not valid JSON (a number that JSON has not)",
        ),
    ],
)
def test_unreadable_calls_say_why(text: str, why: str) -> None:
    assert NATIVE.parse(text) is None
    assert NATIVE.why_unreadable(text) == why


def test_repeated_parameters_are_named_and_the_first_counts() -> None:
    call = call_in('<tool_call>{"name": "f", "arguments": {"a": "1", "b": "2", "a": "3"}}</tool_call>')
    assert call.arguments == {"a": "1", "b": "2"}
    assert call.repeated == ("a",)


@settings(max_examples=200, deadline=None)
@given(NAMES, st.dictionaries(NAMES, JSON, max_size=3))
def test_any_call_is_read_back_as_it_was_written(name: str, arguments: dict[str, object]) -> None:
    parsed = NATIVE.parse(written({"name": name, "arguments": arguments}))
    if parsed is not None:  # else a number that JSON has not
        assert parsed[1].name == name
        assert set(parsed[1].arguments) == {key for key, value in arguments.items() if value is not None}
        once = NATIVE.render(parsed[1])
        again = call_in(once)
        assert (again, again.json_values, NATIVE.render(again)) == (parsed[1], parsed[1].json_values, once)


@settings(max_examples=500, deadline=None)
@given(WORDS)
def test_any_text_parses_without_error_to_something_stable(text: str) -> None:
    parsed = NATIVE.parse(text)
    assert (parsed is None) == (NATIVE.why_unreadable(text) != "")
    if parsed is not None:
        assert text.startswith(parsed[0])
        once = NATIVE.render(parsed[1])
        assert NATIVE.render(call_in(once)) == once


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    "text",
    [
        "<tool_call>" * 100_000,
        '<tool_call>{"a":' * 60_000,
        "<tool_call>" + "[" * 500_000,
        "<tool_call>{" + '"a":[' * 200_000,
        "<tool_call>" + " " * 1_000_000,
        ("<tool_call>" + " " * 100) * 10_000,
        '<tool_call>{"name": "' + "a" * 1_000_000,
        '<tool_call>{"name": "f", "arguments": {' + ",".join(f'"k{i}": "x"' for i in range(50_000)) + "}}</tool_call>",
        '<tool_call>{"name": "f", "arguments": {"x": ' + "9" * 1_000_000 + "}}</tool_call>",
    ],
    ids=range(9),
)
def test_hostile_texts_take_linear_time(text: str) -> None:
    """Quadratic work on a million characters would run for hours; the mark above is the only clock."""
    NATIVE.parse(text)
    NATIVE.why_unreadable(text)


def test_names_that_could_not_be_read_back_are_refused() -> None:
    with pytest.raises(ValueError, match="cannot name"):
        NATIVE.render(ToolCall("a b", {}))


def test_a_completion_becomes_a_message_of_its_form() -> None:
    text = f"Look.\n{written({'name': 'f', 'arguments': {}})}"
    said = NATIVE.assistant_message(text, "call_1")
    assert (said.role, said.content) == ("assistant", "Look.")
    assert [(call.name, call.call_id) for call in said.tool_calls] == [("f", "call_1")]
    assert NATIVE.assistant_message("no call", "call_1").content == "no call"
    assert ACTION_FORMATS["xml"].assistant_message(text, "call_1").content == text


def test_an_unknown_form_is_an_error() -> None:
    with pytest.raises(ValueError, match="no such action format 'qwen'; known: xml, native"):
        action_format("qwen")
