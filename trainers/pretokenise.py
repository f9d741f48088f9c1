"""Conversations to samples, each message encoded once: time grows with the text, not with the square of the turns."""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from envpool.chat.chat_format import ChatFormat, load_chat_format
from envpool.policy import Message
from trainers.sample_building import CONTEXT_VERSION
from trainers.train_sample import TrainSample

BATCH = 8
"""Conversations a worker process is given at once."""
BATCHES_AHEAD = 3
"""Batches sent to each worker process before the first is taken back."""

_chat: ChatFormat | None = None
_tools: tuple[Mapping[str, Any], ...] = ()


Rows = tuple[npt.NDArray[np.int32], npt.NDArray[np.int8]]
"""Token ids and loss mask of a sample; all that processes send each other."""


def conversation_sample(
    chat: ChatFormat, messages: Sequence[Message], group: str, tools: Sequence[Mapping[str, Any]] = ()
) -> TrainSample:
    """The SFT sample of a conversation: loss on each assistant message and its end-of-turn token, on nothing else.

    What follows the last assistant message is left out. Raises ValueError when there is no assistant message, or when the
    conversation begins with one.
    """
    return _sample(_rows(chat, messages, group, tools), group)


def _rows(chat: ChatFormat, messages: Sequence[Message], group: str, tools: Sequence[Mapping[str, Any]] = ()) -> Rows:
    pieces: list[np.ndarray] = []
    sampled: list[int] = []
    context: list[Message] = []
    for message in messages:
        if message.role != "assistant":
            context.append(message)
            continue
        pieces.append(chat.continuation_ids(context) if pieces else chat.prompt_ids(context, tools))
        pieces.append(chat.said_ids(message))
        sampled += [0, 1]
        context = []
    if not pieces or messages[0].role == "assistant":
        raise ValueError(f"{group}: a conversation to learn from begins with a system or user message and has an assistant's")
    return np.concatenate(pieces).astype(np.int32), np.repeat(np.array(sampled, np.int8), [len(piece) for piece in pieces])


def _sample(rows: Rows, group: str) -> TrainSample:
    token_ids, mask = rows
    return TrainSample(
        token_ids=token_ids,
        loss_mask=mask,
        rollout_logprobs=np.zeros(len(mask), np.float32),
        advantages=mask.astype(np.float32),
        policy_versions=np.full(len(mask), CONTEXT_VERSION, np.int32),
        group=group,
    )


def pretokenise(
    model_dir: Path,
    conversations: Iterable[tuple[str, Sequence[Message]]],
    num_processes: int = 1,
    tools: Sequence[Mapping[str, Any]] = (),
) -> Iterator[TrainSample]:
    """Samples of (group, messages) in their order, with the model's own tokenizer; `tools` are what the chat template documents
    (ActionFormat.template_tools). Raises what conversation_sample raises.

    At most `BATCHES_AHEAD` batches a process wait, so conversations may be read from a file of any size.
    """
    if num_processes == 1:
        chat = load_chat_format(model_dir)
        yield from (conversation_sample(chat, messages, group, tools) for group, messages in conversations)
        return
    with ProcessPoolExecutor(num_processes, initializer=_load, initargs=(model_dir, tuple(tools))) as pool:
        waiting: deque[tuple[list[str], Future[list[Rows]]]] = deque()
        for batch in _batches(conversations):
            waiting.append(([group for group, _ in batch], pool.submit(_batch_rows, batch)))
            if len(waiting) >= BATCHES_AHEAD * num_processes:
                yield from _finished(*waiting.popleft())
        while waiting:
            yield from _finished(*waiting.popleft())


def _finished(groups: list[str], rows: "Future[list[Rows]]") -> Iterator[TrainSample]:
    return (_sample(row, group) for row, group in zip(rows.result(), groups, strict=True))


def _batches(conversations: Iterable[tuple[str, Sequence[Message]]]) -> Iterator[list[tuple[str, Sequence[Message]]]]:
    waiting = iter(conversations)
    return iter(lambda: list(islice(waiting, BATCH)), [])


def _load(model_dir: Path, tools: tuple[Mapping[str, Any], ...]) -> None:
    global _chat, _tools
    _chat, _tools = load_chat_format(model_dir), tools


def _batch_rows(conversations: list[tuple[str, Sequence[Message]]]) -> list[Rows]:
    assert _chat is not None
    return [_rows(_chat, messages, group, _tools) for group, messages in conversations]
