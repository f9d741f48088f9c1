"""Stored votes: found again, also after a kill in the middle of a line."""

from pathlib import Path

from cluster.vote_store import VoteStore
from verifier.simulated_scoring import Vote

VOTES = (Vote(1, 0.75, False, {"t.py::a": "PASSED"}), None, Vote(0, 0.25, True))


def test_votes_come_back_for_the_same_scorer_only(tmp_path: Path) -> None:
    with VoteStore(tmp_path, {"model": 1}) as store:
        store.add("task", ("a", "diff", "seen"), VOTES)
        store.add("task", ("a", "other", ""), ())
    with VoteStore(tmp_path, {"model": 1}) as store:
        assert store.num_found == 2
        assert store.get("task", ("a", "diff", "seen")) == VOTES
        assert store.get("task", ("a", "other", "")) == ()
        assert store.get("task", ("a", "diff", "else")) is None
    with VoteStore(tmp_path, {"model": 2}) as store:
        assert store.get("task", ("a", "diff", "seen")) is None


def test_an_unfinished_line_is_cut_off(tmp_path: Path) -> None:
    with VoteStore(tmp_path, 0) as store:
        store.add("task", ("a",), VOTES)
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes() + b'{"key": "task/')
    with VoteStore(tmp_path, 0) as store:
        assert store.num_found == 1
        store.add("task", ("b",), VOTES)
    with VoteStore(tmp_path, 0) as store:
        assert store.get("task", ("b",)) == VOTES
