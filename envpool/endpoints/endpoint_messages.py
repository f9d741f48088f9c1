"""An episode's messages as the chat protocol's JSON, and answers as the text that a completion would have been.

Calls as text (action format `xml`): the protocol knows of no tools; what a tool said goes as a user message.
Native calls: they go as `tool_calls`, what the tools said with role `tool`, and reasoning in the field it came in.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from envpool.action_format import ToolCall
from envpool.action_formats import ActionFormat
from envpool.action_formats.native_action import CALL_CLOSE, CALL_OPEN
from envpool.endpoints.chat_endpoint import AnsweredCall, ChatAnswer
from envpool.policy import Message
from envpool.untrusted_text import neutralise

Json = Mapping[str, Any]
THINK, END_THINK = "<think>\n", "\n</think>\n\n"


def text_messages(messages: Sequence[Message]) -> list[Json]:
    """Calls stay in the text."""
    return [
        {"role": "user", "content": f"<tool_response>\n{message.content}\n</tool_response>"}
        if message.role == "tool"
        else {"role": message.role, "content": message.content}
        for message in messages
    ]


def native_messages(messages: Sequence[Message]) -> list[Json]:
    """Calls as `tool_calls`; an answer to a turn without a call is a user message."""
    return [_native_message(message) for message in messages]


def answer_text(answer: ChatAnswer, form: ActionFormat) -> str:
    """Reasoning as a think block, the text, and the first native call as `form` writes it.

    A thought that itself holds a call is left out: it would be the one that is carried out. A call that cannot be read stays as
    it was written, so that the agent is told what is wrong with it.
    """
    reasoning = answer.reasoning.strip()
    if form.parse(reasoning) is not None:
        reasoning = ""
    thought = f"{THINK}{reasoning}{END_THINK}{answer.text}" if reasoning else answer.text
    if not answer.calls:
        return thought
    thought = "" if form.parse(thought) is not None else thought.rstrip()
    written = call_text(answer.calls[0], form)
    return f"{thought}\n{written}" if thought else written


def with_one_thought(answer: ChatAnswer) -> ChatAnswer:
    """The answer of a world model that thinks in a field of its own: without that field where its text has a think block, as it
    was told; else with the field's tags neutralised. The parsers of its answers take one block and one verdict only."""
    own = answer.text.lstrip().startswith(THINK.rstrip())
    return replace(answer, reasoning="" if own else neutralise(answer.reasoning))


def call_text(answered: AnsweredCall, form: ActionFormat) -> str:
    """The call in its canonical form, or as it was written when it cannot be read."""
    raw = f'{CALL_OPEN}\n{{"name": {json.dumps(answered.name)}, "arguments": {answered.arguments or "{}"}}}\n{CALL_CLOSE}'
    parsed = form.parse(raw)
    return raw if parsed is None else form.render(parsed[1])


def split_reasoning(text: str) -> tuple[str, str]:
    r"""
    >>> split_reasoning("<think>\nhm\n</think>\n\nLook."), split_reasoning("Look.")
    (('hm', 'Look.'), ('', 'Look.'))
    """
    reasoning, end, said = text.removeprefix(THINK).partition(END_THINK.rstrip())
    if not text.startswith(THINK) or not end:
        return "", text
    return reasoning, said.removeprefix("\n\n")


def _native_message(message: Message) -> Json:
    if message.role == "tool" and message.tool_call_id:
        return {"role": "tool", "tool_call_id": message.tool_call_id, "content": message.content}
    if message.role != "assistant":
        return {"role": "user" if message.role == "tool" else message.role, "content": message.content}
    reasoning, said = split_reasoning(message.content)
    written: dict[str, Any] = {"role": "assistant", "content": said}
    if reasoning:
        written["reasoning_content"] = reasoning
    if message.tool_calls:
        written["tool_calls"] = [_native_call(call) for call in message.tool_calls]
    return written


def _native_call(call: ToolCall) -> Json:
    values = {name: json.loads(text) if name in call.json_values else text for name, text in call.arguments.items()}
    function = {"name": call.name, "arguments": json.dumps(values, ensure_ascii=False)}
    return {"id": call.call_id, "type": "function", "function": function}
