"""Checkpoints of a stage and their scores: what is kept, what is exported, also when the stage runs a second time."""

import asyncio
from pathlib import Path
from typing import Any, cast

import pytest

from cluster.learner_run import TrainingRun
from cluster.progress_view import ProgressView
from cluster.run_folder import RunFolder
from cluster.stage import StageContext
from configs.run_config import RunConfig
from trainers.checkpoint import best_checkpoint, list_checkpoints


class FolderLearner:
    """Checkpoints and models are folders that say which step they are of; `during_save` runs before a checkpoint is there."""

    def __init__(self) -> None:
        self.step = 0
        self.during_save = lambda: None

    async def save(self, folder: Path, client_state: dict[str, Any]) -> None:
        self.during_save()
        await asyncio.to_thread(folder.mkdir)
        self.step = client_state["step"]

    async def load(self, folder: Path) -> None:
        self.step = int(folder.name.removeprefix("step_"))

    async def export(self, folder: Path) -> None:
        await asyncio.to_thread(folder.mkdir, exist_ok=True)
        (folder / "step").write_text(str(self.step))


@pytest.fixture
def context(tmp_path: Path) -> StageContext:
    config = RunConfig(runs_dir=str(tmp_path))
    return StageContext(config, RunFolder.create(config), cast(Any, None), cast(Any, None), ProgressView())


def run_of(context: StageContext, learner: FolderLearner, start_step: int = 0) -> TrainingRun:
    return TrainingRun(context, "grpo", learner, start_step, 30)


def test_a_stage_that_runs_again_exports_the_best_again(context: StageContext) -> None:
    """A kill between the export and the stage's record, or a plain second `swe-master grpo --resume RUN`."""

    async def scenario() -> list[int]:
        learner = FolderLearner()
        run = run_of(context, learner)
        for step, score in ((10, -0.9), (20, -0.5), (30, -0.4)):
            await run.save(step, score)
        return [await run.finish(use_best=True), await run_of(context, learner, 30).finish(use_best=True)]

    assert asyncio.run(scenario()) == [10, 10]
    assert (context.folder.hf("grpo") / "step").read_text() == "10"
    assert [step for step, _ in list_checkpoints(context.folder.checkpoints("grpo"))] == [10, 30]


def test_a_score_that_comes_before_its_checkpoint_is_not_lost(context: StageContext) -> None:
    learner = FolderLearner()
    run = run_of(context, learner)
    learner.during_save = lambda: run.score(10, -0.9)
    run.expect_score(10)
    asyncio.run(run.save(10))
    found = best_checkpoint(context.folder.checkpoints("grpo"))
    assert found is not None
    assert found[0] == 10


def test_an_evaluation_that_failed_gives_no_score(context: StageContext) -> None:
    run = run_of(context, FolderLearner())
    run.expect_score(10)
    run.score(10, None)
    asyncio.run(run.save(10))
    assert best_checkpoint(context.folder.checkpoints("grpo")) is None
