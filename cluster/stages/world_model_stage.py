"""SWE-World's reward model (SWR): trained on the real outcomes of the run's rollouts of training tasks."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from cluster.group_store import read_groups
from cluster.learner_run import TrainingRun
from cluster.stage import Stage, StageContext, StageError
from envpool.chat_format import ChatFormat
from trainers.sft_loop import run_sft
from trainers.train_sample import TrainSample
from verifier.reward import ScoredTrajectory
from verifier.world_model_data import ReportSample, report_samples

TRAINING_ROLLOUTS = ("rollout", "grpo")


def training_trajectories(context: StageContext) -> Iterator[ScoredTrajectory]:
    """Every graded episode of a training task that the run has stored."""
    for name in TRAINING_ROLLOUTS:
        folder = context.folder.root / "trajectories" / name
        if folder.exists():
            for group in read_groups(folder):
                yield from group.members


def report_train_sample(sample: ReportSample, chat: ChatFormat) -> TrainSample:
    """The prompt as context, the report as what is learnt."""
    prompt, answer = chat.prompt_ids(sample.messages), chat.completion_ids(sample.target)
    length = len(prompt) + len(answer)
    mask = np.zeros(length, np.int8)
    mask[len(prompt) :] = 1
    zeros = np.zeros(length, np.float32)
    return TrainSample(np.concatenate([prompt, answer]), mask, zeros, zeros, np.zeros(length, np.int32), sample.instance_id)


async def train_world_model(context: StageContext) -> dict[str, Any]:
    """Train from the base model, then export hf/world-model."""
    config = context.config.world_model
    reports, counts = report_samples(training_trajectories(context), balanced=config.balanced, seed=context.config.seed)
    if not reports:
        raise StageError("no graded trajectory with a context to learn from; is verifier.collect_context on?")
    samples = [report_train_sample(report, context.fleet.chat) for report in reports]
    run = await TrainingRun.begin(
        context, "world-model", context.fleet.base_model, config.optimizer, config.learner, config.num_steps
    )
    await run_sft(config, samples, run, run.start_step, context.config.seed, run.on_step("loss"))
    await run.finish()
    return {
        "samples": len(samples),
        "resolved_samples": counts.resolved,
        "duplicates": counts.duplicate,
        "steps": config.num_steps,
        **run.summary("loss"),
    }


STAGE = Stage("world-model", ("rollout",), train_world_model)
