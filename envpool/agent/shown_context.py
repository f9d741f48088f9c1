"""What the model is shown, as messages and as token ids: both only grow, so that a turn costs what it adds, until the history
is rewritten."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from envpool.agent.context_policies import View
from envpool.agent.context_texts import folded, summary_message
from envpool.chat.chat_format import ChatFormat
from envpool.policy import IntArray, Message


@dataclass(frozen=True)
class Exchange:
    """A finished turn: what was said as sampled, and what was appended after it."""

    said: Message
    said_ids: IntArray
    answer: Message
    answer_ids: IntArray


class ShownContext:
    """The conversation as it is shown now. Arrays that were handed out never change.

    Raises EncodeError where a text cannot be encoded; the context then is as it was.
    """

    def __init__(self, chat: ChatFormat, opening: Sequence[Message], tools: Sequence[Mapping[str, Any]] = ()) -> None:
        self._chat, self._opening, self._tools = chat, tuple(opening), tools
        self._said: tuple[Message, IntArray] | None = None
        self.turns: list[Exchange] = []
        self.restarted = False
        """The history was rewritten since the last completion: `added` is the whole prompt."""
        self._messages: list[Message] = []
        self._ids = np.empty(0, np.int32)
        self._length = self._answer_start = 0
        self._show(self._opening, chat.prompt_ids(self._opening, tools))

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
        """The ids since the last completion (at first, and after a rewriting, all)."""
        return self._ids[self._answer_start : self._length].copy()

    def said(self, message: Message, ids: IntArray) -> None:
        """The model's completion."""
        self._said = message, ids
        self._messages.append(message)
        self._extend(ids)
        self._answer_start = self._length
        self.restarted = False

    def answered(self, message: Message) -> int:
        """The tool's answer and the prompt for the next completion; returns the tokens that this added."""
        assert self._said is not None, "an answer follows a completion"
        said, said_ids = self._said
        exchange = Exchange(said, said_ids, message, self._after(said_ids, [message]))
        self.turns.append(exchange)
        self._messages.append(message)
        self._extend(exchange.answer_ids)
        return len(exchange.answer_ids)

    def asking(self, request: Message) -> tuple[IntArray, IntArray]:
        """(prompt, its new part) when the last answer is followed by `request` instead of the next completion."""
        last = self.turns[-1]
        new = self._after(last.said_ids, [last.answer, request])
        return np.concatenate([self._ids[: self._answer_start], new]), new

    def rewrite(self, view: View, interval: int) -> bool:
        """Show the history as `view` says from now on; False when that changes nothing."""
        summaries = [summary_message(index, interval, text) for index, text in enumerate(view.summaries)]
        messages = [*self._opening, *summaries]
        ids = [self._chat.prompt_ids(messages, self._tools)]
        turns = self.turns[view.first :]
        for place, turn in enumerate(turns):
            index = view.first + place
            if index < view.folded and (note := folded(turn.answer.content)) != turn.answer.content:
                answer = replace(turn.answer, content=note)
                turn = turns[place] = replace(turn, answer=answer, answer_ids=self._after(turn.said_ids, [answer]))
            messages += [turn.said, turn.answer]
            ids += [turn.said_ids, turn.answer_ids]
        prompt = np.concatenate(ids).astype(np.int32)
        if np.array_equal(prompt, self.prompt):
            return False
        self.turns[view.first :] = turns  # a folded output stays folded: it is encoded once
        self._show(messages, prompt)
        self.restarted = True
        return True

    def _after(self, said_ids: IntArray, messages: Sequence[Message]) -> IntArray:
        """What is appended after a completion. One cut by its length gets the missing end-of-turn here, untrained."""
        new = self._chat.continuation_ids(messages)
        if len(said_ids) and said_ids[-1] == self._chat.end_of_turn_id:
            return new
        return np.concatenate([np.array([self._chat.end_of_turn_id], np.int32), new])

    def _show(self, messages: Sequence[Message], ids: IntArray) -> None:
        self._messages = list(messages)
        self._ids = np.empty(max(1024, 2 * len(ids)), np.int32)
        self._length = self._answer_start = 0
        self._extend(ids)

    def _extend(self, ids: IntArray) -> None:
        end = self._length + len(ids)
        if end > len(self._ids):
            grown = np.empty(2 * end, np.int32)  # the old array stays with the prompts that were handed out
            grown[: self._length] = self._ids[: self._length]
            self._ids = grown
        self._ids[self._length : end] = ids
        self._length = end
