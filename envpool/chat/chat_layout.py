"""The text between token ids and messages: Qwen's chat markup, block after block.

    <|im_start|>system\\n{system}<|im_end|>\\n            only if there is a system message, a default one, or tools
    <|im_start|>user\\n{user}<|im_end|>\\n
    <|im_start|>assistant\\n{completion}<|im_end|>\\n
    <|im_start|>user\\n<tool_response>\\n{observation}\\n</tool_response><|im_end|>\\n      neighbouring answers share a block

Native calls follow an assistant's content on a line of their own; the tools they may call close the first system block. Texts
are rendered as they are: reasoning (`<think>`) of earlier turns stays, so that what was rendered is never rendered differently.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from envpool.action_formats.native_action import NativeAction
from envpool.policy import Message

IM_START = "<|im_start|>"
IM_END = "<|im_end|>"
END_OF_TEXT = "<|endoftext|>"
TOOLS_BLOCK = """\
# Tools

You may call one or more functions to assist with the user query.

You are provided with function signatures within <tools></tools> XML tags:
<tools>
{tools}
</tools>

For each function call, return a json object with function name and arguments within <tool_call></tool_call> XML tags:
<tool_call>
{{"name": <function-name>, "arguments": <args-json-object>}}
</tool_call>"""
"""What Qwen's models were trained to find in the system block; the words are part of their interface."""
_NATIVE = NativeAction()


@dataclass(frozen=True)
class ChatLayout:
    """What differs between the templates of one family. `default_system` is shown when a conversation has no system message
    (Qwen2.5); "" for none (Qwen3). `shows_tools` is False for a template without tools and native calls."""

    default_system: str = ""
    shows_tools: bool = True


PLAIN = ChatLayout()
"""No default system message."""


@dataclass(frozen=True)
class Block:
    """One block of the markup: its role, and its text after the role's line."""

    role: str
    body: str

    @property
    def text(self) -> str:
        return f"{IM_START}{self.role}\n{self.body}{IM_END}\n"


def opening_blocks(messages: Sequence[Message], tools: Sequence[Mapping[str, Any]], layout: ChatLayout) -> list[Block]:
    """A conversation from its start. Raises ValueError for an unknown role, and for tools that the layout cannot show."""
    if tools and not layout.shows_tools:
        raise ValueError("the model's chat template shows no tools: set rollout.episode.action_format=xml")
    given = bool(messages) and messages[0].role == "system"
    system = messages[0].content if given else layout.default_system
    parts = [system] if given or system else []
    if tools:
        parts.append(TOOLS_BLOCK.format(tools="\n".join(json.dumps(tool, ensure_ascii=False) for tool in tools)))
    head = [Block("system", "\n\n".join(parts))] if parts else []
    return [*head, *blocks(messages[1:] if given else messages)]


def blocks(messages: Sequence[Message]) -> list[Block]:
    """Messages that continue a conversation. Raises ValueError for an unknown role."""
    found: list[Block] = []
    for role, group in groupby(messages, lambda message: message.role):
        if role == "tool":
            answers = (f"<tool_response>\n{message.content}\n</tool_response>" for message in group)
            found.append(Block("user", "\n".join(answers)))
        elif role in ("system", "user", "assistant"):
            found += (Block(role, said(message)) for message in group)
        else:
            raise ValueError(f"no such chat role {role!r}: use system, user, assistant or tool")
    return found


def said(message: Message) -> str:
    """The text of a message, its native calls after it."""
    calls = [_NATIVE.render(call) for call in message.tool_calls]
    return "\n".join([message.content, *calls] if message.content else calls)
