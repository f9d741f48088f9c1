"""Best of K without the oracle: choose one candidate patch per issue by the scores a scorer gave.

What the oracle knows enters only `tts_at_k_per_task`, as outcomes that are reported and never looked at while choosing.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from verifier.patch_sections import normalised_diff

Key = tuple[float, bool]


@dataclass(frozen=True)
class Candidate:
    """A patch and the scorer's votes on it: 0/1 or probabilities, None for a report that could not be read. `bonus` is what
    signals that need no oracle (tests that were run) add to its score."""

    diff: str
    votes: tuple[float | None, ...]
    bonus: float = 0.0

    @property
    def is_empty(self) -> bool:
        return not self.diff.strip()


@dataclass(frozen=True)
class SelectionRule:
    """How candidates are ranked: by mean valid vote, bonus and these knobs.

    `share_duplicates`: candidates with the same normalised diff pool their votes, so that all of them rank by one better
    estimate. `agreement_weight` times the share of the candidates that have the same patch is added to the score.
    """

    share_duplicates: bool = True
    agreement_weight: float = 0.0


def score(candidate: Candidate) -> float:
    """Mean of the valid votes; 0 for an empty patch and for a candidate without a valid vote.

    >>> score(Candidate("some diff", (1.0, None, 1.0)))
    1.0
    """
    votes = [vote for vote in candidate.votes if vote is not None]
    return 0.0 if candidate.is_empty or not votes else sum(votes) / len(votes)


def select(candidates: Sequence[Candidate], seed: int, rule: SelectionRule = SelectionRule()) -> int:
    """Index of the chosen candidate. Ties are broken by a hash of the seed, the position and the diff: the same everywhere,
    and no position is favoured. A non-empty patch wins a tie against an empty one. Raises ValueError without candidates."""
    if not candidates:
        raise ValueError("nothing to choose from")
    keys = ranking_keys(candidates, rule)
    best = max(keys)
    tied = [index for index, key in enumerate(keys) if key == best]
    return min(tied, key=lambda index: hashlib.sha256(f"{seed}\0{index}\0{candidates[index].diff}".encode()).digest())


def ranking_keys(candidates: Sequence[Candidate], rule: SelectionRule) -> list[Key]:
    """What candidates are compared by: (score with all that is added to it, not empty)."""
    names = [normalised_diff(candidate.diff) or candidate.diff for candidate in candidates]
    pooled: dict[str, tuple[float | None, ...]] = {}
    for name, candidate in zip(names, candidates, strict=True):
        pooled[name] = pooled.get(name, ()) + candidate.votes
    keys = []
    for name, candidate in zip(names, candidates, strict=True):
        voted = Candidate(candidate.diff, pooled[name]) if rule.share_duplicates else candidate
        agreement = 0.0 if candidate.is_empty else rule.agreement_weight * names.count(name) / len(names)
        bonus = 0.0 if candidate.is_empty else candidate.bonus
        keys.append((round(score(voted) + bonus + agreement, 12), not candidate.is_empty))
    return keys


@dataclass(frozen=True)
class JudgedCandidate:
    """A candidate and whether its patch really resolves the issue (for reporting only)."""

    candidate: Candidate
    resolved: bool


def tts_at_k_per_task(
    tasks: Sequence[Sequence[JudgedCandidate]],
    k: int,
    rule: SelectionRule = SelectionRule(),
    *,
    seed: int = 0,
    num_orders: int = 64,
) -> list[float]:
    """Expected success of the choice among k candidates, for each task that has at least k.

    The expectation is over which k are drawn and over ties (uniform). A draw is the first k of a random order of the task's
    candidates; `num_orders` seeded orders are averaged, votes are pooled only inside a draw. With k = all candidates there is
    one draw and the value is exact; with k = 1 it is the mean outcome, exact too.
    """
    values = []
    for index, judged in enumerate(tasks):
        if len(judged) < k or k < 1:
            continue
        if k == 1:
            values.append(sum(one.resolved for one in judged) / len(judged))
        elif k == len(judged):
            values.append(_expected_success(judged, rule))
        else:
            rng = np.random.default_rng([seed, index])
            draws = [[judged[i] for i in rng.permutation(len(judged))[:k]] for _ in range(num_orders)]
            values.append(sum(_expected_success(draw, rule) for draw in draws) / num_orders)
    return values


def _expected_success(judged: Sequence[JudgedCandidate], rule: SelectionRule) -> float:
    """Share of resolved patches among those that are tied for the first place."""
    keys = ranking_keys([one.candidate for one in judged], rule)
    best = max(keys)
    tied = [one.resolved for one, key in zip(judged, keys, strict=True) if key == best]
    return sum(tied) / len(tied)
