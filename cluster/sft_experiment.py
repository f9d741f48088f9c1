"""Runs an experiment: tasks and rollouts once, then every arm and seed curated, trained and evaluated in a folder of its own.

One Ray session, one set of engines and one learner serve all. What is finished is recorded: a run that was stopped goes
on where it was. `experiment.json` in the root holds one record per arm and seed.
"""

import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from cluster.fleet import Fleet
from cluster.metric_sinks import MetricSinks
from cluster.progress_view import ProgressView
from cluster.run_folder import RunFolder, write_atomically
from cluster.stage import Stage, StageContext, StageError
from cluster.stages import STAGES
from cluster.stages.sft_stage import curated_samples
from configs.experiment_config import ArmConfig, ExperimentConfig, arm_config
from configs.run_config import RunConfig
from configs.stage_loading import config_as_yaml
from trainers.train_sample import TrainSample

SHARED = ("tasks", "rollout", "curate")
OF_AN_ARM = ("curate", "sft", "eval-sft")
RECORDS = "experiment.json"


@dataclass(frozen=True)
class ArmRun:
    """One arm trained with one seed."""

    arm: ArmConfig
    seed: int
    config: RunConfig

    @property
    def folder_name(self) -> str:
        """
        >>> ArmRun(ArmConfig("20 %"), 1, RunConfig()).folder_name
        '20_seed_1'
        """
        return f"{re.sub(r'[^A-Za-z0-9]+', '_', self.arm.name).strip('_')}_seed_{self.seed}"


def arm_runs(experiment: ExperimentConfig) -> list[ArmRun]:
    """All arms with the first seed, then all with the next: a run that is stopped early has compared all arms."""
    return [ArmRun(arm, seed, arm_config(experiment, arm, seed)) for seed in experiment.seeds for arm in experiment.arms]


async def run_experiment(experiment: ExperimentConfig, root: RunFolder, progress: ProgressView) -> list[dict[str, Any]]:
    """Play what is missing; returns one record per arm and seed, in the order of `arm_runs`."""
    fleet = Fleet(experiment.run, root)
    records = []
    try:
        fleet.warm_up()
        with progress.live():
            await run_missing(experiment.run, root, fleet, progress, SHARED)
            heldout = heldout_samples(root)
            runs = arm_runs(experiment)
            for number, run in enumerate(runs, start=1):
                progress.say(f"arm {number} of {len(runs)}: {run.arm.name}, seed {run.seed}")
                folder = arm_folder(root, run)
                fleet.turn_to(run.config, folder)
                await run_missing(run.config, folder, fleet, progress, OF_AN_ARM)
                if "validation" not in folder.stage_records():
                    folder.record_stage("validation", {"loss_per_task": await validation(run.config, folder, fleet, heldout)})
                records.append(arm_record(run, folder))
                write_atomically(root.root / RECORDS, orjson.dumps(records, option=orjson.OPT_INDENT_2))
    finally:
        await fleet.close()
    return records


async def run_missing(config: RunConfig, folder: RunFolder, fleet: Fleet, progress: ProgressView, names: tuple[str, ...]) -> None:
    """The stages that the folder has no record of."""
    sinks = MetricSinks(config, folder.root)
    try:
        for name in names:
            if name in folder.stage_records():
                continue
            stage: Stage = STAGES[name]
            began = time.monotonic()
            record = await stage.run(StageContext(config, folder, sinks, fleet, progress))
            folder.record_stage(name, {**record, "seconds": round(time.monotonic() - began, 1)})
    finally:
        sinks.close()


def arm_folder(root: RunFolder, run: ArmRun) -> RunFolder:
    """The arm's run folder, with links to the shared tasks, images and rollouts."""
    folder = root.root / "arms" / run.folder_name
    for name in ("trajectories", "checkpoints", "hf", "logs"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for name in ("tasks", "images", "trajectories/rollout"):
        if not (folder / name).exists():
            (folder / name).symlink_to(root.root / name)
    write_atomically(folder / "config.yaml", config_as_yaml(run.config).encode())
    return RunFolder.open(folder)


def heldout_samples(root: RunFolder) -> list[TrainSample]:
    """The trajectories that the shared curation set aside: the same for all arms. Raises StageError when there are none."""
    samples = curated_samples(root, "curated_heldout.json")
    if not samples:
        raise StageError("no trajectory is held out to measure a validation loss on: set run.curate.heldout_share")
    return samples


async def validation(config: RunConfig, folder: RunFolder, fleet: Fleet, heldout: list[TrainSample]) -> dict[str, float]:
    """Cross entropy of the assistant's tokens of each held-out task under the arm's exported model, nats per token."""
    sft = config.sft
    group = await fleet.learner(Path(folder.hf("sft")), sft.optimizer, sft.learner, sft.num_steps)
    return loss_per_task(heldout, await group.token_logprobs(heldout))


def loss_per_task(samples: list[TrainSample], logprobs: list[Any]) -> dict[str, float]:
    """Mean over the trained tokens of each task's samples."""
    sums: dict[str, list[float]] = {}
    for sample, row in zip(samples, logprobs, strict=True):
        on = sample.loss_mask[1:] != 0
        total = sums.setdefault(sample.group, [0.0, 0.0])
        total[0] -= float(np.sum(row[1:][on], dtype=np.float64))
        total[1] += float(on.sum())
    return {task: loss / count for task, (loss, count) in sums.items() if count}


def arm_record(run: ArmRun, folder: RunFolder) -> dict[str, Any]:
    """What the curves are drawn from."""
    records = folder.stage_records()
    return {
        "arm": run.arm.name,
        "curve": run.arm.curve or run.arm.name,
        "share": run.arm.share,
        "seed": run.seed,
        "samples": max(1, round(run.arm.share * records["sft"]["samples"])),
        "steps": records["sft"]["steps"],
        "solved_per_task": records["eval-sft"]["per_task"],
        "loss_per_task": records["validation"]["loss_per_task"],
    }
