"""Native tool calls between an endpoint and an episode."""

import json
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from configs.rollout_config import EpisodeConfig
from envpool.action_format import ToolCall
from envpool.action_formats import ACTION_FORMATS
from envpool.endpoints.chat_endpoint import AnsweredCall, ChatAnswer
from envpool.endpoints.endpoint_messages import answer_text, native_messages, split_reasoning
from envpool.endpoints.endpoint_policy import EndpointPolicy
from envpool.endpoints.token_usage import AnswerUsage
from envpool.policy import GenerateRequest, Message
from envpool.tool import tool_schemas
from envpool.tools import select_tools
from tests.envpool.agent.agent_doubles import CHAT
from tests.envpool.endpoints.test_endpoint_policy import ScriptedServer, endpoint_at, server  # noqa: F401

NATIVE = ACTION_FORMATS["native"]
LS = NATIVE.render(ToolCall("execute_bash", {"command": "ls"}))
TOOLS = tuple(tool_schemas(select_tools(EpisodeConfig().tools)))


def call(name: str, arguments: str) -> dict[str, Any]:
    return {"id": "abc", "type": "function", "function": {"name": name, "arguments": arguments}}


def answer(text: str = "", reasoning: str = "", *calls: tuple[str, str]) -> ChatAnswer:
    return ChatAnswer(text, reasoning, tuple(AnsweredCall(*one) for one in calls), "stop", AnswerUsage())


async def test_tools_go_out_and_the_first_call_comes_back(server: ScriptedServer) -> None:  # noqa: F811
    view = '{"command":"view","path":"/repo/a.py","view_range":[1,20]}'
    server.says("I look. ", reasoning_content="Hm.", tool_calls=[call("str_replace_editor", view), call("submit", "{}")])
    policy = EndpointPolicy(endpoint_at(server.url), CHAT, NATIVE)
    said = NATIVE.assistant_message(
        "<think>\nWell.\n</think>\n\nRun.\n" + NATIVE.render(ToolCall("execute_bash", {"command": "ls"})), "call_1"
    )
    messages = (
        Message("user", "go"),
        said,
        Message("tool", "a.py", tool_call_id="call_1"),
        Message("assistant", "?"),
        Message("tool", "call!"),
    )
    request = GenerateRequest("s", messages, CHAT.prompt_ids(messages[:1]), 64, 0.7, 5, TOOLS)
    text = CHAT.decode((await policy(request)).token_ids)
    parsed = NATIVE.parse(text)
    assert parsed is not None
    assert parsed[0] == "<think>\nHm.\n</think>\n\nI look."
    assert parsed[1] == ToolCall("str_replace_editor", {"command": "view", "path": "/repo/a.py", "view_range": "[1, 20]"})
    assert parsed[1].json_values == {"view_range"}
    assert "submit" not in text
    body = server.asked[0][2]
    ls = {"name": "execute_bash", "arguments": '{"command": "ls"}'}
    assert [tool["function"]["name"] for tool in body["tools"]] == ["execute_bash", "str_replace_editor", "submit"]
    assert body["tool_choice"] == "auto"
    assert body["messages"] == [
        {"role": "user", "content": "go"},
        {
            "role": "assistant", "content": "Run.", "reasoning_content": "Well.",
            "tool_calls": [{"id": "call_1", "type": "function", "function": ls}],
        },
        {"role": "tool", "tool_call_id": "call_1", "content": "a.py"},
        {"role": "assistant", "content": "?"},
        {"role": "user", "content": "call!"},
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [('{"command": "ls', "not valid JSON"), ("[1]", "no JSON object"), ('{"a b": "c"}', "no identifier")],
)
def test_a_broken_call_is_recorded_and_its_fault_can_be_told(arguments: str, reason: str) -> None:
    text = answer_text(answer("Now.", "", ("execute_bash", arguments)), NATIVE)
    assert text.startswith("Now.\n<tool_call>")
    assert NATIVE.parse(text) is None
    assert reason in NATIVE.why_unreadable(text)


def test_a_thought_that_holds_a_call_is_not_carried_out() -> None:
    for said in (answer(f"Never {LS}", "", ("submit", "")), answer("", LS, ("submit", ""))):
        assert NATIVE.parse(answer_text(said, NATIVE)) == ("", ToolCall("submit", {}))


names = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,8}", fullmatch=True)
plain = st.characters(exclude_categories=["Cs"])
values = st.text(plain, max_size=20) | st.integers() | st.booleans() | st.lists(st.integers(), max_size=3)
thoughts = st.text(plain, max_size=30).map(str.strip)


@given(name=names, arguments=st.dictionaries(names, values, max_size=3), text=thoughts, reasoning=thoughts)
def test_what_an_endpoint_said_is_what_it_is_shown_again(name: str, arguments: dict[str, Any], text: str, reasoning: str) -> None:
    """Through our text and back: the same reasoning, text, name and arguments."""
    assume("</think>" not in reasoning and not text.startswith("<think>") and "<tool_call>" not in text + reasoning)
    written = answer_text(answer(text, reasoning, (name, json.dumps(arguments))), NATIVE)
    (shown,) = native_messages([NATIVE.assistant_message(written, "call_1")])
    assert (shown["content"], shown.get("reasoning_content", "")) == (text, reasoning)
    function = shown["tool_calls"][0]["function"]
    assert (function["name"], json.loads(function["arguments"])) == (name, arguments)


def test_text_that_only_looks_like_reasoning() -> None:
    assert split_reasoning("<think>\nno end") == ("", "<think>\nno end")
    assert split_reasoning("a <think>\nb\n</think>\n\nc") == ("", "a <think>\nb\n</think>\n\nc")
