"""Going on with an episode whose worker died: its journalled turns are played again in a fresh sandbox, then sampling goes on.

A sandbox's state is what its commands made of the image, so the journal is the snapshot: replaying needs no help from the
engine, works the same for every backend, restores the shell's variables and working directory as well, and costs nothing while
nobody dies (a `docker commit` per turn would; benchmarks/sandbox_reset.py has the numbers). What it cannot restore is what
depends on time or chance; then the observation differs, the prompt differs, and from that turn on the policy is asked again.
So no completion ever stands behind a prompt that it was not sampled from.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from envpool.episode import session_id
from envpool.policy import Completion, Generate, GenerateRequest
from envpool.trajectory import Turn
from envpool.turn_journal import JournalEntry, read_journal


class ReplayedGenerate:
    """A `Generate` that gives the completions of `turns` as long as the prompts are the same, and then asks `generate`.

    `num_replayed` counts the turns that were given again.
    """

    def __init__(self, turns: Sequence[Turn], generate: Generate) -> None:
        self._turns, self._generate = turns, generate
        self._replaying = True
        self._shown = np.zeros(0, np.int32)
        self.num_replayed = 0

    async def __call__(self, request: GenerateRequest) -> Completion:
        turn = self._next(request)
        if turn is None:
            return await self._generate(request)
        self.num_replayed += 1
        self._shown = np.concatenate([request.prompt_ids, turn.completion_ids])
        return Completion(
            token_ids=turn.completion_ids,
            rollout_logprobs=turn.rollout_logprobs,
            policy_versions=turn.policy_versions,
            finish_reason="stop",
        )

    def _next(self, request: GenerateRequest) -> Turn | None:
        self._replaying = self._replaying and self.num_replayed < len(self._turns)
        if not self._replaying:
            return None
        turn = self._turns[self.num_replayed]
        prompt = np.concatenate([self._shown, turn.context_ids])
        fits = np.array_equal(prompt, request.prompt_ids) and len(turn.completion_ids) <= request.max_tokens
        self._replaying = bool(fits)
        return turn if fits else None


def last_attempt(entries: Iterable[JournalEntry], instance_id: str, sample_index: int, seed: int) -> tuple[Turn, ...]:
    """The turns of an episode's last attempt in a journal, from turn 0 and without a gap; empty when there are none."""
    turns: list[Turn] = []
    for entry in entries:
        if (entry.instance_id, entry.sample_index, entry.seed) != (instance_id, sample_index, seed):
            continue
        if entry.turn_index == 0:
            turns.clear()
        if entry.turn_index == len(turns):
            turns.append(entry.turn)
    return tuple(turns)


def journalled_group(journals: Iterable[Path], instance_id: str, group_size: int, seed: int) -> dict[int, tuple[Turn, ...]]:
    """What the journals hold of a group: sample_index to turns, unstarted episodes left out; the longest attempt counts."""
    found: dict[int, tuple[Turn, ...]] = {}
    for path in journals:
        mine = [entry for entry in read_journal(path) if entry.instance_id == instance_id and entry.seed == seed]
        for index in range(group_size):
            turns = last_attempt(mine, instance_id, index, seed)
            if len(turns) > len(found.get(index, ())):
                found[index] = turns
    return found


class ReplayedGroup:
    """A `Generate` for the episodes of one group: each goes on where `turns` (sample_index to turns) end."""

    def __init__(self, turns: Mapping[int, Sequence[Turn]], instance_id: str, seed: int, generate: Generate) -> None:
        self._generate = generate
        self._sessions = {session_id(instance_id, index, seed): ReplayedGenerate(t, generate) for index, t in turns.items()}

    @property
    def num_replayed(self) -> int:
        """Turns that were given again."""
        return sum(session.num_replayed for session in self._sessions.values())

    async def __call__(self, request: GenerateRequest) -> Completion:
        return await self._sessions.get(request.session_id, self._generate)(request)
