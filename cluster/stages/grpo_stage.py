"""GRPO: the SFT policy plays training tasks, hidden tests are really run, the learner steps, the engine gets the new weights."""

import asyncio
import logging
from typing import Any

from cluster.episode_playing import task_seed
from cluster.group_store import GroupStore
from cluster.learner_run import TrainingRun
from cluster.outcome_log import OutcomeLog
from cluster.policy_logprobs import LogprobRecorder
from cluster.stage import Stage, StageContext
from cluster.task_selection import tasks_of
from envpool.task import Task
from trainers.grpo_loop import run_grpo
from trainers.objective_text import objective_text
from trainers.rollout_metrics import rollout_metrics
from trainers.step_plan import StepPlan
from verifier.reward import Group

logger = logging.getLogger(__name__)


class TaskRollouts:
    """trainers.grpo_loop's Rollouts over the run's rollout workers. The seed of an episode depends on (step, task) only."""

    def __init__(self, context: StageContext, tasks: list[Task]) -> None:
        self._context = context
        self._tasks = {task.instance_id: task for task in tasks}

    async def play(self, step: int, index: int, task_id: str, version: int) -> Group:
        config = self._context.config.grpo
        seed = task_seed(self._context.config.seed, "grpo", str(step), str(index), task_id)
        return await self._context.fleet.play(self._tasks[task_id], "engine", config.group_size, config.temperature, seed)


async def train_policy(context: StageContext) -> dict[str, Any]:
    """Train, then export hf/grpo."""
    config = context.config.grpo
    tasks = tasks_of(context, "train")
    run = await TrainingRun.begin(
        context, "grpo", context.folder.hf("sft"), config.optimizer, config.learner, config.num_steps, config.updates_per_batch
    )
    await run.serve_weights()
    log = run.on_step("reward/mean")
    for line in objective_text(context.config).splitlines():
        logger.info("objective: %s", line)

    learner = LogprobRecorder(run, config.store_policy_logprobs)
    store = GroupStore(context.folder.root / "trajectories" / "grpo")
    outcomes = OutcomeLog(context.folder.root / "logs" / "grpo_outcomes.jsonl", run.start_step)
    plan = StepPlan(config, context.config.verifier, [task.instance_id for task in tasks], context.config.seed, outcomes.before)

    def on_step(step: int, metrics: dict[str, float], groups: list[Group]) -> None:
        log(step, {**metrics, **rollout_metrics(groups), "reward/alpha": plan.alpha(step - 1)})
        outcomes.add(step - 1, groups)
        for group in groups:
            store.add(group, step)
        store.flush()
        learner.write(context.folder.root, step, groups)

    await run_grpo(
        config,
        plan.tasks,
        TaskRollouts(context, tasks),
        learner,
        run.start_step,
        on_step,
        asyncio.Event(),
        plan.shape,
        plan.spares,
    )
    await run.finish()
    return {"steps": config.num_steps, **run.summary("reward/mean")}


STAGE = Stage("grpo", ("sft",), train_policy)
