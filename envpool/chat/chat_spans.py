"""Conversations as one text or one id sequence, with the spans that are trained: what `ChatFormat` appends turn by turn,
rendered at once. SWE-Master's SFT files store the same text."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from envpool.chat.chat_format import ChatFormat
from envpool.chat.chat_layout import IM_START, PLAIN, opening_blocks
from envpool.policy import IntArray, Message

GENERATION_PROMPT = f"{IM_START}assistant\n"
Span = tuple[int, int]
"""Start and end (exclusive)."""


@dataclass(frozen=True)
class TokenizedChat:
    """Ids (T,) of a conversation and the spans of its assistant messages, end-of-turn included."""

    token_ids: IntArray
    spans: tuple[Span, ...]

    @property
    def loss_mask(self) -> "np.ndarray[tuple[int], np.dtype[np.int8]]":
        """(T,) int8: 1 inside the spans."""
        mask = np.zeros(len(self.token_ids), np.int8)
        for start, end in self.spans:
            mask[start:end] = 1
        return mask


def chat_text(messages: Sequence[Message]) -> tuple[str, tuple[Span, ...]]:
    r"""The conversation in Qwen's chat markup, and the character span of every assistant message with its end-of-turn.

    >>> chat_text([Message("user", "hi"), Message("assistant", "yo")])
    ('<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\nyo<|im_end|>\n', ((50, 62),))
    """
    parts: list[str] = []
    spans: list[Span] = []
    length = 0
    for block in opening_blocks(messages, (), PLAIN):
        if block.role == "assistant":
            spans.append((length + len(GENERATION_PROMPT), length + len(block.text) - 1))
        parts.append(block.text)
        length += len(block.text)
    return "".join(parts), tuple(spans)


def tokenize_chat(messages: Sequence[Message], chat: ChatFormat, tools: Sequence[Mapping[str, Any]] = ()) -> TokenizedChat:
    """The conversation as ids, as an episode would have appended them. Raises ValueError for an unknown role."""
    ids: list[int] = []
    spans: list[Span] = []
    for block in opening_blocks(messages, tools, chat.layout):
        start = len(ids) + len(chat.generation_prompt)
        ids += chat.block_ids(block)
        if block.role == "assistant":
            spans.append((start, len(ids) - chat.newline_length))
    return TokenizedChat(np.array(ids, np.int32), tuple(spans))
