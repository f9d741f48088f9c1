"""GRPO: the SFT policy plays training tasks, hidden tests are really run, the learner steps, the engine gets the new weights."""

import asyncio
import random
from typing import Any

from cluster.episode_playing import task_seed
from cluster.group_store import GroupStore
from cluster.learner_run import TrainingRun
from cluster.stage import Stage, StageContext
from cluster.task_selection import tasks_of
from envpool.task import Task
from trainers.grpo_loop import run_grpo
from trainers.rollout_metrics import rollout_metrics
from verifier.reward import Group


class TaskRollouts:
    """trainers.grpo_loop's Rollouts over the run's rollout workers. The seed of an episode depends on (step, task) only."""

    def __init__(self, context: StageContext, tasks: list[Task]) -> None:
        self._context = context
        self._tasks = {task.instance_id: task for task in tasks}

    async def play(self, step: int, index: int, task_id: str, version: int) -> Group:
        config = self._context.config.grpo
        seed = task_seed(self._context.config.seed, "grpo", str(step), str(index), task_id)
        return await self._context.fleet.play(self._tasks[task_id], "engine", config.group_size, config.temperature, seed)


def tasks_of_step(task_ids: list[str], groups_per_step: int, seed: int, step: int) -> list[str]:
    """The tasks of one step: a seeded shuffle of all tasks, epoch after epoch, the same whenever it is asked.

    >>> tasks_of_step(["a", "b"], 2, 0, 0) == tasks_of_step(["a", "b"], 2, 0, 0)
    True
    """
    chosen = []
    for position in range(step * groups_per_step, (step + 1) * groups_per_step):
        epoch, index = divmod(position, len(task_ids))
        order = sorted(task_ids)
        random.Random(f"grpo/{seed}/{epoch}").shuffle(order)
        chosen.append(order[index])
    return chosen


async def train_policy(context: StageContext) -> dict[str, Any]:
    """Train, then export hf/grpo."""
    config = context.config.grpo
    tasks = tasks_of(context, "train")
    run = await TrainingRun.begin(context, "grpo", context.folder.hf("sft"), config.optimizer, config.learner, config.num_steps)
    await run.serve_weights()
    log = run.on_step("reward/mean")

    store = GroupStore(context.folder.root / "trajectories" / "grpo")

    def on_step(step: int, metrics: dict[str, float], groups: list[Group]) -> None:
        log(step, {**metrics, **rollout_metrics(groups)})
        for group in groups:
            store.add(group)
        store.flush()

    await run_grpo(
        config,
        lambda step: tasks_of_step([task.instance_id for task in tasks], config.groups_per_step, context.config.seed, step),
        TaskRollouts(context, tasks),
        run,
        run.start_step,
        on_step,
        asyncio.Event(),
    )
    await run.finish()
    return {"steps": config.num_steps, **run.summary("reward/mean")}


STAGE = Stage("grpo", ("sft",), train_policy)
