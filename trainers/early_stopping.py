"""When further training does not pay."""

from collections.abc import Mapping


def best_step(scores: Mapping[int, float]) -> int | None:
    """The step with the highest score, the earliest of equals; None without any.

    >>> best_step({2: 0.5, 4: 0.75, 6: 0.75})
    4
    """
    return max(scores, key=lambda step: (scores[step], -step)) if scores else None


def has_stalled(scores: Mapping[int, float], patience: int) -> bool:
    """Whether the last `patience` scores (0: never) were no better than one before them.

    >>> has_stalled({2: 0.5, 4: 0.4, 6: 0.5}, 2), has_stalled({2: 0.5, 4: 0.4, 6: 0.6}, 2)
    (True, False)
    """
    best = best_step(scores)
    return best is not None and 0 < patience <= sum(step > best for step in scores)
