"""A real run whose processes are killed with -9: it goes on, its records are whole, and its weights are what they would be."""

from pathlib import Path

import pytest

from benchmarks.kill_campaign import Findings, campaign
from benchmarks.killed_run import VICTIMS
from cluster.run_folder import RunFolder
from configs.stage_loading import load_config
from envpool.micro.micro_tasks import generate_micro_tasks
from envpool.sandbox_parts.image_cache import FolderImages
from envpool.task_sets.task_store import write_tasks

pytestmark = [pytest.mark.engine, pytest.mark.ray, pytest.mark.timeout(900)]

SETTINGS = [
    "name=killed",
    "tasks.micro.num_train=8",
    "tasks.micro.num_heldout=2",
    "rollout.episode.max_turns=4",
    "rollout.episode.max_tokens=400",
    "rollout.episode.max_tokens_per_turn=24",
    "sandbox.isolation=none",
    "grpo.initial_policy=base",
    "grpo.num_steps=5",
    "grpo.groups_per_step=2",
    "grpo.group_size=2",
    "grpo.checkpoint_every=2",
]


def base_run(tmp_path: Path) -> Path:
    """A run folder as after `tasks`; training begins with the shipped model."""
    config = load_config(None, [*SETTINGS, f"runs_dir={tmp_path}"])
    folder = RunFolder.create(config)
    images, tasks = FolderImages(folder.images), []
    for micro in generate_micro_tasks(config.tasks.micro, config.tasks.seed):
        images.add(micro.task.instance_id, micro.files)
        tasks.append(micro.task)
    write_tasks(folder.tasks, tasks)
    folder.record_stage("tasks", {"seconds": 0.0})
    return folder.root


def test_a_synchronous_colocated_run_ends_as_if_nothing_had_died(tmp_path: Path) -> None:
    overrides = ["grpo.max_staleness=0", "cluster.placement=colocated"]
    findings = campaign(list(VICTIMS), base_run(tmp_path), tmp_path / "runs", overrides, seed=1, pause_s=1.0)
    assert findings.problems == []
    assert findings.deaths == dict.fromkeys(VICTIMS, 1)
    assert findings.bit_equal == findings.runs
    check_counts(findings)


def test_an_asynchronous_run_outlives_its_driver(tmp_path: Path) -> None:
    overrides = ["grpo.max_staleness=1"]
    findings = campaign(["driver"], base_run(tmp_path), tmp_path / "runs", overrides, seed=1, pause_s=1.0)
    assert findings.problems == []
    assert findings.deaths == {"driver": 1}
    check_counts(findings)


def check_counts(findings: Findings) -> None:
    """Every episode of every group that was begun was trained on; the audit has found no problem."""
    assert findings.audits["steps"] == findings.audits["checked steps"] == findings.runs * 5
    assert findings.audits["trained trajectories"] == findings.audits["submitted"] * 2
