"""What the model is shown, as messages and as token ids: both only grow, so that a turn costs what it adds."""

from collections.abc import Sequence

import numpy as np

from envpool.policy import IntArray, Message


class ShownContext:
    """The conversation so far. `prompt` and what was appended since the last completion come as arrays that never change."""

    def __init__(self, messages: Sequence[Message], ids: IntArray) -> None:
        self._messages = list(messages)
        self._ids = np.empty(max(1024, 2 * len(ids)), np.int32)
        self._length = self._answer_start = 0
        self._extend(ids)

    def __len__(self) -> int:
        return self._length

    @property
    def messages(self) -> tuple[Message, ...]:
        return tuple(self._messages)

    @property
    def prompt(self) -> IntArray:
        """All ids, read-only. Later appending leaves it as it is."""
        view = self._ids[: self._length]
        view.flags.writeable = False
        return view

    @property
    def added(self) -> IntArray:
        """The ids since the last completion (at first: all)."""
        return self._ids[self._answer_start : self._length].copy()

    def said(self, message: Message, ids: IntArray) -> None:
        """The model's completion."""
        self._messages.append(message)
        self._extend(ids)
        self._answer_start = self._length

    def answered(self, message: Message, ids: IntArray) -> None:
        """The tool's answer and the prompt for the next completion."""
        self._messages.append(message)
        self._extend(ids)

    def _extend(self, ids: IntArray) -> None:
        end = self._length + len(ids)
        if end > len(self._ids):
            grown = np.empty(2 * end, np.int32)  # the old array stays with the prompts that were handed out
            grown[: self._length] = self._ids[: self._length]
            self._ids = grown
        self._ids[self._length : end] = ids
        self._length = end
