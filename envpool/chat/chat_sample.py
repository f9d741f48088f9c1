"""One supervised sample in the shape of Hugging Face and TRL: `messages` with tool calls, and the `tools` they may call.

    {"messages": [{"role": "user", "content": "Fix it"},
                  {"role": "assistant", "content": "Look. ", "tool_calls": [{"type": "function", "id": "call_1",
                      "function": {"name": "execute_bash", "arguments": {"command": "ls"}}}]},
                  {"role": "tool", "content": "a.py", "name": "execute_bash", "tool_call_id": "call_1"}, ...],
     "tools": [{"type": "function", "function": {"name": ..., "description": ..., "parameters": {...}}}]}

`arguments` is an object with values of the types that the tool's schema names.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from envpool.action_format import ToolCall
from envpool.action_formats import action_format
from envpool.policy import Message
from envpool.tool import JsonSchema, integer_pair, tool_schema
from envpool.trajectories.trajectory_columns import TrajectoryTexts

ROLES = ("system", "user", "assistant", "tool")
Plain = bool | int | float | str
MAX_DEPTH = 64
"""Nesting of arguments and schemas that is still read."""


class ChatSampleError(ValueError):
    """A row that is no chat sample; one line that says where and what."""


@dataclass(frozen=True)
class SampleCall:
    """One tool call. `arguments` holds JSON values."""

    name: str
    arguments: Mapping[str, Any]
    call_id: str = ""


@dataclass(frozen=True)
class SampleMessage:
    """`calls` belong to assistant messages; `name` and `call_id` to the tool message that answers one of them."""

    role: str
    content: str
    calls: tuple[SampleCall, ...] = ()
    name: str = ""
    call_id: str = ""


@dataclass(frozen=True)
class ChatSample:
    """A conversation to imitate. `metadata` is flat: what is known beside the conversation."""

    instance_id: str
    messages: tuple[SampleMessage, ...]
    tools: tuple[Mapping[str, Any], ...]
    metadata: Mapping[str, Plain] = field(default_factory=dict)

    @property
    def num_assistant_turns(self) -> int:
        return sum(message.role == "assistant" for message in self.messages)


def tool_specs(tools: Iterable[tuple[str, str, JsonSchema]]) -> tuple[dict[str, Any], ...]:
    """`tools` of a sample from (name, description, JSON schema of the parameters)."""
    return tuple(tool_schema(name, text, schema) for name, text, schema in tools)


def sample_of_trajectory(
    texts: TrajectoryTexts, tools: Sequence[Mapping[str, Any]], system: str, action: str = "xml"
) -> ChatSample:
    """A stored trajectory as a sample. `system` is the system message its prompt began with ("" for none): when the prompt
    does not begin so, all of it becomes the user message. `action` is the format that the trajectory was played in.

    What a turn wrote after its first call is left out, as it was never carried out; a turn without a call is answered as the
    action format answers it; the last observation is left out when the agent had submitted.
    """
    schemas = {spec["function"]["name"]: spec["function"]["parameters"] for spec in tools}
    head = f"{system}\n\n"
    split = bool(system) and texts.prompt.startswith(head)
    messages = [SampleMessage("system", system)] if split else []
    messages.append(SampleMessage("user", texts.prompt[len(head) :] if split else texts.prompt))
    for index, turn in enumerate(texts.turns):
        message, call = assistant_message(turn.text, f"call_{index + 1}", schemas, action)
        messages.append(message)
        last = index == len(texts.turns) - 1
        if last and (call is None or call.name == "submit" or not turn.observation):
            break
        answer = tool_message(turn.observation, call)
        if call is None:
            role = action_format(action).answer(Message("assistant", turn.text), turn.observation).role
            answer = replace(answer, role=role)
        messages.append(answer)
    metadata: dict[str, Plain] = {"sample_index": texts.sample_index, "policy_name": texts.policy_name}
    return ChatSample(texts.instance_id, tuple(messages), tuple(tools), metadata)


def assistant_message(
    text: str, call_id: str, schemas: Mapping[str, JsonSchema], action: str = "xml"
) -> tuple[SampleMessage, SampleCall | None]:
    """What the model said, with its call taken out of the text; the call is None when there is none to be read."""
    parsed = action_format(action).parse(text)
    if parsed is None:
        return SampleMessage("assistant", text), None
    thought, call = parsed
    values = typed_arguments(call.arguments, schemas.get(call.name, {}))
    sample_call = SampleCall(call.name, values, call_id)
    return SampleMessage("assistant", thought, (sample_call,)), sample_call


def tool_message(observation: str, call: SampleCall | None) -> SampleMessage:
    """The answer to a call; a user message when there was no call to answer."""
    if call is None:
        return SampleMessage("user", observation)
    return SampleMessage("tool", observation, (), call.name, call.call_id)


def typed_arguments(arguments: Mapping[str, str], schema: JsonSchema) -> dict[str, Any]:
    """Texts as the values their JSON schema asks for; what does not fit stays text.

    >>> typed_arguments({"line": "3", "span": "[1, -1]", "text": "3"},
    ...     {"properties": {"line": {"type": "integer"}, "span": {"type": "array"}, "text": {"type": "string"}}})
    {'line': 3, 'span': [1, -1], 'text': '3'}
    """
    properties = schema.get("properties", {})
    return {name: _typed(value, properties.get(name, {}).get("type")) for name, value in arguments.items()}


def _typed(value: str, kind: object) -> Any:
    stripped = value.strip()
    if kind == "integer" and len(stripped) < 20 and stripped.removeprefix("-").isdecimal() and stripped.isascii():
        return int(stripped)
    if kind == "array" and (pair := integer_pair(value)) is not None:
        return list(pair)
    return value


def chat_messages(sample: ChatSample, action: str = "xml") -> tuple[Message, ...]:
    """The sample in this project's own rendering, its calls in the named action format. Tools are not documented here.

    Raises ChatSampleError for a call whose name or parameter cannot be written, and for several calls in a message.
    """
    form = action_format(action)
    messages: list[Message] = []
    for number, message in enumerate(sample.messages):
        if len(message.calls) > 1:
            raise ChatSampleError(f"{sample.instance_id}: message {number} makes {len(message.calls)} calls; one can be rendered")
        if message.calls:
            try:
                messages.append(form.message(message.content, _tool_call(message.calls[0])))
            except ValueError as error:
                raise ChatSampleError(f"{sample.instance_id}: message {number}: {error}") from error
        else:
            answers_native = message.role == "tool" and messages and messages[-1].tool_calls
            messages.append(Message(message.role, message.content, (), message.call_id if answers_native else ""))
    return tuple(messages)


def _tool_call(call: SampleCall) -> ToolCall:
    texts = {
        name: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False) for name, value in call.arguments.items()
    }
    return ToolCall(
        call.name,
        texts,
        json_values=frozenset(name for name, value in call.arguments.items() if not isinstance(value, str)),
        call_id=call.call_id,
    )
