"""Stored votes and signals: found again with their cost, also after a kill in the middle of a line."""

from pathlib import Path

from cluster.vote_store import PatchVotes, SignalStore, TaskSignals, VoteStore
from verifier.patch_signals import PatchSignals
from verifier.simulated_scoring import Vote
from verifier.world_model_client import ModelUsage

VOTES = PatchVotes((Vote(1, 0.75, False, {"t.py::a": "PASSED"}), None, Vote(0, 0.25, True)), ModelUsage(3, 300, 20), 1.5)
NONE = PatchVotes((), ModelUsage(), 0.0)


def test_votes_come_back_for_the_same_scorer_only(tmp_path: Path) -> None:
    with VoteStore(tmp_path, {"model": 1}) as store:
        store.add("task", ("a", "diff", "seen"), VOTES)
        store.add("task", ("a", "other", ""), NONE)
    with VoteStore(tmp_path, {"model": 1}) as store:
        assert store.num_found == 2
        assert store.get("task", ("a", "diff", "seen")) == VOTES
        assert store.get("task", ("a", "other", "")) == NONE
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


def test_signals_are_kept_beside_votes(tmp_path: Path) -> None:
    tried = TaskSignals((PatchSignals(1.0, None), PatchSignals(None, 0.5)), 12.0)
    with SignalStore(tmp_path, 0) as store, VoteStore(tmp_path, 0) as votes:
        store.add("task", ("one", "two"), tried)
        assert votes.get("task", ("one", "two")) is None
    with SignalStore(tmp_path, 0) as store:
        assert store.get("task", ("one", "two")) == tried
        assert store.get("task", ("one",)) is None
