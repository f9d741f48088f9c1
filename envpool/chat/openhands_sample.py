"""SWE-Master's own SFT rows: key `input` with two system messages (the second documents the functions as prose), calls as
XML in the assistant's text, answers of role `tool`; beside it what its tokenising step stored (`prompt`, `response`,
`response_ranges`).
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from envpool.chat.chat_layout import IM_END
from envpool.chat.chat_sample import (
    ROLES,
    ChatSample,
    ChatSampleError,
    Plain,
    SampleCall,
    SampleMessage,
    assistant_message,
    tool_message,
    tool_specs,
)
from envpool.chat.chat_spans import GENERATION_PROMPT, chat_text
from envpool.policy import Message

_FUNCTION = re.compile(
    r"---- BEGIN FUNCTION #\d+: (?P<name>[A-Za-z_][\w.-]*) ----\n(?P<body>.*?)---- END FUNCTION #\d+ ----", re.DOTALL
)
_DESCRIPTION = re.compile(r"\*\*Description\*\*:\s*(.*?)\s*(?:\*\*Parameters\*\*:|No parameters are required|\Z)", re.DOTALL)
_PARAMETER = re.compile(r"^\(\d+\) (\w+) \((\w+), (required|optional)\): ?(.*)$", re.MULTILINE)
_JSON_TYPES = ("string", "integer", "number", "boolean", "array", "object")
_KEPT_FIELDS = ("step_count", "token_usage_total", "reward", "docker_image", "base_commit", "exp_name")


@dataclass(frozen=True)
class OpenHandsSample:
    """One row as it was stored. `response_ranges` are token spans of the original's tokenizer, the last the response;
    `prompt` and `response` are "" and `response_ranges` is empty where the row was not tokenised yet."""

    instance_id: str
    messages: tuple[Message, ...]
    prompt: str
    response: str
    response_ranges: tuple[tuple[int, int], ...]
    metadata: Mapping[str, Plain]

    @property
    def num_assistant_turns(self) -> int:
        return sum(message.role == "assistant" for message in self.messages)


def parse_openhands_row(row: Mapping[str, Any]) -> OpenHandsSample:
    """A row of the original's files. Raises ChatSampleError."""
    items = row.get("input")
    if not isinstance(items, list) or not items:
        raise ChatSampleError("field input is no list of messages")
    messages = []
    for number, item in enumerate(items):
        if not isinstance(item, dict) or item.get("role") not in ROLES or not isinstance(item.get("content"), str):
            raise ChatSampleError(f"message {number} of input has no known role or no text")
        messages.append(Message(item["role"], item["content"].encode("utf-8", "replace").decode("utf-8")))
    if messages[-1].role != "assistant":
        raise ChatSampleError(f"input ends with a {messages[-1].role} message: there is nothing to learn after it")
    prompt, response = (row.get(key, "") for key in ("prompt", "response"))
    if not isinstance(prompt, str) or not isinstance(response, str):
        raise ChatSampleError("prompt or response is not a text")
    instance_id = row.get("instance_id") or ""
    if not isinstance(instance_id, str):
        raise ChatSampleError("field instance_id is not a text")
    metadata = {name: row[name] for name in _KEPT_FIELDS if isinstance(row.get(name), bool | int | float | str)}
    return OpenHandsSample(instance_id, tuple(messages), prompt, response, _ranges(row.get("response_ranges", [])), metadata)


def complaints_about(sample: OpenHandsSample) -> tuple[str, ...]:
    """Where the stored text or spans differ from what the messages give; empty when all agree."""
    found = []
    text, spans = chat_text(sample.messages)
    if sample.response_ranges and len(sample.response_ranges) != len(spans):
        found.append(f"{len(sample.response_ranges)} trained spans, but {len(spans)} assistant turns")
    if sample.prompt:
        before, _ = chat_text(sample.messages[:-1])
        if before + GENERATION_PROMPT != sample.prompt:
            found.append("the stored prompt is not the messages' text")
        if text[len(before) + len(GENERATION_PROMPT) :].rstrip("\n") != sample.response.rstrip("\n"):
            found.append(f"the stored response is not the last message with {IM_END}")
    return tuple(found)


def as_chat_sample(sample: OpenHandsSample) -> ChatSample:
    """The row as `messages` and `tools`: calls parsed out of the text, functions out of the second system message (which is
    left out when it documents any, since the tools say the same; a first one that documents them stays)."""
    tools: tuple[dict[str, Any], ...] = ()
    messages: list[SampleMessage] = []
    schemas: dict[str, Mapping[str, Any]] = {}
    call: SampleCall | None = None
    turn = 0
    for message in sample.messages:
        if message.role == "system" and not tools and (tools := documented_tools(message.content)):
            schemas = {spec["function"]["name"]: spec["function"]["parameters"] for spec in tools}
            if not messages:
                messages.append(SampleMessage("system", message.content))
        elif message.role == "assistant":
            turn += 1
            converted, call = assistant_message(message.content, f"call_{turn}", schemas)
            messages.append(converted)
        elif message.role == "tool":
            messages.append(tool_message(message.content, call))
        else:
            messages.append(SampleMessage(message.role, message.content))
    return ChatSample(sample.instance_id, tuple(messages), tools, dict(sample.metadata))


def documented_tools(text: str) -> tuple[dict[str, Any], ...]:
    """The tools that a system message documents as prose; empty when it documents none.

    >>> documented_tools("---- BEGIN FUNCTION #1: ls ----\\n**Description**: Lists.\\n\\n**Parameters**:\\n"
    ...     "(1) path (string, required): Where.\\n---- END FUNCTION #1 ----")[0]["function"]["parameters"]
    {'type': 'object', 'properties': {'path': {'type': 'string', 'description': 'Where.'}}, 'required': ['path']}
    """
    return tool_specs(_documented(found["name"], found["body"]) for found in _FUNCTION.finditer(text))


def _documented(name: str, body: str) -> tuple[str, str, dict[str, Any]]:
    description = _DESCRIPTION.search(body)
    properties: dict[str, Any] = {}
    required = []
    for key, kind, need, text in _PARAMETER.findall(body):
        properties[key] = {"type": kind if kind in _JSON_TYPES else "string", "description": text}
        if need == "required":
            required.append(key)
    schema = {"type": "object", "properties": properties, "required": required}
    return name, description[1] if description else "", schema


def _ranges(value: object) -> tuple[tuple[int, int], ...]:
    if not isinstance(value, list) or not all(_is_span(span) for span in value):
        raise ChatSampleError("response_ranges is no list of [start, end]")
    return tuple((start, end) for start, end in value)


def _is_span(span: object) -> bool:
    return isinstance(span, Sequence) and len(span) == 2 and all(type(edge) is int for edge in span) and 0 <= span[0] <= span[1]
