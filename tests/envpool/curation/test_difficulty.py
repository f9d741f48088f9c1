"""Difficulty statistics on literals and on the released files; keys that occur twice."""

from pathlib import Path

import pytest

from envpool.curation.difficulty import (
    RL_LOW,
    DifficultyCounts,
    DifficultyError,
    RewardRow,
    TaskDifficulty,
    difficulty_histogram,
    difficulty_index,
    difficulty_of_outcomes,
    difficulty_statistics,
    mixed_results,
    read_reward_means,
    read_reward_rows,
)

DATA = Path(__file__).parents[4] / "shared" / "data" / "swe_master" / "difficulty"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="the released statistics (../shared/data/swe_master) are not here")
OTHERS, SMITH = DATA / "bon_stats_oss_others.jsonl", DATA / "bon_stats_oss_smith.jsonl"


@needs_data
@pytest.mark.parametrize(
    ("paths", "counts"),
    [
        ((OTHERS,), DifficultyCounts(12_623, 4_053, 4_118, 4_452, (), 0.513652, 2_479, 12_135, 413, 280)),
        ((SMITH,), DifficultyCounts(7_423, 1_070, 1_573, 4_780, (), 0.753362, 1_094, 7_423, 0, 0)),
        ((OTHERS, SMITH), DifficultyCounts(20_046, 5_123, 5_691, 9_232, (), 0.602416, 3_573, 19_558, 413, 280)),
    ],
)
def test_released_statistics_count_as_published(paths: tuple[Path, ...], counts: DifficultyCounts) -> None:
    assert difficulty_statistics(*paths) == counts


@needs_data
def test_bands_and_bins_of_the_released_statistics() -> None:
    means = {str(index): mean for index, mean in enumerate(read_reward_means(OTHERS)) if isinstance(mean, float)}
    mixed = mixed_results(means)
    assert len(mixed) == 4_118
    assert len(mixed_results(means, low=RL_LOW)) == 2_479
    assert sum(0 < mean <= 0.4 for mean in means.values()) == 1_844
    assert difficulty_histogram(mixed.values()) == (142, 496, 720, 281, 338, 256, 439, 971, 361, 114)
    both = (mean for path in (OTHERS, SMITH) for mean in read_reward_means(path) if isinstance(mean, float))
    assert difficulty_histogram(both) == (5265, 592, 919, 465, 402, 573, 818, 1200, 466, 9346)


@needs_data
def test_conflicting_commits_of_the_released_statistics_are_in_no_join() -> None:
    index = difficulty_index(row for path in (OTHERS, SMITH) for row in read_reward_rows(path))
    assert (len(index.by_key), len(index.conflicts), index.repeated) == (19_558 - 280, 280, 413)
    key, means = next(iter(index.conflicts.items()))
    assert len(set(means)) > 1
    assert index.find(key) is None


def test_broken_lines_are_numbered_and_counted(tmp_path: Path) -> None:
    path = tmp_path / "stats.jsonl"
    path.write_bytes(
        b'{"reward_mean": 0}\n{"reward_mean": 0.5}\n\n{"reward\n[1]\n{"reward_mean": "1"}\n{"reward_mean": 1.5}\n'
        b'{"reward_mean": NaN}\n{"reward_mean": true}\n{"reward_mean": 1.0}\n{"reward_mean": 1e-9}\n'
        b'{"reward_mean": 1, "instance_id": 4}\n{"reward_mean": 1, "num_attempts": -1}\n{"reward_mean": 1, "x": "\xff"}'
    )
    assert difficulty_statistics(path) == DifficultyCounts(
        rows=4,
        all_fail=1,
        mixed=2,
        all_pass=1,
        mean=0.375,
        rl_band=1,
        broken=(
            f"{path}: line 4 is not valid JSON",
            f"{path}: line 5 has no field reward_mean",
            *(f"{path}: line {number}: reward_mean is not a number between 0 and 1" for number in (6, 7, 8, 9)),
            f"{path}: line 12: the task's key is not a text",
            f"{path}: line 13: num_attempts is not a count",
            f"{path}: line 14 is not valid JSON",
        ),
    )


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(DifficultyError, match=r"none\.jsonl: cannot be read \(No such file"):
        difficulty_statistics(tmp_path / "none.jsonl")


def test_a_key_with_different_means_is_reported_and_not_used() -> None:
    rows = [
        RewardRow("same", 0.5, 4),
        RewardRow("other", 0.25, 4),
        RewardRow("same", 0.5, 8),
        RewardRow("twice", 0.25, 4),
        RewardRow("twice", 0.75, 4),
        RewardRow("twice", 0.25, 4),
        RewardRow("", 1.0, 4),
        DifficultyError("line 9"),
    ]
    index = difficulty_index(rows)
    assert index.conflicts == {"twice": (0.25, 0.75, 0.25)}
    assert index.by_key == {"same": TaskDifficulty("same", 8, 0.5), "other": TaskDifficulty("other", 4, 0.25)}
    assert (index.repeated, index.broken) == (2, ("line 9",))
    assert index.find("twice", "same") is None
    assert index.find("missing", "same") == TaskDifficulty("same", 8, 0.5)


def test_played_episodes_of_one_task_count_together() -> None:
    index = difficulty_of_outcomes([("a", True), ("b", False), ("a", False), ("a", False)])
    assert index.by_key == {"a": TaskDifficulty("a", 3, 1 / 3), "b": TaskDifficulty("b", 1, 0.0)}


def test_mixed_results_is_half_open() -> None:
    means = {"zero": 0.0, "low": 0.4, "mid": 0.5, "high": 0.9, "one": 1.0}
    assert mixed_results(means) == {"low": 0.4, "mid": 0.5, "high": 0.9}
    assert mixed_results(means, 0.4, 0.9) == {"low": 0.4, "mid": 0.5}
    with pytest.raises(ValueError, match=r"low=1 must be below high=0\.5"):
        mixed_results(means, 1.0, 0.5)


def test_histogram_edges_belong_to_the_bin_above() -> None:
    tenths = [index / 10 for index in range(11)]
    assert difficulty_histogram(tenths) == (1, 1, 1, 1, 1, 1, 1, 1, 1, 2)
    assert difficulty_histogram([1 / 3, 0.29], num_bins=100)[29] == 1
    with pytest.raises(ValueError, match=r"mean reward 1\.1 is outside"):
        difficulty_histogram([1.1])
