"""Taking turns out of a trajectory as if they had never been played."""

from collections.abc import Collection
from dataclasses import replace

import numpy as np

from envpool.policy import IntArray
from envpool.trajectory import Trajectory, Turn


def without_turns(trajectory: Trajectory, deleted: Collection[int]) -> Trajectory:
    """The trajectory without the turns at these positions (from 0), its ids those of the remaining conversation.

    A turn's context is what was appended after the completion before it, so the turn after a deleted one takes the context of the
    first that was deleted there:

        contexts p a b, completions 1 2 3, without turn 1:   p 1 a 3

    Log-probs after the first deletion become NaN: the policy saw another context. Observations stay as they were, also the steps
    that a budget line counts. Raises ValueError for a position that does not exist, when nothing would be left, and for a
    trajectory whose history was rewritten on the way (a restart): the turns stand in its later prompts too.
    """
    if not set(deleted) <= set(range(len(trajectory.turns))):
        raise ValueError(f"{trajectory.instance_id} has {len(trajectory.turns)} turns; cannot take out {sorted(deleted)}")
    if not deleted:
        return trajectory
    if any(turn.restart for turn in trajectory.turns[1:]):
        raise ValueError(f"{trajectory.instance_id}: its history was rewritten, so no turn can be taken out of it")
    kept: list[Turn] = []
    waiting: IntArray | None = None
    for index, turn in enumerate(trajectory.turns):
        context = turn.context_ids if waiting is None else waiting
        if index in deleted:
            waiting = context
            continue
        if index > min(deleted):
            unknown = np.full_like(turn.rollout_logprobs, np.nan)
            turn = replace(turn, context_ids=context, rollout_logprobs=unknown)
        kept.append(turn)
        waiting = None
    if not kept:
        raise ValueError(f"{trajectory.instance_id}: every turn would be taken out")
    return replace(trajectory, turns=tuple(kept))
