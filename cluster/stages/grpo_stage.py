"""GRPO: the policy plays training tasks, hidden tests are really run, the learner steps, the engine gets the new weights."""

import logging
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from actors.group_request import GroupRequest
from actors.learner_group import LearnerGroupError
from cluster.episode_playing import task_seed
from cluster.group_store import write_shard
from cluster.learner_run import TrainingRun
from cluster.loop_evaluation import LoopEvaluation
from cluster.metric_sinks import read_metrics
from cluster.outcome_log import OutcomeLog
from cluster.policy_logprobs import LogprobRecorder
from cluster.run_folder import write_atomically
from cluster.stage import Stage, StageContext, StageError
from cluster.task_selection import tasks_of
from cluster.window_ledger import WindowLedger
from cluster.world_model_judging import world_endpoint_record
from configs.simulation_check import uses_world_model
from envpool.task import Task
from trainers.checkpoint import latest_checkpoint
from trainers.group_key import GroupKey
from trainers.grpo_loop import run_grpo
from trainers.objective_text import objective_text
from trainers.rollout_metrics import rollout_metrics
from trainers.step_plan import StepPlan
from trainers.step_seconds import StepSeconds, episode_metrics, ledger_row
from verifier.reward import Group
from verifier.rewards import reward_table

logger = logging.getLogger(__name__)

EVALUATION = "grpo-eval"
"""Name of the in-loop evaluation among the metrics."""
SECONDS = "grpo-seconds"
"""Name of the steps' ledgers of seconds among the metrics."""
BEGAN_WITH = "initial_policy"
"""File beside the checkpoints: the policy that they, and the groups of the window, began with."""


class TaskRollouts:
    """trainers.rollout_window's Rollouts over the run's rollout workers. An episode's seed depends on the group's key only."""

    def __init__(self, context: StageContext, tasks: list[Task]) -> None:
        self._context = context
        self._tasks = {task.instance_id: task for task in tasks}

    async def play(self, key: GroupKey, version: int, resumed: bool) -> Group:
        config = self._context.config.grpo
        task, seed = self._tasks[key.task_id], group_seed(self._context.config.seed, key)
        request = GroupRequest(task, "engine", config.group_size, config.temperature, seed, resume=resumed)
        return await self._context.fleet.play(request)

    async def cut(self, key: GroupKey) -> None:
        await self._context.fleet.cut(self._tasks[key.task_id], group_seed(self._context.config.seed, key))


def group_seed(seed: int, key: GroupKey) -> int:
    """The seed of a group's episodes in a run with this seed; journals know the group by it."""
    return task_seed(seed, "grpo", str(key.step), str(key.index), key.task_id)


def evaluation_seed(seed: int, step: int, task_id: str) -> int:
    """The seed of a held-out task's episodes in the evaluation after `step`. It names the step: a group whose worker died goes on
    from what the journals hold under its seed, and must not find the episodes of an older policy there."""
    return task_seed(seed, EVALUATION, str(step), task_id)


def initial_model(context: StageContext) -> Path:
    """The model that training begins with, also the reference of the KL term. Raises StageError in a folder whose training began
    with another one."""
    policy, folder = context.config.grpo.initial_policy, context.folder.checkpoints("grpo")
    before = (folder / BEGAN_WITH).read_text(encoding="utf-8") if (folder / BEGAN_WITH).is_file() else policy
    if before != policy:
        raise StageError(
            f"this run's grpo began with grpo.initial_policy={before}, not {policy}: "
            "go on with that, or begin in another run folder"
        )
    return context.fleet.model_folder(policy)


def note_beginning(context: StageContext) -> None:
    """Keep which policy training began with, before anything is played or saved."""
    folder = context.folder.checkpoints("grpo")
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / BEGAN_WITH, context.config.grpo.initial_policy.encode())


async def train_policy(context: StageContext) -> dict[str, Any]:
    """Train, then export hf/grpo. A learner that dies is started again from the last checkpoint."""
    config = context.config.grpo
    for line in objective_text(context.config).splitlines():
        logger.info("objective: %s", line)
    failures, saved = 0, -1
    while True:
        try:
            run = await TrainingRun.begin(
                context,
                "grpo",
                initial_model(context),
                config.optimizer,
                config.learner,
                config.num_steps,
                config.updates_per_batch,
                config.temperature,
            )
            note_beginning(context)
            await run.serve_weights()
            steps = await _train(context, run)
            exported = await run.finish(use_best=config.patience > 0)
            simulated: dict[str, Any] = {}
            if uses_world_model(context.config):
                simulated = {"simulation": await context.fleet.simulation_figures(), **world_endpoint_record(context, "worker_*")}
            grader = {"eval_grader": "tests"} if config.eval_every else {}
            began = {"initial_policy": config.initial_policy}
            return {**began, "steps": steps, "exported_step": exported, **grader, **simulated, **run.summary("reward/mean")}
        except LearnerGroupError as error:
            found = latest_checkpoint(context.folder.checkpoints("grpo"))
            newest = found[0] if found else 0
            failures, saved = (failures + 1 if newest == saved else 1), newest
            if failures > config.learner_restarts:
                raise
            logger.warning("the learner broke (%s); it starts again from step %s", error, saved)
            await context.fleet.drop_learner()


async def _train(context: StageContext, run: TrainingRun) -> int:
    """From the run's checkpoint to the end; returns the steps done."""
    config, root = context.config.grpo, context.folder.root
    tasks = tasks_of(context, "train")
    log = run.on_step("reward/mean")
    learner = LogprobRecorder(run, config.store_policy_logprobs)
    outcomes = OutcomeLog(root / "logs" / "grpo_outcomes.jsonl", run.start_step, reward_table(context.config.verifier))
    plan = StepPlan(config, context.config.verifier, [task.instance_id for task in tasks], context.config.seed, outcomes.before)
    ledger = WindowLedger(root / "window", run.start_step, config.groups_per_step)

    def on_step(step: int, metrics: dict[str, float], groups: list[Group]) -> None:
        outcomes.add(step - 1, groups)
        write_shard(root / "trajectories" / "grpo", f"{step:05d}", [(group, step) for group in groups])
        learner.write(root, step, groups)
        log(step, {**metrics, **rollout_metrics(groups), **episode_metrics(groups), "reward/alpha": plan.alpha(step - 1)})
        ledger.forget_before(run.saved_step())

    last = dict[str, float]()

    def on_seconds(step: int, spans: dict[str, float], groups: list[Group]) -> None:
        last.update(ledger_row(spans, groups, run.engine_queue_share))
        context.sinks.log(SECONDS, step, last)

    evaluation = loop_evaluation(context, run)
    evaluation.after_step(run.start_step)
    try:
        steps = await run_grpo(
            config,
            plan,
            TaskRollouts(context, tasks),
            learner,
            ledger,
            run.start_step,
            on_step,
            evaluation,
            on_seconds,
        )
        waiting = StepSeconds(time.monotonic)
        await evaluation.finish()
        if last:  # the wait belongs to the last step: its row is written again
            waited = waiting.close()["wall"]
            row = {**last, "seconds/evaluation": waited, "seconds/wall": last["seconds/wall"] + waited}
            context.sinks.log(SECONDS, steps, row)
        return steps
    finally:
        await evaluation.close()
        ledger.close()


def loop_evaluation(context: StageContext, run: TrainingRun) -> LoopEvaluation:
    """Held-out tasks by real tests, whatever decides the training rewards."""
    config, seed = context.config.grpo, context.config.seed
    tasks = {task.instance_id: task for task in tasks_of(context, "heldout")[: config.eval_tasks]} if config.eval_every else {}

    async def play(step: int, task_id: str) -> Group:
        task_dice = evaluation_seed(seed, step, task_id)
        request = GroupRequest(tasks[task_id], "engine", config.eval_samples, config.temperature, task_dice)
        return await context.fleet.play(replace(request, real=True, beside_training=True))

    def on_score(step: int, metrics: Mapping[str, float]) -> None:
        context.sinks.log(EVALUATION, step, metrics)

    rows = read_metrics(context.folder.root, EVALUATION)
    known = {row["step"]: row["eval/resolved"] for row in rows if row["step"] <= run.start_step and "eval/resolved" in row}
    return LoopEvaluation(config, list(tasks), play, run, on_score, known)


STAGE = Stage("grpo", (), train_policy, trains_initial_policy=True, asks_world_model=True)
