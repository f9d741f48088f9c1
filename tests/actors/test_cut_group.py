"""A group that has to end is reached wherever it stands."""

import asyncio
import os
from itertools import islice
from pathlib import Path

from actors.group_request import GroupRequest
from actors.rollout_worker import RolloutWorker
from configs.stage_loading import load_config
from configs.tasks_config import MicroTasksConfig
from envpool.micro.micro_tasks import generate_micro_tasks
from envpool.sandbox_parts.image_cache import FolderImages
from trainers.model_paths import resolve_model_path
from verifier.group_rollout import CUT


async def test_a_group_is_cut_while_its_journal_is_read(images: FolderImages, tmp_path: Path) -> None:
    (micro,) = islice(generate_micro_tasks(MicroTasksConfig(), seed=0), 1)
    images.add(micro.task.problem.image.removeprefix("folder:"), micro.files)
    config = load_config(None, ["sandbox.isolation=none", "sandbox.num_warm=0"])
    journals = tmp_path / "journal"
    journals.mkdir()
    os.mkfifo(journals / "slow.jsonl")  # whoever reads it waits for a writer
    worker = RolloutWorker()
    model = str(resolve_model_path("tiny_base"))
    await worker.start(config, model, str(images.root), str(journals / "worker_0.jsonl"), "cut-test")
    try:
        playing = asyncio.create_task(worker.play_group(GroupRequest(micro.task, "careful", 2, 1.0, seed=7, resume=True)))
        await asyncio.sleep(0.1)
        await worker.cut_group(micro.task.instance_id, 7)
        group = await asyncio.wait_for(playing, 20)
        assert (group.members, [lost.error for lost in group.lost]) == ((), [CUT, CUT])
    finally:
        (journals / "slow.jsonl").write_bytes(b"")
        await worker.close()
