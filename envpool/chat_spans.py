"""Conversations as one text or one id sequence, with the spans that are trained: what `ChatFormat` appends turn by turn,
rendered at once. SWE-Master's SFT files store the same text."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from envpool.chat_format import IM_END, IM_START, ChatFormat
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
    for message in messages:
        body = f"<tool_response>\n{message.content}\n</tool_response>" if message.role == "tool" else message.content
        role = "user" if message.role == "tool" else message.role
        head = f"{IM_START}{role}\n"
        if role == "assistant":
            spans.append((length + len(head), length + len(head) + len(body) + len(IM_END)))
        parts.append(f"{head}{body}{IM_END}\n")
        length += len(parts[-1])
    return "".join(parts), tuple(spans)


def tokenize_chat(messages: Sequence[Message], chat: ChatFormat) -> TokenizedChat:
    """The conversation as ids, message after message, as an episode would have appended them. Raises ValueError for a role."""
    head = len(chat.prompt_ids([]))
    pieces: list[IntArray] = []
    spans: list[Span] = []
    length = 0
    for message in messages:
        piece = chat.prompt_ids([message])[:-head]
        if message.role == "assistant":
            spans.append((length + head, length + head + len(chat.completion_ids(message.content))))
        pieces.append(piece)
        length += len(piece)
    return TokenizedChat(np.concatenate(pieces) if pieces else np.zeros(0, np.int32), tuple(spans))
