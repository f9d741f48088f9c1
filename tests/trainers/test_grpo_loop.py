"""The loop against scripted rollouts and a scripted learner: order, staleness, deadlines, ends, resume."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from benchmarks.simulated_clock import run_simulated
from configs.grpo_config import GRPOConfig
from envpool.policy import PolicyError
from envpool.sandbox_errors import SandboxError, SandboxLostError
from tests.trainers.training_doubles import make_group, with_version
from trainers.group_filter import NoLearningSignalError
from trainers.group_key import GroupKey
from trainers.group_ledger import NoLedger
from trainers.grpo_loop import run_grpo
from trainers.loss_spec import LossSpec
from trainers.rollout_window import RolloutsFailedError
from trainers.train_sample import TrainSample
from verifier.reward import Group

Played = tuple[int, int, str, int]


@dataclass
class ScriptedRollouts:
    """Plays at once (`script` may wait or raise); remembers what it was asked and how many plays run. A cut group loses all."""

    script: Callable[[int, int], Awaitable[Group | None]] | None = None
    played: list[Played] = field(default_factory=list)
    running: int = 0
    cuts: dict[GroupKey, asyncio.Event] = field(default_factory=dict)

    async def play(self, key: GroupKey, version: int, resumed: bool) -> Group:
        self.played.append((key.step, key.index, key.task_id, version))
        self.running += 1
        cut = self.cuts[key] = asyncio.Event()
        playing, cutting = asyncio.create_task(self._play(key, version)), asyncio.create_task(cut.wait())
        try:
            await asyncio.wait({playing, cutting}, return_when=asyncio.FIRST_COMPLETED)
            return playing.result() if playing.done() else make_group([], task=key.task_id, lost=2)
        finally:
            playing.cancel()
            cutting.cancel()
            self.running -= 1

    async def _play(self, key: GroupKey, version: int) -> Group:
        await asyncio.sleep(0)
        group = await self.script(key.step, key.index) if self.script else None
        return with_version(group or make_group([1, 0], task=key.task_id), version)

    async def cut(self, key: GroupKey) -> None:
        self.cuts[key].set()


@dataclass
class ScriptedLearner:
    """Counts steps; gives the rollouts a chance to run while it "computes"."""

    events: list[str] = field(default_factory=list)
    batches: list[list[TrainSample]] = field(default_factory=list)
    specs: list[LossSpec] = field(default_factory=list)

    async def train_step(self, samples: list[TrainSample], loss: LossSpec) -> dict[str, float]:
        for _ in range(5):
            await asyncio.sleep(0)
        self.batches.append(samples)
        self.specs.append(loss)
        self.events.append("train")
        return {"loss": 0.5}

    async def sync_weights(self, version: int) -> float:
        self.events.append(f"sync {version}")
        return 0.25

    async def save(self, step: int) -> None:
        self.events.append(f"save {step}")


def config(**settings: Any) -> GRPOConfig:
    return GRPOConfig(groups_per_step=2, **settings)


def tasks_of_step(step: int) -> list[str]:
    return [f"task-{step}-{index}" for index in range(2)]


@dataclass
class Run:
    rollouts: ScriptedRollouts = field(default_factory=ScriptedRollouts)
    learner: ScriptedLearner = field(default_factory=ScriptedLearner)
    steps: list[int] = field(default_factory=list)
    metrics: list[dict[str, float]] = field(default_factory=list)
    groups: list[list[Group]] = field(default_factory=list)
    stop_after: int = 99

    shaped: Callable[[list[Group]], list[Group]] = field(default=lambda groups: groups)
    other_tasks: Callable[[int, int], list[str]] = field(default=lambda round_, count: [])

    def tasks(self, step: int) -> list[str]:
        return tasks_of_step(step)

    def spares(self, step: int, round_: int, used: set[str], count: int) -> list[str]:
        return self.other_tasks(round_, count)

    def shape(self, step: int, groups: list[Group]) -> list[Group]:
        return self.shaped(groups)

    def after_step(self, step: int) -> bool:
        return False

    def enough(self) -> bool:
        return bool(self.steps) and self.steps[-1] >= self.stop_after

    async def go(self, config: GRPOConfig, start_step: int = 0) -> None:
        def on_step(step: int, metrics: dict[str, float], groups: list[Group]) -> None:
            self.steps.append(step)
            self.metrics.append(metrics)
            self.groups.append(groups)

        await asyncio.wait_for(
            run_grpo(config, self, self.rollouts, self.learner, NoLedger(start_step, 2), start_step, on_step, self),
            timeout=20,
        )


async def test_synchronous_order() -> None:
    run = Run()
    await run.go(config(num_steps=3, checkpoint_every=2, max_response_tokens=64))
    assert run.learner.events == ["train", "sync 1", "train", "sync 2", "save 2", "train", "sync 3", "save 3"]
    assert run.rollouts.played == [(step, index, f"task-{step}-{index}", step) for step in range(3) for index in range(2)]
    assert run.steps == [1, 2, 3]
    assert [[group.instance_id for group in groups] for groups in run.groups] == [tasks_of_step(step) for step in range(3)]
    assert run.metrics[0]["loss"] == 0.5
    assert run.metrics[0]["time/sync_s"] == 0.25
    assert run.learner.specs[0] == LossSpec("clip_higher", 0.2, 0.28, 64)
    assert [float(sample.advantages.sum()) for sample in run.learner.batches[0]] == [2.0, -2.0, 2.0, -2.0]


@pytest.mark.parametrize("max_staleness", [0, 1, 3])
async def test_rollouts_run_ahead_up_to_the_staleness_bound(max_staleness: int) -> None:
    run = Run()
    await run.go(config(num_steps=6, max_staleness=max_staleness))
    ahead = [step - version for step, _, _, version in run.rollouts.played]
    assert max(ahead) == max_staleness
    assert [played[:3] for played in run.rollouts.played] == [(s, i, f"task-{s}-{i}") for s in range(6) for i in range(2)]


async def test_later_rollouts_run_while_the_learner_computes() -> None:
    seen: list[tuple[int, int]] = []
    run = Run()

    async def note_steps_done(step: int, index: int) -> None:
        seen.append((step, len(run.learner.batches)))

    run.rollouts.script = note_steps_done
    await run.go(config(num_steps=3, max_staleness=1))
    assert (1, 0) in seen  # step 1 was played before the first optimizer step
    assert all(done >= step - 1 for step, done in seen)


def test_groups_that_are_late_are_cancelled_and_counted() -> None:
    async def second_hangs(step: int, index: int) -> None:
        if index == 1:
            await asyncio.sleep(1000)

    run = Run(ScriptedRollouts(second_hangs))
    run_simulated(run.go(config(num_steps=2, step_timeout_s=5.0)))
    assert [metrics["rollout/late_groups"] for metrics in run.metrics] == [1, 1]
    assert [[group.instance_id for group in groups] for groups in run.groups] == [["task-0-0"], ["task-1-0"]]
    assert run.rollouts.running == 0


async def test_a_failing_group_is_counted_and_not_fatal() -> None:
    async def first_fails(step: int, index: int) -> None:
        if index == 0:
            raise SandboxLostError("worker died")

    run = Run(ScriptedRollouts(first_fails))
    await run.go(config(num_steps=1))
    assert run.metrics[0]["rollout/rejected_groups"] == 1
    assert [group.instance_id for group in run.groups[0]] == ["task-0-1"]


@pytest.mark.parametrize("error", [PolicyError("no engine"), TimeoutError(), ConnectionResetError("gone"), SandboxError("broke")])
async def test_what_infrastructure_breaks_is_a_lost_group(error: Exception) -> None:
    async def first_fails(step: int, index: int) -> None:
        if index == 0:
            raise error

    run = Run(ScriptedRollouts(first_fails))
    await run.go(config(num_steps=1))
    assert run.metrics[0]["rollout/rejected_groups"] == 1


@pytest.mark.parametrize("bug", [KeyError("label"), AssertionError("a row too many"), RuntimeError("no loop")])
async def test_a_bug_in_a_play_ends_the_run_with_its_traceback(bug: Exception) -> None:
    """The other groups of the step would do: a bug must not pass for a lost group."""

    async def second_has_a_bug(step: int, index: int) -> None:
        if index == 1:
            raise bug
        await asyncio.sleep(1000 if step else 0)

    run = Run(ScriptedRollouts(second_has_a_bug))
    with pytest.raises(type(bug)) as raised:
        await run.go(config(num_steps=3, max_staleness=1))
    assert raised.value is bug
    assert "second_has_a_bug" in {entry.name for entry in raised.traceback}
    assert (run.rollouts.running, run.learner.events) == (0, [])


async def test_all_groups_failing_ends_the_run_with_the_first_error() -> None:
    async def fails(step: int, index: int) -> None:
        raise SandboxLostError("worker died")

    with pytest.raises(RolloutsFailedError, match=r"step 1: no episode to train on .*2 rejected.*SandboxLostError: worker died"):
        await Run(ScriptedRollouts(fails)).go(config(num_steps=1))


async def test_groups_that_lost_every_episode_end_the_run() -> None:
    async def all_lost(step: int, index: int) -> Group:
        return make_group([], lost=2)

    with pytest.raises(RolloutsFailedError, match=r"2 rejected.*sandbox died"):
        await Run(ScriptedRollouts(all_lost)).go(config(num_steps=1))


async def test_a_learner_error_ends_the_run_and_its_rollouts() -> None:
    class BrokenLearner(ScriptedLearner):
        async def train_step(self, samples: list[TrainSample], loss: LossSpec) -> dict[str, float]:
            raise RuntimeError("rank 1 died")

    async def later_hang(step: int, index: int) -> None:
        if step > 0:
            await asyncio.sleep(1000)

    run = Run(ScriptedRollouts(later_hang), BrokenLearner())
    with pytest.raises(RuntimeError, match="rank 1 died"):
        await run.go(config(num_steps=3, max_staleness=2))
    assert run.rollouts.running == 0


async def test_a_run_that_has_enough_saves_what_is_done() -> None:
    run = Run(stop_after=2)
    await run.go(config(num_steps=9, checkpoint_every=5))
    assert run.steps == [1, 2]
    assert run.learner.events[-1] == "save 2"


async def test_an_interrupt_while_waiting_cancels_the_rollouts() -> None:
    async def hang(step: int, index: int) -> None:
        playing.cancel()
        await asyncio.sleep(1000)

    run = Run(ScriptedRollouts(hang))
    playing = asyncio.create_task(run.go(config(num_steps=3)))
    with pytest.raises(asyncio.CancelledError):
        await playing
    assert run.learner.events == []
    assert run.rollouts.running == 0


async def test_a_resumed_run_sees_the_tasks_of_an_unbroken_one() -> None:
    unbroken, first, second = Run(), Run(stop_after=2), Run()
    settings = config(num_steps=5, max_staleness=1)
    await unbroken.go(settings)
    await first.go(settings)
    await second.go(settings, start_step=2)
    trained = [[group.instance_id for group in groups] for groups in first.groups + second.groups]
    assert trained == [[group.instance_id for group in groups] for groups in unbroken.groups]
    assert second.steps == [3, 4, 5]


async def test_nothing_left_to_do() -> None:
    run = Run()
    await run.go(config(num_steps=2), start_step=2)
    assert (run.learner.events, run.rollouts.played) == ([], [])


async def test_dropped_groups_are_played_but_not_trained_on() -> None:
    async def first_is_flat(step: int, index: int) -> Group | None:
        return make_group([1, 1]) if index == 0 else None

    run = Run(ScriptedRollouts(first_is_flat))
    await run.go(config(num_steps=1, zero_spread_groups="drop"))
    assert (len(run.learner.batches[0]), len(run.groups[0])) == (2, 2)


def other_tasks(round_: int, count: int) -> list[str]:
    return [f"spare-{round_}-{index}" for index in range(count)]


async def test_groups_without_spread_are_replaced_by_other_tasks() -> None:
    """Both planned groups and the first spare are flat: two spares in round 0, one in round 1."""

    async def flat_first(step: int, index: int) -> Group | None:
        return make_group([1, 1], task=f"flat-{index}") if index in (0, 1, 2) else None

    run = Run(ScriptedRollouts(flat_first), other_tasks=other_tasks)
    await run.go(config(num_steps=1, zero_spread_groups="replace", max_replacement_rounds=5))
    assert [task for _, _, task, _ in run.rollouts.played] == ["task-0-0", "task-0-1", "spare-0-0", "spare-0-1", "spare-1-0"]
    assert len({index for _, index, _, _ in run.rollouts.played}) == 5  # each with a seed of its own
    assert (run.metrics[0]["rollout/replacements"], len(run.groups[0]), len(run.learner.batches[0])) == (3, 5, 4)


@pytest.mark.parametrize(("policy", "rounds", "plays"), [("replace", 2, 6), ("drop", 2, 2), ("keep", 2, 2)])
async def test_replacing_ends_after_its_rounds(policy: str, rounds: int, plays: int) -> None:
    async def flat(step: int, index: int) -> Group:
        return make_group([0, 0])

    run = Run(ScriptedRollouts(flat), other_tasks=other_tasks)
    await run.go(config(num_steps=1, zero_spread_groups=policy, max_replacement_rounds=rounds))
    assert len(run.rollouts.played) == plays


async def test_a_failing_replacement_is_not_fatal() -> None:
    async def script(step: int, index: int) -> Group | None:
        if index >= 2:
            raise SandboxLostError("worker died")
        return make_group([0, 0]) if index == 0 else None

    run = Run(ScriptedRollouts(script), other_tasks=other_tasks)
    await run.go(config(num_steps=1, zero_spread_groups="replace", max_replacement_rounds=1))
    assert [group.instance_id for group in run.groups[0]] == ["task", "task-0-1"]


async def test_an_interrupt_while_replacing_cancels_the_replacements() -> None:
    async def script(step: int, index: int) -> Group:
        if index >= 2:
            playing.cancel()
            await asyncio.sleep(1000)
        return make_group([0, 0])

    run = Run(ScriptedRollouts(script), other_tasks=other_tasks)
    playing = asyncio.create_task(run.go(config(num_steps=1, zero_spread_groups="replace")))
    with pytest.raises(asyncio.CancelledError):
        await playing
    assert (run.learner.events, run.rollouts.running) == ([], 0)


async def test_a_run_without_signal_stops_with_the_reason_and_keeps_its_steps() -> None:
    async def flat_from_step_1(step: int, index: int) -> Group | None:
        return make_group([0, 0]) if step else None

    run = Run(ScriptedRollouts(flat_from_step_1))
    with pytest.raises(NoLearningSignalError, match=r"max_flat_groups=4.*rewards 0 to 0"):
        await run.go(config(num_steps=9, max_flat_groups=4, checkpoint_every=100))
    assert run.steps == [1, 2, 3]
    assert run.learner.events[-1] == "save 3"
    assert [metrics["rollout/flat_in_a_row"] for metrics in run.metrics] == [0, 2, 4]


async def test_rewards_are_shaped_before_they_train() -> None:
    run = Run(shaped=lambda groups: [make_group([3, 1], task=group.instance_id) for group in groups])
    await run.go(config(num_steps=1))
    assert [float(sample.advantages.max() + sample.advantages.min()) for sample in run.learner.batches[0]] == [2, -2, 2, -2]


async def test_several_optimizer_steps_on_a_batch() -> None:
    run = Run()
    await run.go(config(num_steps=2, updates_per_batch=2, checkpoint_every=9))
    assert run.learner.events == ["train", "train", "sync 1", "train", "train", "sync 2", "save 2"]
    assert [len(batch) for batch in run.learner.batches] == [2, 2, 2, 2]
    assert [played[3] for played in run.rollouts.played] == [0, 0, 1, 1]
