"""Splits, duplicates, decontamination."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envpool.curation.heldout_split import Duplicate, find_duplicates, stable_split
from envpool.problem import Problem


def problem(instance_id: str, statement: str) -> Problem:
    return Problem(instance_id, "a/b", "HEAD", "folder:x", "/testbed", statement)


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
