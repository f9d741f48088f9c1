"""How a model writes a tool call.

To add a form: one file here with one frozen dataclass that satisfies ActionFormat, and its line in ACTION_FORMATS. Whatever
the form, a call becomes the same `ToolCall`, is checked against the same schemas, and is recorded as the same XML text.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from envpool.action_format import ToolCall
from envpool.action_formats.native_action import NativeAction
from envpool.action_formats.xml_action import XmlAction
from envpool.policy import Message


class ActionFormat(Protocol):
    """Reads and writes calls. `parse` and `why_unreadable` never raise and take linear time."""

    @property
    def instructions(self) -> str:
        """How to call a tool, for the system prompt; "" when the chat template says it beside the tools."""
        ...

    def parse(self, text: str) -> tuple[str, ToolCall] | None:
        """The thought (the text before the call) and the first call of a completion; None when none can be read."""
        ...

    def why_unreadable(self, text: str) -> str:
        """Why `parse` gives None, in a few words."""
        ...

    def render(self, call: ToolCall) -> str:
        """The canonical text of a call, which `parse` reads back. Raises ValueError for a name that could not be read."""
        ...

    def message(self, thought: str, call: ToolCall) -> Message:
        """What an assistant says that thinks and calls. Raises ValueError as `render` does."""
        ...

    def assistant_message(self, text: str, call_id: str) -> Message:
        """A completion as a message of the conversation."""
        ...

    def answer(self, said: Message, observation: str) -> Message:
        """What came of a completion, as the message after it; also where no call could be read."""
        ...

    def template_tools(self, tools: Sequence[Mapping[str, Any]]) -> tuple[Mapping[str, Any], ...]:
        """The tool definitions (OpenAI's shape) that go to the chat template; () when the system prompt documents them."""
        ...


ACTION_FORMATS: dict[str, ActionFormat] = {"xml": XmlAction(), "native": NativeAction()}


def action_format(name: str) -> ActionFormat:
    """The named form. Raises ValueError for an unknown name."""
    if name not in ACTION_FORMATS:
        raise ValueError(f"no such action format {name!r}; known: {', '.join(ACTION_FORMATS)}")
    return ACTION_FORMATS[name]
