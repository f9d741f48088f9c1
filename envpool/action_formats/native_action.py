"""Calls in the form that the chat templates of Qwen2.5 and Qwen3 (and of Hermes before them) write:

    <tool_call>
    {"name": "execute_bash", "arguments": {"command": "ls"}}
    </tool_call>

The first tag that an opening brace follows counts. The tools and this form are documented by the template itself.
"""

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from envpool.action_format import NAME, ToolCall
from envpool.policy import Message

CALL_OPEN = "<tool_call>"
CALL_CLOSE = "</tool_call>"
_OPENING = re.compile(r"<tool_call>\s*+(?=\{)")
_CLOSING = re.compile(r"\s*+(?:</tool_call>|\Z)")
_NAME = re.compile(NAME)


class _UnreadableError(ValueError):
    """Why a call cannot be read, in a few words."""


class _Object(dict[str, Any]):
    """A JSON object whose repeated keys keep their first value; `repeated` names them."""

    repeated: tuple[str, ...] = ()


@dataclass(frozen=True)
class NativeAction:
    """`<tool_call>`, a JSON object with name and arguments, `</tool_call>`."""

    instructions: str = ""

    def parse(self, text: str) -> tuple[str, ToolCall] | None:
        r"""
        >>> NativeAction().parse('look\n<tool_call>\n{"name": "view", "arguments": {"line": 3}}\n</tool_call>')
        ('look', ToolCall(name='view', arguments={'line': '3'}, repeated=()))
        """
        try:
            return _read(text)
        except _UnreadableError:
            return None

    def why_unreadable(self, text: str) -> str:
        try:
            _read(text)
        except _UnreadableError as error:
            return str(error)
        return ""

    def render(self, call: ToolCall) -> str:
        r"""
        >>> NativeAction().render(ToolCall("view", {"path": "a.py", "line": "3"}, json_values=frozenset({"line"})))
        '<tool_call>\n{"name": "view", "arguments": {"path": "a.py", "line": 3}}\n</tool_call>'
        """
        for name in (call.name, *call.arguments):
            if not _NAME.fullmatch(name):
                raise ValueError(f"{name!r} cannot name a function or parameter")
        values = (
            f"{json.dumps(key)}: {value if key in call.json_values else json.dumps(value, ensure_ascii=False)}"
            for key, value in call.arguments.items()
        )
        return f'{CALL_OPEN}\n{{"name": "{call.name}", "arguments": {{{", ".join(values)}}}}}\n{CALL_CLOSE}'

    def message(self, thought: str, call: ToolCall) -> Message:
        """The template puts a call on a line of its own, so the thought's last line ends are left out."""
        self.render(call)
        return Message("assistant", thought.rstrip("\n"), (call,))

    def assistant_message(self, text: str, call_id: str) -> Message:
        parsed = self.parse(text)
        if parsed is None:
            return Message("assistant", text)
        thought, call = parsed
        return Message("assistant", thought, (replace(call, call_id=call_id),))

    def answer(self, said: Message, observation: str) -> Message:
        """A user's message where there is no call to answer: OpenAI's API and its like refuse a tool message there."""
        if not said.tool_calls:
            return Message("user", observation)
        return Message("tool", observation, tool_call_id=said.tool_calls[0].call_id)

    def template_tools(self, tools: Sequence[Mapping[str, Any]]) -> tuple[Mapping[str, Any], ...]:
        return tuple(tools)


def repair_missing_end(text: str, position: int) -> bool:
    """Whether a call whose JSON ends at `position` ends there: with its tag, or with the completion (the tag was left out)."""
    return _CLOSING.match(text, position) is not None


def repair_encoded_arguments(arguments: Any) -> Any:
    """Arguments that were written as JSON inside a string (as OpenAI's API transports them), decoded."""
    return _decoded(arguments, 0)[0] if isinstance(arguments, str) else arguments


def repair_null_arguments(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Without the arguments that are null: written for "not given".

    >>> repair_null_arguments({"path": "a.py", "view_range": None})
    {'path': 'a.py'}
    """
    return {name: value for name, value in arguments.items() if value is not None}


def _read(text: str) -> tuple[str, ToolCall]:
    opening = _OPENING.search(text)
    if opening is None:
        raise _UnreadableError("no JSON object follows its <tool_call>" if CALL_OPEN in text else "it holds no <tool_call>")
    found, end = _decoded(text, opening.end())
    if not repair_missing_end(text, end):
        raise _UnreadableError("something other than </tool_call> follows the JSON object of its call")
    name, arguments = found.get("name"), repair_encoded_arguments(found.get("arguments", _Object()))
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise _UnreadableError("the name in its call is missing or no identifier")
    if not isinstance(arguments, _Object):
        raise _UnreadableError("the arguments of its call are no JSON object")
    given = repair_null_arguments(arguments)
    if not all(_NAME.fullmatch(key) for key in given):
        raise _UnreadableError("a parameter of its call is no identifier")
    try:
        values = {key: _text(value) for key, value in given.items()}
    except RecursionError:
        raise _UnreadableError("its call is nested too deeply") from None
    json_values = frozenset(key for key, value in given.items() if not isinstance(value, str))
    call = ToolCall(name, values, arguments.repeated, json_values)
    return text[: opening.start()].removesuffix("\n"), call


def _decoded(text: str, start: int) -> tuple[Any, int]:
    """The JSON value that starts there, and where it ends."""
    try:
        value, end = _DECODER.raw_decode(text, start)
    except json.JSONDecodeError as error:
        raise _UnreadableError(f"its call is not valid JSON ({error.msg} at character {error.pos - start} of it)") from None
    except (ValueError, RecursionError) as error:
        raise _UnreadableError(f"its call is not valid JSON ({str(error)[:80]})") from None
    return value, end


def _object(pairs: list[tuple[str, Any]]) -> _Object:
    found = _Object()
    repeated = []
    for key, value in pairs:
        if key in found:
            repeated.append(key)
        else:
            found[key] = value
    found.repeated = tuple(dict.fromkeys(repeated))
    return found


def _text(value: Any) -> str:
    """A string as it is, any other value as JSON. Halves of surrogate pairs, which no file or tokenizer takes, become `?`."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text.encode("utf-8", "replace").decode("utf-8")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError("a number that JSON has not")
    return value


_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_float=_finite, parse_constant=_finite, strict=False)
