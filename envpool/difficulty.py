"""How hard tasks are: the mean reward of recorded attempts, and which tasks are worth training on.

SWE-Master keeps issues with mixed results; its released statistics are JSONL lines
`{"instance_id_or_commit_hash": ..., "reward_mean": ...}`.
"""

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

MIXED_LOW = 1e-7
MIXED_HIGH = 0.9999999


class DifficultyError(ValueError):
    """A statistics file or line that cannot be read; one line."""


@dataclass(frozen=True)
class DifficultyCounts:
    """Rows by outcome of their attempts; `broken` holds one message per line that was left out (not in `rows`)."""

    rows: int
    all_fail: int
    mixed: int
    all_pass: int
    broken: tuple[str, ...] = ()


def read_reward_means(path: Path) -> Iterator[float | DifficultyError]:
    """The `reward_mean` of every line, streamed; a broken line comes as an error with its number. Raises DifficultyError
    when the file cannot be opened."""
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield _reward_mean(path, number, line)
    except OSError as error:
        raise DifficultyError(f"{path}: cannot be read ({error.strerror or error})") from error


def difficulty_statistics(path: Path) -> DifficultyCounts:
    """Count a statistics file; all-fail is mean 0, all-pass mean 1, mixed what lies between. Raises DifficultyError."""
    all_fail = mixed = all_pass = 0
    broken: list[str] = []
    for mean in read_reward_means(path):
        if isinstance(mean, DifficultyError):
            broken.append(str(mean))
        elif mean <= 0.0:
            all_fail += 1
        elif mean >= 1.0:
            all_pass += 1
        else:
            mixed += 1
    return DifficultyCounts(all_fail + mixed + all_pass, all_fail, mixed, all_pass, tuple(broken))


def mixed_results(means: Mapping[str, float], low: float = MIXED_LOW, high: float = MIXED_HIGH) -> dict[str, float]:
    """The tasks with low <= mean reward < high, order kept. SWE-Master: the defaults for SFT, low=0.3999999 for RL.

    >>> mixed_results({"a": 0.0, "b": 0.25, "c": 1.0})
    {'b': 0.25}
    """
    if not low < high:
        raise ValueError(f"low={low:g} must be below high={high:g}")
    return {instance_id: mean for instance_id, mean in means.items() if low <= mean < high}


def difficulty_histogram(means: Iterable[float], num_bins: int = 10) -> tuple[int, ...]:
    """Counts per bin of equal width over [0, 1]; a mean on an edge belongs to the bin above it, 1 to the last.

    >>> difficulty_histogram([0.0, 0.1, 0.3, 1.0])
    (1, 1, 0, 1, 0, 0, 0, 0, 0, 1)
    """
    if num_bins < 1:
        raise ValueError(f"num_bins={num_bins} must be at least 1")
    counts = [0] * num_bins
    for mean in means:
        if not 0.0 <= mean <= 1.0:
            raise ValueError(f"mean reward {mean:g} is outside [0, 1]")
        # 0.29 * 100 is 28.999999999999996: round the noise away before the floor
        counts[min(num_bins - 1, math.floor(round(mean * num_bins, 9)))] += 1
    return tuple(counts)


def _reward_mean(path: Path, number: int, line: bytes) -> float | DifficultyError:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return DifficultyError(f"{path}: line {number} is not valid JSON")
    if not isinstance(row, dict) or "reward_mean" not in row:
        return DifficultyError(f"{path}: line {number} has no field reward_mean")
    mean = row["reward_mean"]
    if isinstance(mean, bool) or not isinstance(mean, int | float) or not 0.0 <= mean <= 1.0:
        return DifficultyError(f"{path}: line {number}: reward_mean is not a number between 0 and 1")
    return float(mean)
