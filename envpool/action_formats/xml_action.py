"""Calls as an XML block in the assistant's text (`envpool.action_format`), tools documented in the system prompt."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from envpool.action_format import ToolCall, parse_action, render_action
from envpool.policy import Message

_INSTRUCTIONS = """\
Think first, then end your answer with exactly one call in this form:

<function=NAME>
<parameter=KEY>VALUE</parameter>
</function>

Values are taken literally, so keep indentation exact; write a closing parameter tag inside a value as <\\/parameter>. \
Only the first call of an answer is carried out. The result comes back in the next message."""


@dataclass(frozen=True)
class XmlAction:
    """`<function=NAME>`, parameters, `</function>`."""

    instructions: str = _INSTRUCTIONS

    def parse(self, text: str) -> tuple[str, ToolCall] | None:
        return parse_action(text)

    def why_unreadable(self, text: str) -> str:
        if "<function=" not in text:
            return "it holds no <function=NAME> block"
        return "its <function=NAME> block has no closing </function>"

    def render(self, call: ToolCall) -> str:
        return render_action(call)

    def message(self, thought: str, call: ToolCall) -> Message:
        return Message("assistant", thought + render_action(call))

    def assistant_message(self, text: str, call_id: str) -> Message:
        return Message("assistant", text)

    def answer(self, said: Message, observation: str) -> Message:
        return Message("tool", observation)

    def template_tools(self, tools: Sequence[Mapping[str, Any]]) -> tuple[Mapping[str, Any], ...]:
        return ()
