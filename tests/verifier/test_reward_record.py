"""The record of simulated rewards on disk."""

from pathlib import Path

from verifier.audit import AuditState
from verifier.reward_record import RewardCost, RewardRecord, patch_key, read_record, write_record
from verifier.world_model_client import ModelUsage

FRESH = RewardRecord(AuditState(0.1))
KEPT = RewardRecord(
    AuditState(0.2, 7, 1, 0.5, 0.25, 3, -1.5), RewardCost(9, 4, 1, 2.5, 7, 8.5), ModelUsage(27, 900, 80), {patch_key("a", "diff")}
)


def test_a_record_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "records" / "worker_0.json"
    assert read_record(path, FRESH, "w") is FRESH
    write_record(path, KEPT, "w")
    assert read_record(path, FRESH, "w") == KEPT
    assert [found.name for found in path.parent.iterdir()] == ["worker_0.json"]


def test_another_scorer_is_watched_anew_and_the_costs_go_on(tmp_path: Path) -> None:
    write_record(tmp_path / "r.json", KEPT, "w")
    assert read_record(tmp_path / "r.json", FRESH, "x") == RewardRecord(FRESH.state, KEPT.cost, KEPT.usage)


def test_a_damaged_record_begins_anew(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    for text in ("", "[]", '{"cost": {}, "usage": {}}', '{"cost": {"x": 1}}'):
        path.write_text(text)
        assert read_record(path, FRESH, "w") is FRESH


def test_patches_are_told_apart_by_task_and_text() -> None:
    assert len({patch_key("a", "d"), patch_key("b", "d"), patch_key("a", "e"), patch_key("a", "\ud800")}) == 4
