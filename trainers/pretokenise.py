"""Conversations to samples, each message encoded once: time grows with the text, not with the square of the turns."""

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import islice
from pathlib import Path

import numpy as np

from envpool.chat_format import ChatFormat, load_chat_format
from envpool.policy import Message
from trainers.sample_building import CONTEXT_VERSION
from trainers.train_sample import TrainSample

BATCH = 8
"""Conversations a worker process is given at once."""

_chat: ChatFormat | None = None


def conversation_sample(chat: ChatFormat, messages: Sequence[Message], group: str) -> TrainSample:
    """The SFT sample of a conversation: loss on each assistant message and its end-of-turn token, on nothing else.

    What follows the last assistant message is left out. Raises ValueError when there is no assistant message, or when the
    conversation begins with one.
    """
    pieces: list[np.ndarray] = []
    sampled: list[int] = []
    context: list[Message] = []
    for message in messages:
        if message.role != "assistant":
            context.append(message)
            continue
        pieces.append(chat.continuation_ids(context) if pieces else chat.prompt_ids(context))
        pieces.append(chat.completion_ids(message.content))
        sampled += [0, 1]
        context = []
    if not pieces or messages[0].role == "assistant":
        raise ValueError(f"{group}: a conversation to learn from begins with a system or user message and has an assistant's")
    mask = np.repeat(np.array(sampled, np.int8), [len(piece) for piece in pieces])
    return TrainSample(
        token_ids=np.concatenate(pieces).astype(np.int32),
        loss_mask=mask,
        rollout_logprobs=np.zeros(len(mask), np.float32),
        advantages=mask.astype(np.float32),
        policy_versions=np.full(len(mask), CONTEXT_VERSION, np.int32),
        group=group,
    )


def pretokenise(
    model_dir: Path, conversations: Iterable[tuple[str, Sequence[Message]]], num_processes: int = 1
) -> Iterator[TrainSample]:
    """Samples of (group, messages) in their order, with the model's own tokenizer. Raises what conversation_sample raises."""
    if num_processes == 1:
        chat = load_chat_format(model_dir)
        yield from (conversation_sample(chat, messages, group) for group, messages in conversations)
        return
    with ProcessPoolExecutor(num_processes, initializer=_load, initargs=(model_dir,)) as pool:
        for samples in pool.map(_samples, _batches(conversations)):
            yield from samples


def _batches(conversations: Iterable[tuple[str, Sequence[Message]]]) -> Iterator[list[tuple[str, Sequence[Message]]]]:
    waiting = iter(conversations)
    return iter(lambda: list(islice(waiting, BATCH)), [])


def _load(model_dir: Path) -> None:
    global _chat
    _chat = load_chat_format(model_dir)


def _samples(conversations: list[tuple[str, Sequence[Message]]]) -> list[TrainSample]:
    assert _chat is not None
    return [conversation_sample(_chat, messages, group) for group, messages in conversations]
