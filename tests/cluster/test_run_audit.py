"""The audit finds what must not be in a run's records, and nothing in those of a sound run."""

import asyncio
from dataclasses import replace
from pathlib import Path

import orjson
import pytest

from cluster.group_store import write_shard
from cluster.run_audit import audit_run
from cluster.run_folder import RunFolder
from cluster.stages.grpo_stage import group_seed
from cluster.window_ledger import WindowLedger
from configs.run_config import RunConfig
from configs.stage_loading import load_config
from envpool.agent.turn_journal import TurnJournal
from tests.trainers.training_doubles import make_group, with_version
from trainers.group_key import GroupKey

KEYS = [GroupKey(step, index, f"task-{step}-{index}") for step in range(2) for index in range(2)]

RUNNING = {"window/running": 1}


def config(*settings: str) -> RunConfig:
    return load_config(None, ["grpo.group_size=2", "grpo.groups_per_step=2", "grpo.num_steps=2", *settings])


def metrics_row(step: int, loss: float = 0.5, submitted: int = 0, stale: int = 0) -> bytes:
    window = {"window/submitted": submitted or 2 * step, "window/accepted": 2 * step, "window/rejected": 0, "window/running": 0}
    return orjson.dumps({"stage": "grpo", "step": step, "rollout/stale_tokens": stale, "loss": loss, **window}) + b"\n"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Two synchronous steps of two groups, all that the run has, on record in every file."""
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
    RunFolder(tmp_path).record_stage("grpo", {})
    return tmp_path


def append_event(run: Path, event: dict[str, object]) -> None:
    with (run / "window" / "ledger.jsonl").open("ab") as file:
        file.write(orjson.dumps(event) + b"\n")


def test_a_sound_run(run: Path) -> None:
    audit = audit_run(run, config(), strict=True)
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
    assert audit_run(run, config()).problems[0] == f"group {KEYS[0]} trained in 2 steps"


def test_a_group_that_trains_unfinished(run: Path) -> None:
    (run / "stages.json").unlink()
    stray = GroupKey(2, 0, "task-2-0")
    append_event(run, {"event": "begun", "key": str(stray), "version": 2})
    append_event(run, {"event": "taken", "step": 2, "keys": [str(stray)]})
    assert audit_run(run, config()).problems == [f"group {stray} trained and was never finished"]


def test_turns_that_were_sampled_again(run: Path) -> None:
    """One turn of an episode for each death, and no more: who begins an episode anew samples all of its turns again."""
    turn = make_group([1.0]).members[0].trajectory.turns[0]
    with TurnJournal(run / "journal" / "worker_0.jsonl") as journal:
        for index in (0, 1):
            journal.append(KEYS[0].task_id, 1, index, turn, group_seed(0, KEYS[0]))
    audit = audit_run(run, config(), deaths=1)
    assert (audit.problems, audit.counts["turns sampled twice"]) == ([], 1)
    problem = f"episode 1 of group {KEYS[0]} has 1 turns that were sampled again, with 0 deaths"
    assert audit_run(run, config()).problems == [problem]
    with TurnJournal(run / "journal" / "worker_0.jsonl") as journal:
        journal.append(KEYS[0].task_id, 1, 1, turn, group_seed(0, KEYS[0]))
    assert audit_run(run, config(), deaths=1).problems == [problem.replace("1 turns", "2 turns").replace("0 deaths", "1 deaths")]
    assert audit_run(run, config(), deaths=2).problems == []


def test_turns_that_no_journal_has(run: Path) -> None:
    (run / "journal" / "worker_1.jsonl").unlink()
    assert audit_run(run, config()).problems == [
        f"turn 0 of episode {sample} of group {key} trained and is in no journal" for key in KEYS[2:] for sample in range(2)
    ]


def test_trajectories_that_are_missing(run: Path) -> None:
    """A process may die between taking the groups and writing what it trained on; a finished run has no such step."""
    (run / "trajectories" / "grpo" / "lost_00002.jsonl").unlink()
    assert audit_run(run, config()).problems == ["step 1 has trained and its trajectories are not there"]
    (run / "stages.json").unlink()
    assert audit_run(run, config()).problems == []
    (run / "trajectories" / "grpo" / "lost_00001.jsonl").unlink()
    assert audit_run(run, config()).problems == ["step 0 has trained and its trajectories are not there"]


def test_a_group_that_was_left_behind(run: Path) -> None:
    """In flight when a run ends: a group was lost, unless the run ended early or may give groups up."""
    stray = GroupKey(1, 2, "task-1-2")
    append_event(run, {"event": "begun", "key": str(stray), "version": 1})
    (run / "metrics.jsonl").write_bytes(
        metrics_row(1) + orjson.dumps(orjson.loads(metrics_row(2, submitted=5)) | RUNNING) + b"\n"
    )
    assert audit_run(run, config()).problems == [f"group {stray} was begun, and no step trained on it when the run ended"]
    for setting in ("grpo.late_groups=drop", "grpo.zero_spread_groups=replace"):
        assert audit_run(run, config(setting)).problems == []
    assert audit_run(run, config("grpo.num_steps=3")).problems[0] == "finished after 2 of 3 steps"
    assert audit_run(run, config("grpo.num_steps=3", "grpo.patience=1", "grpo.eval_every=1")).problems == []
    (run / "stages.json").unlink()
    assert audit_run(run, config()).problems == []


def test_books_that_are_not_the_ledgers(run: Path) -> None:
    append_event(run, {"event": "begun", "key": "1/2/task-1-2", "version": 1})
    append_event(run, {"event": "rejected", "key": "1/2/task-1-2", "reason": "worker died"})
    assert audit_run(run, config()).problems == [
        "the last step says that 4 groups were submitted, the ledger 5",
        "the last step says that 0 groups were rejected, the ledger 1",
    ]


def test_strictly_nothing_is_lost(run: Path) -> None:
    groups = [with_version(make_group([1.0], lost=1, task=f"task-1-{index}"), 1) for index in range(2)]
    write_shard(run / "trajectories" / "grpo", "00002", [(group, 2) for group in groups])
    append_event(run, {"event": "begun", "key": "1/2/task-1-2", "version": 1})
    append_event(run, {"event": "rejected", "key": "1/2/task-1-2", "reason": "worker died"})
    row = orjson.loads(metrics_row(2, submitted=5)) | {"window/rejected": 1}
    (run / "metrics.jsonl").write_bytes(metrics_row(1) + orjson.dumps(row) + b"\n")
    assert audit_run(run, config()).problems == []
    assert audit_run(run, config(), strict=True).problems == [
        "group 1/2/task-1-2 was rejected: worker died",
        "2 episodes were lost",
    ]


def test_an_episode_that_trains_twice(run: Path) -> None:
    groups = [with_version(make_group([1.0, 0.0], task=f"task-1-{index}"), 1) for index in range(2)]
    twice = [replace(group, members=(group.members[0], group.members[0])) for group in groups]
    write_shard(run / "trajectories" / "grpo", "00002", [(group, 2) for group in twice])
    assert audit_run(run, config()).problems == [f"group {key} has episodes [0, 0] of 2" for key in KEYS[2:]]


def test_a_synchronous_step_with_a_group_of_another(run: Path) -> None:
    ledger = (run / "window" / "ledger.jsonl").read_bytes()
    keys = [str(KEYS[0]), str(KEYS[3])], [str(KEYS[2]), str(KEYS[1])]
    for step in range(2):
        old = orjson.dumps({"event": "taken", "step": step, "keys": [str(key) for key in KEYS if key.step == step]})
        assert old in ledger
        ledger = ledger.replace(old, orjson.dumps({"event": "taken", "step": step, "keys": keys[step]}))
    (run / "window" / "ledger.jsonl").write_bytes(ledger)
    problems = audit_run(run, config()).problems
    assert f"step 0 of a synchronous run trained on group {KEYS[3]}" in problems
    assert f"step 1 of a synchronous run trained on group {KEYS[1]}" in problems


def test_trajectories_that_are_not_the_ledgers(run: Path) -> None:
    groups = [with_version(make_group([1.0, 0.0], task=task), 1) for task in ("task-1-0", "other")]
    write_shard(run / "trajectories" / "grpo", "00002", [(group, 2) for group in groups])
    assert audit_run(run, config()).problems[0].startswith("step 1 trained on ['task-1-0', 'other'], the ledger says")


def test_tokens_that_are_too_old(run: Path) -> None:
    groups = [with_version(make_group([1.0, 0.0], task=f"task-1-{index}"), index) for index in range(2)]
    write_shard(run / "trajectories" / "grpo", "00002", [(group, 2) for group in groups])
    assert f"group {KEYS[2]} has tokens of versions 0 to 0 in step 1" in audit_run(run, config()).problems
    (run / "metrics.jsonl").write_bytes(metrics_row(1) + metrics_row(2, stale=3))
    assert "step 2: 3 tokens were too old to train" in audit_run(run, config()).problems


def test_a_step_that_came_out_otherwise_the_second_time(run: Path) -> None:
    (run / "metrics.jsonl").write_bytes(metrics_row(1) + metrics_row(2) + metrics_row(2))
    audit = audit_run(run, config())
    assert (audit.problems, audit.counts["steps trained again"]) == ([], 1)
    (run / "metrics.jsonl").write_bytes(metrics_row(1) + metrics_row(2) + metrics_row(2, loss=0.25))
    assert audit_run(run, config()).problems == ["step 2 trained again: loss 0.25, at first 0.5"]


def test_counts_that_do_not_balance(run: Path) -> None:
    (run / "metrics.jsonl").write_bytes(metrics_row(1, submitted=5) + metrics_row(2))
    assert audit_run(run, config()).problems == ["step 1: the window's counts do not balance"]
