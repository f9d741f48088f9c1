"""Each stage trains with its own learner settings: when ranks are kept, and when others take their place. No Ray is started."""

import asyncio
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from actors.learner_group import LearnerGroup, LearnerGroupError
from cluster.fleet import Fleet
from cluster.placement import plan_placement
from cluster.run_folder import RunFolder
from configs.optimizer_config import LearnerConfig, OptimizerConfig
from configs.run_config import RunConfig
from configs.stage_loading import load_config

STAGES = ("sft", "grpo", "world-model")


class ScriptedFleet(Fleet):
    """Notes what would be started, and ended, instead of doing it."""

    def __init__(self, config: RunConfig, folder: RunFolder) -> None:
        super().__init__(config, folder)
        self.events: list[str] = []
        self.started: list[tuple[LearnerConfig, OptimizerConfig]] = []
        self.fails_to_start = self.fails_to_end = ""

    @property
    def base_model(self) -> Path:  # type: ignore[override]  # Fleet caches it
        return Path("base")

    async def _start_engines(self) -> Any:
        return None

    async def _start_learner(self, learner: LearnerConfig, optimizer: OptimizerConfig, num_steps: int) -> LearnerGroup:
        await asyncio.sleep(0)
        self.events.append(f"start {learner.num_ranks}")
        self.started.append((learner, optimizer))
        if self.fails_to_start:
            raise LearnerGroupError(self.fails_to_start)
        return ScriptedGroup(self, learner)

    async def stage(self, name: str) -> LearnerGroup:
        """What a stage of that name asks for when it begins."""
        config = self._config.training_stages[name]
        return await self.learner(Path(name), config.optimizer, config.learner, config.num_steps)


class ScriptedGroup(LearnerGroup):
    def __init__(self, fleet: ScriptedFleet, learner: LearnerConfig) -> None:
        super().__init__([None] * learner.num_ranks, learner)
        self._fleet = fleet

    async def reset(self, model_dir: str, optimizer: OptimizerConfig, num_steps: int, temperature: float = 1.0) -> None:
        self._fleet.events.append(f"reset {model_dir}")

    async def close(self) -> None:
        self._fleet.events.append(f"end {len(self.ranks)}")
        if self._fleet.fails_to_end:
            raise RuntimeError(self._fleet.fails_to_end)


def fleet_of(tmp_path: Path, *overrides: str) -> ScriptedFleet:
    config = load_config(None, [f"runs_dir={tmp_path}", *overrides])
    return ScriptedFleet(config, RunFolder.create(config))


async def test_stages_with_equal_settings_share_one_start(tmp_path: Path) -> None:
    fleet = fleet_of(
        tmp_path, "grpo.learner.gpu_memory_gib=141", "world_model.learner.expected_mfu=0.3"
    )  # only `--plan` reads these
    groups = [await fleet.stage(name) for name in STAGES]
    assert fleet.events == ["start 1", "reset sft", "reset grpo", "reset world-model"]
    assert groups[0] is groups[1] is groups[2]


async def test_ranks_with_other_settings_are_ended_before_those_of_the_stage_start(tmp_path: Path) -> None:
    fleet = fleet_of(tmp_path, "sft.learner.num_ranks=2", "grpo.learner.num_ranks=3", "world_model.learner.num_ranks=3")
    for name in STAGES:
        await fleet.stage(name)
    assert fleet.events == ["start 2", "reset sft", "end 2", "start 3", "reset grpo", "reset world-model"]
    assert fleet.started[-1] == (fleet._config.grpo.learner, fleet._config.grpo.optimizer)
    assert len(plan_placement(fleet._config).group("learner").bundles) == 3
    await fleet.close()
    assert fleet.events[-1] == "end 3"


@pytest.mark.parametrize("name", ["zero_stage", "sequence_parallel", "lora_rank", "tokens_per_micro_batch", "step_timeout_s"])
async def test_every_setting_of_the_ranks_counts(tmp_path: Path, name: str) -> None:
    fleet = fleet_of(tmp_path, f"grpo.learner.{name}=3")
    await fleet.stage("sft")
    await fleet.stage("grpo")
    assert [getattr(learner, name) for learner, _ in fleet.started] == [getattr(LearnerConfig(), name), 3]


@pytest.mark.parametrize(
    ("left", "started"),
    [(("tasks", "sft", "grpo"), ["start 2"]), (("eval-sft", "grpo", "world-model"), ["start 3"]), (("eval-grpo", "tts"), [])],
)
async def test_the_learner_warms_up_for_the_first_stage_that_trains(
    tmp_path: Path, left: tuple[str, ...], started: list[str]
) -> None:
    fleet = fleet_of(tmp_path, "sft.learner.num_ranks=2", "grpo.learner.num_ranks=3")
    fleet.warm_up(left)
    await asyncio.sleep(0.01)
    assert fleet.events == started
    await fleet.close()


async def test_a_learner_that_broke_is_followed_by_one_of_the_same_stage(tmp_path: Path) -> None:
    fleet = fleet_of(tmp_path, "sft.learner.num_ranks=2", "grpo.learner.num_ranks=3")
    fleet.warm_up()
    await fleet.stage("grpo")
    await fleet.drop_learner()
    await fleet.stage("grpo")
    assert fleet.events == ["start 2", "end 2", "start 3", "reset grpo", "end 3", "start 3", "reset grpo"]


async def test_ranks_that_do_not_end_are_an_error_and_no_others_start(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    fleet = fleet_of(tmp_path, "grpo.learner.num_ranks=3")
    await fleet.stage("sft")
    fleet.fails_to_end = "rank 0 stays"
    with pytest.raises(RuntimeError, match="rank 0 stays"):
        await fleet.stage("grpo")
    assert fleet.events[-1] == "end 1"
    await fleet.stage("grpo")
    with caplog.at_level(logging.WARNING):
        await fleet.close()
    assert "learner did not start or did not end cleanly: RuntimeError('rank 0 stays')" in caplog.text


async def test_a_failed_start_is_logged_when_other_ranks_take_its_place(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    fleet = fleet_of(tmp_path, "grpo.learner.num_ranks=3")
    fleet.fails_to_start = "out of memory"
    fleet.warm_up()
    await asyncio.wait([fleet._starting["learner"]])  # nobody has asked for it yet
    fleet.fails_to_start = ""
    with caplog.at_level(logging.WARNING):
        await fleet.stage("grpo")
    assert "no learner to end, its start failed: out of memory" in caplog.text
    assert fleet.events == ["start 1", "start 3", "reset grpo"]


async def test_a_start_that_is_under_way_is_waited_for_and_ended(tmp_path: Path) -> None:
    fleet = fleet_of(tmp_path, "grpo.learner.num_ranks=3")
    fleet.warm_up()
    await fleet.stage("grpo")
    assert fleet.events == ["start 1", "end 1", "start 3", "reset grpo"]


def test_every_stage_that_trains_has_a_learner_of_its_own() -> None:
    config = RunConfig()
    other = replace(config, grpo=replace(config.grpo, learner=LearnerConfig(num_ranks=7)))
    assert [stage.learner.num_ranks for stage in other.training_stages.values()] == [1, 7, 1]
    assert tuple(other.training_stages) == STAGES
