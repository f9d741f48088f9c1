"""Difficulty statistics on literals and on the released files, splits, duplicates, the funnel."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envpool.curation import Duplicate, decontaminate, find_duplicates, stable_split
from envpool.difficulty import (
    DifficultyCounts,
    DifficultyError,
    difficulty_histogram,
    difficulty_statistics,
    mixed_results,
    read_reward_means,
)
from envpool.funnel import Funnel
from envpool.problem import Problem

DATA = Path(__file__).parents[3] / "shared" / "data" / "swe_master" / "difficulty"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="the released statistics (../shared/data/swe_master) are not here")


def problem(instance_id: str, statement: str) -> Problem:
    return Problem(instance_id, "a/b", "HEAD", "folder:x", "/testbed", statement)


@needs_data
@pytest.mark.parametrize(
    ("name", "counts", "rl_band"),
    [
        ("bon_stats_oss_others.jsonl", DifficultyCounts(12_623, 4_053, 4_118, 4_452), 2_479),
        ("bon_stats_oss_smith.jsonl", DifficultyCounts(7_423, 1_070, 1_573, 4_780), None),
    ],
)
def test_released_statistics_count_as_published(name: str, counts: DifficultyCounts, rl_band: int | None) -> None:
    assert difficulty_statistics(DATA / name) == counts
    means = {str(index): mean for index, mean in enumerate(read_reward_means(DATA / name)) if isinstance(mean, float)}
    assert len(mixed_results(means)) == counts.mixed
    if rl_band is not None:
        assert len(mixed_results(means, low=0.3999999)) == rl_band
        mixed_deciles = difficulty_histogram(mixed_results(means).values())
        assert mixed_deciles == (142, 496, 720, 281, 338, 256, 439, 971, 361, 114)


def test_broken_lines_are_numbered_and_counted(tmp_path: Path) -> None:
    path = tmp_path / "stats.jsonl"
    path.write_text(
        '{"reward_mean": 0}\n{"reward_mean": 0.5}\n\n{"reward\n[1]\n{"reward_mean": "1"}\n{"reward_mean": 1.5}\n'
        '{"reward_mean": NaN}\n{"reward_mean": true}\n{"reward_mean": 1.0}\n{"reward_mean": 1e-9}'
    )
    assert difficulty_statistics(path) == DifficultyCounts(
        rows=4,
        all_fail=1,
        mixed=2,
        all_pass=1,
        broken=(
            f"{path}: line 4 is not valid JSON",
            f"{path}: line 5 has no field reward_mean",
            *(f"{path}: line {number}: reward_mean is not a number between 0 and 1" for number in (6, 7, 8, 9)),
        ),
    )


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(DifficultyError, match=r"none\.jsonl: cannot be read \(No such file"):
        difficulty_statistics(tmp_path / "none.jsonl")


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


def test_the_split_is_stable_and_near_its_share() -> None:
    ids = [f"task-{index}" for index in range(2000)]
    heldout = {name for name in ids if stable_split(name, 0.25, seed=0) == "heldout"}
    assert 430 <= len(heldout) <= 570
    assert heldout <= {name for name in ids if stable_split(name, 0.3, seed=0) == "heldout"}
    assert heldout != {name for name in ids if stable_split(name, 0.25, seed=1) == "heldout"}
    assert [stable_split(name, 0.5, seed=7) for name in ("a", "b", "c", "d", "e", "f")] == SPLIT_OF_SEED_7


SPLIT_OF_SEED_7 = ["train", "train", "heldout", "train", "heldout", "train"]


@given(instance_id=st.text(max_size=30), seed=st.integers())
def test_split_limits(instance_id: str, seed: int) -> None:
    assert stable_split(instance_id, 0.0, seed) == "train"
    assert stable_split(instance_id, 1.0, seed) == "heldout"


def test_split_share_is_checked() -> None:
    with pytest.raises(ValueError, match=r"heldout_share=1\.5 must be between 0 and 1"):
        stable_split("a", 1.5, 0)


def test_duplicates_fold_white_space_and_name_their_sets() -> None:
    train = [problem("a", "It  breaks.\r\nAlways."), problem("b", "Other."), problem("c", "Twice."), problem("d", "Twice.")]
    heldout = [problem("e", "It breaks. Always.")]
    duplicates = find_duplicates({"train": train, "heldout": heldout})
    assert duplicates == (Duplicate((("train", "a"), ("heldout", "e"))), Duplicate((("train", "c"), ("train", "d"))))
    assert [duplicate.sets for duplicate in duplicates] == [("train", "heldout"), ("train",)]


def test_decontamination_removes_by_text_and_by_id() -> None:
    train = [problem("a", "One."), problem("b", "Two."), problem("c", "Three.")]
    result = decontaminate(train, heldout=[problem("x", " One. "), problem("c", "Another text.")])
    assert (result.kept, result.removed) == ((train[1],), (train[0], train[2]))


def test_funnel() -> None:
    funnel = Funnel().then("read", 10).then("mixed results", 4).then("no duplicates", 4)
    assert funnel.steps == (("read", 10), ("mixed results", 4), ("no duplicates", 4))
    assert funnel.dropped == (("mixed results", 6), ("no duplicates", 0))
    with pytest.raises(ValueError, match="step 'more' keeps 5 of 4"):
        funnel.then("more", 5)
