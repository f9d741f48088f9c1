"""Supervised fine-tuning of the base model on the curated trajectories."""

from typing import Any

import orjson

from cluster.group_store import members_by_name
from cluster.learner_run import TrainingRun
from cluster.lsp_curation import read_deletions, trimmed
from cluster.run_folder import RunFolder
from cluster.stage import Stage, StageContext
from trainers.sample_building import sft_samples
from trainers.sft_loop import run_sft, sft_data, steps_of
from trainers.train_sample import TrainSample


def curated_samples(folder: RunFolder, names: str = "curated.json") -> list[TrainSample]:
    """The token sequences of the trajectories that curation kept; with curated_heldout.json, of those it set aside."""
    chosen = {tuple(pair) for pair in orjson.loads((folder.root / names).read_bytes())}
    deletions = read_deletions(folder.root)
    kept = members_by_name(folder.root / "trajectories" / "rollout", lambda name, index: (name, index) in chosen)
    return [sample for one in kept for sample in sft_samples(trimmed(one.trajectory, deletions))]


async def fine_tune(context: StageContext) -> dict[str, Any]:
    """Train, then export hf/sft."""
    config = context.config.sft
    samples = curated_samples(context.folder)
    num_steps = steps_of(config, len(sft_data(config, samples, context.config.seed).train))
    run = await TrainingRun.begin(context, "sft", context.fleet.base_model, config.optimizer, config.learner, num_steps)
    await run_sft(config, samples, run, run.start_step, context.config.seed, run.on_step("loss"))
    await run.finish()
    return {"samples": len(samples), "steps": num_steps, **run.summary("loss")}


STAGE = Stage("sft", ("curate",), fine_tune)
