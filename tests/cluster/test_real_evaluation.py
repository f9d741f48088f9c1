"""Evaluations of a run that trains in simulation are played with real commands and real tests; its training is not."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from actors.group_request import GroupRequest
from cluster.progress_view import ProgressView
from cluster.run_folder import RunFolder
from cluster.stage import StageContext, StageError
from cluster.stages.eval_stage import evaluate
from cluster.stages.grpo_stage import TaskRollouts, initial_model, loop_evaluation, note_beginning
from cluster.stages.rollout_stage import play_teachers
from cluster.stages.world_model_stage import calibration_episodes
from cluster.task_selection import tasks_of
from configs.stage_loading import load_config
from envpool.task import Task
from envpool.task_sets.task_store import write_tasks
from tests.cluster.test_loop_evaluation import Checkpoints
from tests.cluster.test_stage_results import scored
from tests.verifier.small_repo import TASK
from trainers.group_key import GroupKey
from verifier.reward import Group

SIMULATED = [
    "sandbox.backend=simulated", "verifier.grader=hybrid", "world_model.roles=[reward,transition]", "tts.num_bootstrap=20",
    "tts.num_candidates=2", "tts.turn_budgets=[2]", "grpo.eval_every=1", "grpo.eval_tasks=1",
    "world_model.calibration_share=0.999",
]  # fmt: skip


class Fleet:
    """Grades as it was asked to play; remembers the sizes of the groups by who decided."""

    def __init__(self) -> None:
        self.served: list[str] = []

    async def serve(self, policy: str) -> None:
        self.served.append(policy)

    def model_folder(self, name: str) -> Path:
        return Path(name)

    async def play(self, request: GroupRequest) -> Group:
        name, real = request.task.instance_id, request.real
        grader = "swe-master-grader/2 x" if real else "swr/deployable"
        members = (replace(scored(name, index, real), grader=grader) for index in range(request.group_size))
        return Group(name, tuple(members), ())


class Sinks:
    def __init__(self) -> None:
        self.rows: list[dict[str, float]] = []

    def log(self, stage: str, step: int, metrics: dict[str, float]) -> None:
        self.rows.append(dict(metrics))


def named(name: str, split: str, image: str = "folder:calc") -> Task:
    problem = replace(TASK.problem, instance_id=name, image=image)
    return replace(TASK, problem=problem, oracle=replace(TASK.oracle, instance_id=name), split=split)


def context_of(tmp_path: Path, *settings: str, image: str = "folder:calc") -> StageContext:
    config = load_config(None, [*SIMULATED, f"runs_dir={tmp_path}", *settings])
    folder = RunFolder.create(config)
    write_tasks(folder.tasks, [named("held", "heldout", image), named("train", "train", image)])
    fleet: Any = Fleet()
    sinks: Any = Sinks()
    return StageContext(config, folder, sinks, fleet, ProgressView())


async def test_an_evaluation_is_played_with_real_tests_and_names_its_grader(tmp_path: Path) -> None:
    context = context_of(tmp_path)
    record = await evaluate(context, "sft")
    assert record["graders"] == ["swe-master-grader/2 x"]
    assert record["pass_at"]["1"][0] == 1.0
    assert record["turn_budgets"]["2"][0] == 1.0


async def test_the_evaluation_in_the_loop_is_real_and_the_training_is_not(tmp_path: Path) -> None:
    context = context_of(tmp_path)
    run: Any = Checkpoints()
    run.start_step = 0
    evaluation = loop_evaluation(context, run)
    evaluation.after_step(1)
    await evaluation.finish()
    assert evaluation.scores == {1: 1.0}
    rollouts = TaskRollouts(context, tasks_of(context, "train"))
    group = await rollouts.play(GroupKey(0, 0, "train"), 0, False)
    assert {member.grader for member in group.members} == {"swr/deployable"}
    context.sinks.log = lambda *_: None  # type: ignore[method-assign]
    assert (await play_teachers(context))["resolved"] == 0.0


async def test_a_world_model_is_calibrated_on_real_outcomes(tmp_path: Path) -> None:
    context = context_of(tmp_path)
    context.folder.record_stage("sft", {})
    source, episodes = await calibration_episodes(context)
    assert (source, {one.grader for one in episodes}) == ("sft", {"swe-master-grader/2 x"})


async def test_a_gain_is_over_what_grpo_began_with(tmp_path: Path) -> None:
    context = context_of(tmp_path)
    for policy, solved in (("base", 0.25), ("sft", 0.75)):
        context.folder.record_stage(f"eval-{policy}", {"per_task": {"held": solved}})
    context.folder.record_stage("grpo", {"initial_policy": "base"})
    record = await evaluate(context, "grpo")
    assert (record["gain_over"], record["gain"][0]) == ("base", 0.75)
    context.folder.record_stage("grpo", {})
    record = await evaluate(context, "grpo")
    assert (record["gain_over"], record["gain"][0]) == ("sft", 0.25), "a record of before the setting"


async def test_before_grpo_from_the_base_model_a_world_model_is_calibrated_on_that(tmp_path: Path) -> None:
    context = context_of(tmp_path, "grpo.initial_policy=base")
    context.folder.record_stage("tasks", {})
    context.folder.record_stage("sft", {})
    assert (await calibration_episodes(context))[0] == "base"


def test_grpo_begins_with_the_policy_of_the_setting_and_stays_with_it(tmp_path: Path) -> None:
    context = context_of(tmp_path)
    assert initial_model(context) == Path("sft")
    base = replace(context, config=load_config(None, [*SIMULATED, "grpo.initial_policy=base"]))
    assert initial_model(base) == Path("base"), "nothing was trained yet"
    note_beginning(base)
    assert initial_model(base) == Path("base")
    with pytest.raises(StageError, match=r"began with grpo\.initial_policy=base, not sft: go on with that"):
        initial_model(context)


async def test_held_out_tasks_are_refused_where_nothing_executes(tmp_path: Path) -> None:
    context = context_of(tmp_path, "sandbox.backend=scripted")
    assert len(tasks_of(context, "train")) == 1
    with pytest.raises(StageError, match="backend=scripted executes nothing"):
        await evaluate(context, "sft")


def test_docker_images_are_played_where_files_lie_in_docker(tmp_path: Path) -> None:
    context = context_of(tmp_path, "sandbox.files_in=docker", image="docker:someone/calc:1")
    assert [task.instance_id for task in tasks_of(context, "train")] == ["train"]
    with pytest.raises(StageError, match=r"sandbox\.backend=simulated and sandbox\.files_in=process"):
        tasks_of(context_of(tmp_path, image="docker:someone/calc:1"), "train")
