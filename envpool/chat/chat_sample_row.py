"""Chat samples as rows of JSON values, and back from rows that others wrote."""

import json
import math
from collections.abc import Mapping
from typing import Any

from envpool.chat.chat_sample import MAX_DEPTH, ROLES, ChatSample, ChatSampleError, SampleCall, SampleMessage


def sample_row(sample: ChatSample) -> dict[str, Any]:
    """The row that `parse_sample_row` reads back; keys without a value are left out."""
    return {
        "messages": [_message_row(message) for message in sample.messages],
        "tools": [dict(tool) for tool in sample.tools],
        "instance_id": sample.instance_id,
        "metadata": dict(sample.metadata),
    }


def parse_sample_row(row: Mapping[str, Any]) -> ChatSample:
    """A row with `messages` and, when it has any, `tools` (a list, or JSON text). `arguments` may be an object or JSON text;
    arguments that are null are taken as not given (Parquet merges the keys of objects). Raises ChatSampleError.
    """
    messages = _list(row.get("messages"), "messages")
    if not messages:
        raise ChatSampleError("field messages is empty")
    parsed = tuple(_message(item, f"message {number}") for number, item in enumerate(messages))
    tools = _list(_decoded(row.get("tools") or [], "tools"), "tools")
    for number, tool in enumerate(tools):
        _check_tool(tool, f"tool {number}")
    instance_id = _text(row.get("instance_id") or "", "field instance_id")
    metadata = _decoded(row.get("metadata") or {}, "metadata")
    if not isinstance(metadata, dict) or not all(isinstance(value, bool | int | float | str) for value in metadata.values()):
        raise ChatSampleError("field metadata is not an object of plain values")
    return ChatSample(instance_id, parsed, tuple(tools), metadata)


def _message_row(message: SampleMessage) -> dict[str, Any]:
    row: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.calls:
        row["tool_calls"] = [
            {
                "type": "function",
                **({"id": call.call_id} if call.call_id else {}),
                "function": {"name": call.name, "arguments": dict(call.arguments)},
            }
            for call in message.calls
        ]
    if message.name:
        row["name"] = message.name
    if message.call_id:
        row["tool_call_id"] = message.call_id
    return row


def _message(item: Any, where: str) -> SampleMessage:
    if not isinstance(item, dict):
        raise ChatSampleError(f"{where} is not an object")
    role = item.get("role")
    if role not in ROLES:
        raise ChatSampleError(f"{where} has the role {str(role)[:40]!r}; known: {', '.join(ROLES)}")
    calls = _list(item.get("tool_calls") or [], f"{where}: tool_calls")
    if calls and role != "assistant":
        raise ChatSampleError(f"{where}: a {role} message cannot call tools")
    content = item.get("content")
    if content is None and calls:
        content = ""
    parsed = tuple(_call(call, f"{where}, call {number}") for number, call in enumerate(calls))
    name, call_id = (_text(item.get(key) or "", f"{where}: {key}") for key in ("name", "tool_call_id"))
    return SampleMessage(role, _text(content, f"{where}: content"), parsed, name, call_id)


def _call(item: Any, where: str) -> SampleCall:
    function = item.get("function") if isinstance(item, dict) else None
    if not isinstance(function, dict):
        raise ChatSampleError(f"{where} has no function")
    arguments = _decoded(function.get("arguments") or {}, f"{where}: arguments")
    if not isinstance(arguments, dict):
        raise ChatSampleError(f"{where}: arguments is not an object")
    name = _text(function.get("name"), f"{where}: name")
    if not name:
        raise ChatSampleError(f"{where} names no function")
    given = {str(key): value for key, value in arguments.items() if value is not None}
    return SampleCall(name, given, _text(item.get("id") or "", f"{where}: id"))


def _check_tool(tool: Any, where: str) -> None:
    function = tool.get("function", tool) if isinstance(tool, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise ChatSampleError(f"{where} names no function")


def _decoded(value: Any, where: str) -> Any:
    """JSON text as its value; anything else as it is."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError) as error:
            raise ChatSampleError(f"{where} is not valid JSON") from error
    _check_plain(value, where)
    return value


def _check_plain(value: Any, where: str) -> None:
    """Bounded depth and finite numbers. Level by level, so that no nesting overflows the stack."""
    level = [value]
    for _ in range(MAX_DEPTH):
        if any(isinstance(one, float) and not math.isfinite(one) for one in level):
            raise ChatSampleError(f"{where} holds a number that JSON has not")
        level = [child for one in level for child in _children(one)]
        if not level:
            return
    raise ChatSampleError(f"{where} is nested deeper than {MAX_DEPTH} levels")


def _children(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return list(value) if isinstance(value, list) else []


def _list(value: Any, where: str) -> list[Any]:
    if not isinstance(value, list):
        raise ChatSampleError(f"field {where} is missing" if value is None else f"field {where} is not a list")
    return value


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str):
        raise ChatSampleError(f"{where} is missing" if value is None else f"{where} is not a text")
    return value.encode("utf-8", "replace").decode("utf-8")  # lone surrogates cannot be written
