"""Stored evaluations are taken again only for the same weights and settings; an interrupted one goes on."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest

from actors.group_request import GroupRequest
from cluster.evaluation_stamp import num_put_aside, put_aside_others, read_stamp, stamp_name
from cluster.group_store import read_groups
from cluster.policy_playing import play_policy
from cluster.progress_view import ProgressView
from cluster.run_folder import RunFolder
from cluster.stage import StageContext
from cluster.weights_fingerprint import weights_fingerprint
from configs.run_config import RunConfig
from tests.cluster.test_stage_results import scored
from tests.verifier.small_repo import TASK
from verifier.reward import Group

TASKS = [replace(TASK, problem=replace(TASK.problem, instance_id=f"task-{index}")) for index in range(10)]


class SayingView(ProgressView):
    """Keeps the lines about episodes that were put aside."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[str] = []

    def say(self, text: str) -> None:
        if "are kept as" in text:
            self.said.append(text)


class PolicyFleet:
    """Solves what the weights say; is killed at the task named."""

    def __init__(self, root: Path) -> None:
        self.root, self.killed_at = root, ""
        self.played: list[str] = []
        self.seeds: list[int] = []

    def model_folder(self, name: str) -> Path:
        return self.root / "hf" / name

    async def play(self, request: GroupRequest) -> Group:
        task = request.task
        assert request.real, "an evaluation is never simulated"
        if task.instance_id == self.killed_at:
            raise RuntimeError("killed")
        self.played.append(task.instance_id)
        self.seeds.append(request.seed)
        solves = (self.model_folder("grpo") / "model.safetensors").read_bytes() == b"better"
        return Group(task.instance_id, tuple(scored(task.instance_id, index, solves) for index in range(request.group_size)), ())


@pytest.fixture
def fleet(tmp_path: Path) -> PolicyFleet:
    fleet = PolicyFleet(RunFolder.create(RunConfig(runs_dir=str(tmp_path))).root)
    fleet.model_folder("grpo").mkdir()
    (fleet.model_folder("grpo") / "model.safetensors").write_bytes(b"good")
    return fleet


@pytest.fixture
def context(fleet: Any) -> StageContext:
    sinks: Any = None
    return StageContext(RunConfig(), RunFolder.open(fleet.root), sinks, fleet, SayingView())


async def solved(context: StageContext, samples: int = 2, max_turns: int = 0) -> float:
    groups = await play_policy(context, "eval-grpo", "grpo", TASKS, samples, max_turns)
    assert [group.instance_id for group in groups] == [task.instance_id for task in TASKS]
    members = [member for group in groups for member in group.members]
    return sum(member.resolved for member in members) / len(members)


async def test_new_weights_are_played_anew_and_the_old_episodes_kept(context: StageContext, fleet: PolicyFleet) -> None:
    view: Any = context.progress
    assert await solved(context) == 0.0
    assert await solved(context) == 0.0
    assert (len(fleet.played), view.said) == (10, [])
    (fleet.model_folder("grpo") / "model.safetensors").write_bytes(b"better")
    assert await solved(context) == 1.0
    (line,) = view.said
    assert line.startswith("eval-grpo: the stored episodes are of other weights; they are kept as eval-grpo.old-1")
    old = list(read_groups(fleet.root / "trajectories" / "eval-grpo.old-1"))
    assert len(old) == 10
    assert not any(member.resolved for group in old for member in group.members)
    assert await solved(context) == 1.0
    assert len(fleet.played) == 20
    assert not set(fleet.seeds[:10]) & set(fleet.seeds[10:]), "a journal must not give the old policy's turns to the new one"


async def test_an_interrupted_evaluation_goes_on(context: StageContext, fleet: PolicyFleet) -> None:
    fleet.killed_at = TASKS[9].instance_id
    with pytest.raises(ExceptionGroup):
        await solved(context)
    stored = {group.instance_id for group in read_groups(fleet.root / "trajectories" / "eval-grpo")}
    assert stored
    fleet.killed_at, fleet.played = "", []
    await solved(context)
    assert not stored & set(fleet.played)
    assert stored | set(fleet.played) == {task.instance_id for task in TASKS}


@pytest.mark.parametrize(
    ("section", "change", "key"),
    [
        ("tts", {"temperature": 0.5}, "temperature"),
        ("engine", {"max_model_len": 512}, "model"),
        ("verifier", {"grading_timeout_s": 7.0}, "grading"),
        ("", {"seed": 3}, "seed"),
    ],
)
async def test_other_settings_are_played_anew(context: StageContext, fleet: Any, section: str, change: Any, key: str) -> None:
    await solved(context)
    config = context.config
    changed = replace(config, **{section: replace(getattr(config, section), **change)}) if section else replace(config, **change)
    await solved(replace(context, config=changed))
    view: Any = context.progress
    assert [f"of other {key};" in line for line in view.said] == [True]
    assert len(fleet.played) == 20


async def test_samples_and_turns_count_and_what_has_no_part_in_it_does_not(context: StageContext, fleet: PolicyFleet) -> None:
    await solved(context)
    await solved(context, samples=3)
    await solved(context, samples=3, max_turns=4)
    view: Any = context.progress
    assert [line.split(";")[0].rpartition(" ")[2] for line in view.said] == ["samples", "max_turns"]
    episode = replace(context.config.rollout.episode, max_turns=4)
    same = replace(context.config, rollout=replace(context.config.rollout, episode=episode, concurrency=1))
    await solved(replace(context, config=replace(same, engine=replace(same.engine, num_engines=2))), samples=3)
    assert len(fleet.played) == 30
    assert num_put_aside(fleet.root / "trajectories" / "eval-grpo") == 2


def test_groups_without_a_stamp_are_put_aside(tmp_path: Path) -> None:
    folder = tmp_path / "eval-sft"
    folder.mkdir()
    (folder / "lost_00000.jsonl").touch()
    assert (read_stamp(folder), stamp_name(folder)) == (None, "")
    assert put_aside_others(folder, {"seed": 1}).startswith("eval-sft: nothing says which weights and settings played")
    assert sorted(path.parent.name for path in tmp_path.glob("*/*")) == ["eval-sft", "eval-sft.old-1"]
    assert put_aside_others(folder, {"seed": 1}) == ""
    name = stamp_name(folder)
    put_aside_others(folder, {"seed": 2})
    assert (len(name), stamp_name(folder) != name) == (12, True)


def test_a_fingerprint_is_of_the_bytes(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    for folder in (first, second):
        folder.mkdir()
        (folder / "config.json").write_bytes(orjson.dumps({"layers": 2}))
        (folder / "model.safetensors").write_bytes(b"weights")
    (second / "calibration.json").touch()
    assert weights_fingerprint(first) == weights_fingerprint(second)
    (second / "model.safetensors").write_bytes(b"weightz")
    assert weights_fingerprint(first) != weights_fingerprint(second)
    assert len(weights_fingerprint(tmp_path)) == 32
