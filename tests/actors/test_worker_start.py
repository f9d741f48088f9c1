"""A rollout worker's start, without Ray: half-way is not started; and what its groups share outlives one of them."""

import asyncio
from itertools import islice
from pathlib import Path

import pytest

from actors.group_request import GroupRequest
from actors.rollout_worker import RolloutWorker, WorkerNotStartedError
from configs.stage_loading import load_config
from configs.tasks_config import MicroTasksConfig
from envpool.micro.micro_tasks import generate_micro_tasks
from envpool.sandbox_parts.image_cache import FolderImages
from envpool.task import Task
from trainers.model_paths import resolve_model_path

CONFIG = load_config(None, ["sandbox.isolation=none", "sandbox.num_warm=0"])
MODEL = str(resolve_model_path("tiny_base"))


@pytest.fixture
def task(images: FolderImages) -> Task:
    (micro,) = islice(generate_micro_tasks(MicroTasksConfig(), seed=0), 1)
    images.add(micro.task.problem.image.removeprefix("folder:"), micro.files)
    return micro.task


async def test_a_start_that_failed_half_way_is_none_and_may_be_tried_again(
    images: FolderImages, task: Task, tmp_path: Path
) -> None:
    (tmp_path / "journal").write_text("a file where the folder should be")
    arguments = (CONFIG, MODEL, str(images.root), str(tmp_path / "journal" / "worker_0.jsonl"), "start-test")
    worker = RolloutWorker()
    try:
        with pytest.raises(OSError, match="journal"):
            await worker.start(*arguments)
        assert not await worker.is_started()
        with pytest.raises(WorkerNotStartedError):
            await worker.play_group(GroupRequest(task, "careful", 1, 1.0, seed=7))
        (tmp_path / "journal").unlink()
        await asyncio.gather(worker.start(*arguments), worker.start(*arguments))
        assert await worker.is_started()
        pool = worker._pool
        await worker.start(*arguments)
        assert worker._pool is pool
    finally:
        await worker.close()


async def test_a_group_cancelled_while_the_journals_are_read_takes_no_other_along(images: FolderImages, task: Task) -> None:
    worker = RolloutWorker()
    await worker.start(CONFIG, MODEL, str(images.root), "", "start-test")
    try:
        reading = asyncio.get_running_loop().create_future()
        worker._played_before = reading
        worker._policies["endpoint"] = worker._policies["careful"]
        request = GroupRequest(task, "endpoint", 1, 1.0, seed=7)
        gone, stays = (asyncio.create_task(worker.play_group(request)) for _ in range(2))
        await asyncio.sleep(0)  # both wait for it
        gone.cancel()
        await asyncio.wait([gone])
        reading.set_result(set())
        assert len((await asyncio.wait_for(stays, 60)).members) == 1
    finally:
        await worker.close()
