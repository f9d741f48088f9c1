"""A rollout by an endpoint that was killed: what was answered before is not asked, nor paid for, again."""

import asyncio
import json
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from actors.group_request import GroupRequest
from actors.rollout_worker import RolloutWorker
from actors.worker_policies import LEDGERS
from cluster.episode_playing import play_tasks
from cluster.progress_view import ProgressView
from cluster.run_folder import RunFolder
from cluster.stage import StageContext
from configs.run_config import RunConfig
from configs.stage_loading import load_config
from configs.tasks_config import MicroTasksConfig
from envpool.action_format import ToolCall, render_action
from envpool.endpoints.token_usage import read_ledgers, usage_record
from envpool.micro.micro_tasks import generate_micro_tasks
from envpool.sandbox_parts.image_cache import FolderImages
from envpool.task import Task
from tests.envpool.endpoints.test_endpoint_policy import ScriptedServer, server  # noqa: F401
from trainers.model_paths import resolve_model_path
from verifier.reward import Group

LS = render_action(ToolCall("execute_bash", {"command": "ls"}))
SUBMIT = render_action(ToolCall("submit", {}))
MODEL = str(resolve_model_path("tiny_base"))


@pytest.fixture
def tasks(images: FolderImages) -> list[Task]:
    found = []
    for micro in islice(generate_micro_tasks(MicroTasksConfig(), seed=0), 3):
        images.add(micro.task.problem.image.removeprefix("folder:"), micro.files)
        found.append(micro.task)
    return found


async def play(config: RunConfig, images: FolderImages, journal: Path, task: Task) -> Group:
    """One process's work: a worker, one group of one episode."""
    worker = RolloutWorker()
    await worker.start(config, MODEL, str(images.root), str(journal), "teacher-test")
    try:
        return await worker.play_group(GroupRequest(task, "endpoint", 1, 1.0, seed=7))
    finally:
        await worker.close()


async def test_the_turns_of_a_killed_process_are_not_asked_again(
    server: ScriptedServer,  # noqa: F811
    images: FolderImages,
    tasks: list[Task],
    tmp_path: Path,
) -> None:
    settings = [
        f"rollout.endpoint.base_url={server.url}", "rollout.endpoint.model=m", "rollout.endpoint.usd_per_million_prompt=10",
        "sandbox.isolation=none", "sandbox.num_warm=0", "rollout.infra_retries=0",
    ]  # fmt: skip
    config = load_config(None, settings)
    journal = tmp_path / "journal" / "worker_0.jsonl"
    server.says(LS)
    server.fails(401, "the key is no longer valid")
    broken = await play(config, images, journal, tasks[0])
    assert (len(broken.members), len(broken.lost), len(server.asked)) == (0, 1, 2)
    server.answers[1] = server.answers[0]
    server.says(SUBMIT)
    whole = await play(config, images, journal, tasks[0])
    assert [turn.action for turn in whole.members[0].trajectory.turns] == [LS, SUBMIT]
    assert len(server.asked) == 3
    assert [message["role"] for message in server.asked[2][2]["messages"]] == ["user", "assistant", "user"]
    ledgers = sorted((tmp_path / "journal" / LEDGERS).glob("*.jsonl"))
    assert usage_record(read_ledgers(ledgers)) == {
        "sessions": 1, "requests": 2, "prompt_tokens": 40, "cached_tokens": 0, "completion_tokens": 14, "cost_usd": 0.0004,
    }  # fmt: skip


class CountingFleet:
    """Plays every task with one lost episode; is killed at the task named."""

    def __init__(self, killed_at: str = "") -> None:
        self.killed_at = killed_at
        self.played: list[str] = []

    async def play(self, request: GroupRequest) -> Group:
        task = request.task
        self.played.append(task.instance_id)
        if task.instance_id == self.killed_at:
            raise RuntimeError("killed")
        return Group(task.instance_id, (), ())


class NoSinks:
    def log(self, *_: Any) -> None:
        return None


def test_stored_groups_are_not_played_again(tmp_path: Path, tasks: list[Task]) -> None:
    folder = RunFolder.create(RunConfig(runs_dir=str(tmp_path)))

    def play_all(fleet: CountingFleet) -> list[Group]:
        context = StageContext(RunConfig(), folder, NoSinks(), fleet, ProgressView())  # type: ignore[arg-type]
        return asyncio.run(play_tasks(context, "rollout", tasks, ("endpoint",), 1, 1.0))

    killed = CountingFleet(killed_at=tasks[2].instance_id)
    with pytest.raises(ExceptionGroup):
        play_all(killed)
    again = CountingFleet()
    assert [group.instance_id for group in play_all(again)] == [task.instance_id for task in tasks]
    assert again.played == [tasks[2].instance_id]
    assert json.loads((folder.root / "trajectories" / "rollout" / "lost_00000.jsonl").read_text().splitlines()[0])["members"] == 0
