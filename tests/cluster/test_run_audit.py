"""The audit finds what must not be in a run's records, and nothing in those of a sound run."""

import asyncio
from pathlib import Path

import orjson
import pytest

from cluster.group_store import write_shard
from cluster.run_audit import audit_run
from cluster.stages.grpo_stage import group_seed
from cluster.window_ledger import WindowLedger
from configs.run_config import RunConfig
from configs.stage_loading import load_config
from envpool.agent.turn_journal import TurnJournal
from tests.trainers.training_doubles import make_group, with_version
from trainers.group_key import GroupKey

KEYS = [GroupKey(step, index, f"task-{step}-{index}") for step in range(2) for index in range(2)]


def config() -> RunConfig:
    return load_config(None, ["grpo.group_size=2", "grpo.groups_per_step=2"])


def metrics_row(step: int, loss: float = 0.5, submitted: int = 0) -> bytes:
    window = {"window/submitted": submitted or 2 * step, "window/accepted": 2 * step, "window/rejected": 0, "window/running": 0}
    return orjson.dumps({"stage": "grpo", "step": step, "rollout/staleness_max": 0, "loss": loss, **window}) + b"\n"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Two synchronous steps of two groups, on record in every file."""
    ledger = WindowLedger(tmp_path / "window", 0, 2)
    for step in range(2):
        keys = [key for key in KEYS if key.step == step]
        groups = [with_version(make_group([1.0, 0.0], task=key.task_id), step) for key in keys]
        with TurnJournal(tmp_path / "journal" / f"worker_{step}.jsonl") as journal:
            for key, group in zip(keys, groups, strict=True):
                ledger.submitted(key, step)
                for member in group.members:
                    turn = member.trajectory.turns[0]
                    journal.append(key.task_id, member.trajectory.sample_index, 0, turn, group_seed(0, key))
                asyncio.run(ledger.completed(key, group))
        ledger.taken(step, keys)
        write_shard(tmp_path / "trajectories" / "grpo", f"{step + 1:05d}", [(group, step + 1) for group in groups])
    ledger.close()
    (tmp_path / "metrics.jsonl").write_bytes(metrics_row(1) + metrics_row(2) + b'{"stage":"grpo","st')
    return tmp_path


def append_event(run: Path, event: dict[str, object]) -> None:
    with (run / "window" / "ledger.jsonl").open("ab") as file:
        file.write(orjson.dumps(event) + b"\n")


def test_a_sound_run(run: Path) -> None:
    audit = audit_run(run, config())
    assert audit.problems == []
    assert audit.counts == {
        "submitted": 4,
        "accepted": 4,
        "steps": 2,
        "turns": 8,
        "turns sampled twice": 0,
        "trained trajectories": 8,
        "lost episodes": 0,
        "checked steps": 2,
    }


def test_a_group_that_trains_twice(run: Path) -> None:
    append_event(run, {"event": "taken", "step": 2, "keys": [str(KEYS[0])]})
    assert audit_run(run, config()).problems == [
        f"group {KEYS[0]} trained in 2 steps",
        "submitted - accepted - rejected = -1, running 0",
    ]


def test_a_group_that_trains_unfinished(run: Path) -> None:
    stray = GroupKey(2, 0, "task-2-0")
    append_event(run, {"event": "begun", "key": str(stray), "version": 2})
    append_event(run, {"event": "taken", "step": 2, "keys": [str(stray)]})
    assert audit_run(run, config()).problems == [f"group {stray} trained and was never finished"]


def test_turns_that_were_sampled_again(run: Path) -> None:
    turn = make_group([1.0]).members[0].trajectory.turns[0]
    with TurnJournal(run / "journal" / "worker_0.jsonl") as journal:
        journal.append(KEYS[0].task_id, 1, 0, turn, group_seed(0, KEYS[0]))
    audit = audit_run(run, config())
    assert (audit.problems, audit.counts["turns sampled twice"]) == ([], 1)
    with TurnJournal(run / "journal" / "worker_0.jsonl") as journal:
        journal.append(KEYS[0].task_id, 1, 0, turn, group_seed(0, KEYS[0]))
    assert audit_run(run, config()).problems == [f"turn 0 of episode 1 of group {KEYS[0]} was sampled 3 times"]


def test_trajectories_that_are_not_the_ledgers(run: Path) -> None:
    groups = [with_version(make_group([1.0, 0.0], task=task), 1) for task in ("task-1-0", "other")]
    write_shard(run / "trajectories" / "grpo", "00002", [(group, 2) for group in groups])
    assert audit_run(run, config()).problems[0].startswith("step 1 trained on ['task-1-0', 'other'], the ledger says")


def test_tokens_that_are_too_old(run: Path) -> None:
    groups = [with_version(make_group([1.0, 0.0], task=f"task-1-{index}"), index) for index in range(2)]
    write_shard(run / "trajectories" / "grpo", "00002", [(group, 2) for group in groups])
    assert audit_run(run, config()).problems == [f"group {KEYS[2]} has tokens of versions 0 to 0 in step 1"]


def test_a_step_that_came_out_otherwise_the_second_time(run: Path) -> None:
    (run / "metrics.jsonl").write_bytes(metrics_row(1) + metrics_row(2) + metrics_row(2))
    audit = audit_run(run, config())
    assert (audit.problems, audit.counts["steps trained again"]) == ([], 1)
    (run / "metrics.jsonl").write_bytes(metrics_row(1) + metrics_row(2) + metrics_row(2, loss=0.25))
    assert audit_run(run, config()).problems == ["step 2 trained again: loss 0.25, at first 0.5"]


def test_counts_that_do_not_balance(run: Path) -> None:
    (run / "metrics.jsonl").write_bytes(metrics_row(1) + metrics_row(2, submitted=5))
    assert audit_run(run, config()).problems == ["step 2: the window's counts do not balance"]
