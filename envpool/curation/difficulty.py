"""How hard tasks are: the mean reward of recorded attempts, and which tasks are worth training on.

SWE-Master keeps issues with mixed results; its released statistics are JSONL lines
`{"instance_id_or_commit_hash": ..., "reward_mean": ...}`. Ours add `num_attempts`. Means are of the outcome (resolved or
not), not of a shaped reward.
"""

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MIXED_LOW = 1e-7
MIXED_HIGH = 0.9999999
RL_LOW = 0.3999999
KEY_FIELDS = ("instance_id", "instance_id_or_commit_hash", "commit_hash", "base_commit")
"""Fields a statistics line may name its task by, the first that is there."""


class DifficultyError(ValueError):
    """A statistics file or line that cannot be read; one line."""


@dataclass(frozen=True)
class RewardRow:
    """One line of a statistics file. `key` is an instance id or a commit ("" when the line names none), `num_attempts` 0 when
    the line does not say."""

    key: str
    mean: float
    num_attempts: int


@dataclass(frozen=True)
class DifficultyCounts:
    """Rows by outcome of their attempts; `broken` holds one message per line that was left out (not in `rows`).

    `mean` is over rows. `unique_keys` counts distinct keys, `repeated_keys` those that occur more than once, and
    `conflicting_keys` those of them whose rows disagree. `rl_band` counts rows with RL_LOW <= mean < MIXED_HIGH.
    """

    rows: int
    all_fail: int
    mixed: int
    all_pass: int
    broken: tuple[str, ...] = ()
    mean: float = 0.0
    rl_band: int = 0
    unique_keys: int = 0
    repeated_keys: int = 0
    conflicting_keys: int = 0


@dataclass(frozen=True)
class TaskDifficulty:
    """The attempts at one task: how many (0: not recorded) and their mean reward."""

    instance_id: str
    num_attempts: int
    mean: float


@dataclass(frozen=True)
class DifficultyIndex:
    """Statistics by key. `conflicts` are keys whose rows gave different means (all of them, in reading order): they are in no
    other field, since nothing says which row is right. `repeated` counts keys that occurred more than once."""

    by_key: Mapping[str, TaskDifficulty]
    conflicts: Mapping[str, tuple[float, ...]]
    repeated: int
    broken: tuple[str, ...]

    def find(self, *keys: str) -> TaskDifficulty | None:
        """The statistics of the first key that has any. A key in conflict has none, and ends the search."""
        for key in keys:
            if key in self.conflicts:
                return None
            if key in self.by_key:
                return self.by_key[key]
        return None


def read_reward_rows(path: Path) -> Iterator[RewardRow | DifficultyError]:
    """Every line of a statistics file, streamed; a broken line comes as an error with its number. Raises DifficultyError
    when the file cannot be opened."""
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield _reward_row(path, number, line)
    except OSError as error:
        raise DifficultyError(f"{path}: cannot be read ({error.strerror or error})") from error


def read_reward_means(path: Path) -> Iterator[float | DifficultyError]:
    """The `reward_mean` of every line, streamed; see `read_reward_rows`."""
    for row in read_reward_rows(path):
        yield row.mean if isinstance(row, RewardRow) else row


def difficulty_statistics(*paths: Path) -> DifficultyCounts:
    """Count statistics files; all-fail is mean 0, all-pass mean 1, mixed what lies between. Raises DifficultyError."""
    all_fail = mixed = all_pass = rl_band = 0
    means: list[float] = []
    broken: list[str] = []
    by_key: dict[str, set[float]] = {}
    repeated: set[str] = set()
    for row in (row for path in paths for row in read_reward_rows(path)):
        if isinstance(row, DifficultyError):
            broken.append(str(row))
            continue
        all_fail += row.mean <= 0.0
        all_pass += row.mean >= 1.0
        mixed += 0.0 < row.mean < 1.0
        rl_band += RL_LOW <= row.mean < MIXED_HIGH
        means.append(row.mean)
        if row.key in by_key:
            repeated.add(row.key)
        if row.key:
            by_key.setdefault(row.key, set()).add(row.mean)
    return DifficultyCounts(
        rows=len(means),
        all_fail=all_fail,
        mixed=mixed,
        all_pass=all_pass,
        broken=tuple(broken),
        mean=round(math.fsum(means) / len(means), 6) if means else 0.0,
        rl_band=rl_band,
        unique_keys=len(by_key),
        repeated_keys=len(repeated),
        conflicting_keys=sum(len(found) > 1 for found in by_key.values()),
    )


def difficulty_index(rows: Iterable[RewardRow | DifficultyError]) -> DifficultyIndex:
    """Statistics by key. Rows of one key that agree count once; rows that disagree make the key a conflict.

    >>> index = difficulty_index([RewardRow("a", 0.5, 4), RewardRow("b", 0.0, 4), RewardRow("b", 1.0, 4)])
    >>> index.find("a"), index.find("b"), dict(index.conflicts)
    (TaskDifficulty(instance_id='a', num_attempts=4, mean=0.5), None, {'b': (0.0, 1.0)})
    """
    seen: dict[str, list[RewardRow]] = {}
    broken: list[str] = []
    for row in rows:
        if isinstance(row, DifficultyError):
            broken.append(str(row))
        elif row.key:
            seen.setdefault(row.key, []).append(row)
    agreed = {key: found for key, found in seen.items() if len({row.mean for row in found}) == 1}
    return DifficultyIndex(
        by_key={key: TaskDifficulty(key, max(row.num_attempts for row in found), found[0].mean) for key, found in agreed.items()},
        conflicts={key: tuple(row.mean for row in found) for key, found in seen.items() if key not in agreed},
        repeated=sum(len(found) > 1 for found in seen.values()),
        broken=tuple(broken),
    )


def difficulty_of_outcomes(outcomes: Iterable[tuple[str, bool]]) -> DifficultyIndex:
    """Statistics of played episodes, given as (instance id, resolved): all episodes of a task count together.

    >>> difficulty_of_outcomes([("a", True), ("b", False), ("a", False)]).find("a")
    TaskDifficulty(instance_id='a', num_attempts=2, mean=0.5)
    """
    tally: dict[str, list[int]] = {}
    for instance_id, resolved in outcomes:
        counts = tally.setdefault(instance_id, [0, 0])
        counts[0] += 1
        counts[1] += resolved
    by_key = {name: TaskDifficulty(name, num, solved / num) for name, (num, solved) in tally.items()}
    return DifficultyIndex(by_key, {}, 0, ())


def mixed_results(means: Mapping[str, float], low: float = MIXED_LOW, high: float = MIXED_HIGH) -> dict[str, float]:
    """The tasks with low <= mean reward < high, order kept. SWE-Master: the defaults for SFT, low=RL_LOW for RL.

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


def _reward_row(path: Path, number: int, line: bytes) -> RewardRow | DifficultyError:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return DifficultyError(f"{path}: line {number} is not valid JSON")
    if not isinstance(row, dict) or "reward_mean" not in row:
        return DifficultyError(f"{path}: line {number} has no field reward_mean")
    mean = row["reward_mean"]
    if isinstance(mean, bool) or not isinstance(mean, int | float) or not 0.0 <= mean <= 1.0:
        return DifficultyError(f"{path}: line {number}: reward_mean is not a number between 0 and 1")
    key: Any = next((row[name] for name in KEY_FIELDS if name in row), "")
    if not isinstance(key, str):
        return DifficultyError(f"{path}: line {number}: the task's key is not a text")
    num = row.get("num_attempts", 0)
    if isinstance(num, bool) or not isinstance(num, int) or num < 0:
        return DifficultyError(f"{path}: line {number}: num_attempts is not a count")
    return RewardRow(key, float(mean), num)
