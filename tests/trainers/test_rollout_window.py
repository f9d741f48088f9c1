"""The window under adversarial delays on a simulated clock: the staleness bound, the books, stragglers, nothing trained twice."""

import asyncio
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.simulated_clock import NothingToWaitForError, run_simulated
from configs.grpo_config import GRPOConfig
from envpool.sandbox_errors import SandboxLostError
from tests.trainers.training_doubles import make_group, make_trajectory, make_turn
from trainers.group_key import GroupKey
from trainers.group_ledger import NoLedger
from trainers.grpo_loop import run_grpo
from trainers.loss_spec import LossSpec
from trainers.rollout_window import RolloutsFailedError
from trainers.train_sample import TrainSample
from trainers.window_state import WindowState, WindowStateError
from verifier.reward import Group

BROKEN = -1.0


@dataclass
class TimedWorld:
    """Rollouts and learner on one clock. A group takes the next `durations` (BROKEN: it fails) and samples a token a second,
    each with the version that the engines hold then; so partial rollouts go on across weight updates."""

    durations: Iterator[float]
    train_s: Callable[[int], float] = lambda step: 1.0
    version: int = 0
    deaf: bool = False
    """Groups do not hear that they are cut."""
    wrong: list[tuple[GroupKey, int, int]] = field(default_factory=list)
    """Groups begun with another version than the engines held: key, version, theirs. Must stay empty."""
    begun: list[tuple[GroupKey, int]] = field(default_factory=list)
    trained: list[list[GroupKey]] = field(default_factory=list)
    samples: list[list[TrainSample]] = field(default_factory=list)
    metrics: list[dict[str, float]] = field(default_factory=list)
    cuts: dict[GroupKey, asyncio.Event] = field(default_factory=dict)
    keys: dict[str, GroupKey] = field(default_factory=dict)

    async def play(self, key: GroupKey, version: int, resumed: bool) -> Group:
        if version != self.version:
            self.wrong.append((key, version, self.version))
        self.begun.append((key, version))
        self.keys[key.task_id] = key
        cut = self.cuts[key] = asyncio.Event()
        duration = next(self.durations)
        if duration == BROKEN:
            raise SandboxLostError("worker died")
        versions = [self.version]
        for _ in range(int(duration)):
            await asyncio.sleep(1.0)
            if cut.is_set() and not self.deaf:
                break
            versions.append(self.version)
        await asyncio.sleep(duration - int(duration))
        turns = [make_turn([1], [3], [-0.1], version) for version in versions]
        group = make_group([1, 0], task=key.task_id)
        members = [replace(member, trajectory=make_trajectory(turns, index)) for index, member in enumerate(group.members)]
        return replace(group, members=tuple(members))

    async def cut(self, key: GroupKey) -> None:
        self.cuts[key].set()

    async def train_step(self, samples: list[TrainSample], loss: LossSpec) -> dict[str, float]:
        await asyncio.sleep(self.train_s(len(self.samples)))
        self.samples.append(samples)
        return {}

    async def sync_weights(self, version: int) -> float:
        await asyncio.sleep(0.1)
        self.version = version
        return 0.1

    async def save(self, step: int) -> None: ...

    def tasks(self, step: int) -> list[str]:
        return [f"task-{step}-{index}" for index in range(3)]

    def spares(self, step: int, round_: int, used: set[str], count: int) -> list[str]:
        return []

    def shape(self, step: int, groups: list[Group]) -> list[Group]:
        return groups

    def run(self, config: GRPOConfig) -> float:
        """Returns the simulated seconds."""

        def on_step(step: int, metrics: dict[str, float], groups: list[Group]) -> None:
            self.trained.append([self.keys[group.instance_id] for group in groups])
            self.metrics.append(metrics)

        async def go() -> float:
            await run_grpo(config, self, self, self, NoLedger(), 0, on_step)
            return asyncio.get_running_loop().time()

        try:
            return run_simulated(go())
        finally:
            assert self.wrong == []


def settings_of(max_staleness: int, late_groups: str = "cut", timeout: float = 40.0, num_steps: int = 6) -> GRPOConfig:
    return GRPOConfig(
        num_steps=num_steps,
        groups_per_step=3,
        max_staleness=max_staleness,
        late_groups=late_groups,
        step_timeout_s=timeout,
    )


DURATION = st.one_of(st.floats(0, 5), st.floats(20, 90), st.just(BROKEN))


@settings(max_examples=150, deadline=None)
@given(
    durations=st.lists(DURATION, min_size=1, max_size=40),
    train=st.lists(st.floats(0, 30), min_size=1, max_size=6),
    max_staleness=st.integers(0, 4),
    late_groups=st.sampled_from(["cut", "mask", "drop"]),
    deaf=st.booleans(),
)
def test_no_trained_token_is_older_than_the_bound_and_no_group_trains_twice(
    durations: list[float], train: list[float], max_staleness: int, late_groups: str, deaf: bool
) -> None:
    world = TimedWorld(itertools.cycle([*durations, 2.0, 2.0]), lambda step: train[step % len(train)], deaf=deaf)
    config = settings_of(max_staleness, late_groups)
    try:
        world.run(config)
    except RolloutsFailedError:
        assert max(durations) > 5 or BROKEN in durations
    for step, samples in enumerate(world.samples):
        for sample in samples:
            trained = sample.policy_versions[sample.loss_mask == 1]
            assert (trained >= step - max_staleness).all()
            assert (trained <= step).all()
    taken = [key for keys in world.trained for key in keys]
    assert len(taken) == len(set(taken))
    assert set(taken) <= {key for key, _ in world.begun}
    for metrics in world.metrics:
        running = metrics["window/submitted"] - metrics["window/accepted"] - metrics["window/rejected"]
        assert running == metrics["window/running"]
        assert metrics["rollout/staleness_max"] <= max_staleness
        assert late_groups == "mask" or metrics["rollout/stale_tokens"] == 0


def test_synchronous_runs_are_the_plan_whatever_the_delays() -> None:
    worlds = [TimedWorld(itertools.cycle(delays)) for delays in ([1.0], [9.0, 1.0, 4.0, 2.0])]
    for world in worlds:
        world.run(settings_of(0))
    plan = [[GroupKey(step, index, f"task-{step}-{index}") for index in range(3)] for step in range(6)]
    assert worlds[0].trained == worlds[1].trained == plan


def test_a_straggler_does_not_hold_up_the_steps_that_can_do_without() -> None:
    """Group 1 takes 30 s, the others 2 s: with staleness 2 the first steps go on and it trains with the last step it may."""
    durations = itertools.chain([2.0, 30.0], itertools.repeat(2.0))
    world = TimedWorld(durations)
    seconds = world.run(settings_of(2, timeout=100.0))
    where = next(step for step, keys in enumerate(world.trained) if GroupKey(0, 1, "task-0-1") in keys)
    assert where == 2
    assert seconds < TimedWorld(itertools.chain([2.0, 30.0], itertools.repeat(2.0))).run(settings_of(0, timeout=100.0))


def test_a_step_whose_time_is_up_cuts_its_overdue_group_and_keeps_what_it_has() -> None:
    world = TimedWorld(itertools.chain([500.0], itertools.repeat(2.0)))
    world.run(settings_of(1, timeout=20.0))
    assert world.trained[1][0] == GroupKey(0, 0, "task-0-0")
    assert [metrics["rollout/late_groups"] for metrics in world.metrics] == [0, 1, 0, 0, 0, 0]


def test_a_masked_straggler_trains_only_its_fresh_tokens() -> None:
    world = TimedWorld(itertools.chain([15.0], itertools.repeat(2.0)))
    world.run(settings_of(1, "mask"))
    step = next(step for step, keys in enumerate(world.trained) if GroupKey(0, 0, "task-0-0") in keys)
    sample = world.samples[step][0]
    sampled = sample.policy_versions >= 0
    assert 0 < sample.loss_mask.sum() < sampled.sum()
    np.testing.assert_array_equal(sample.loss_mask == 1, sampled & (sample.policy_versions >= step - 1))
    assert world.metrics[step]["rollout/stale_tokens"] == 2 * (sampled.sum() - sample.loss_mask.sum())


def test_a_dropped_straggler_is_counted_and_trains_nowhere() -> None:
    world = TimedWorld(itertools.chain([300.0], itertools.repeat(2.0)))
    world.run(settings_of(1, "drop"))
    assert GroupKey(0, 0, "task-0-0") not in [key for keys in world.trained for key in keys]
    assert world.metrics[-1]["window/rejected"] == 1
    assert [len(keys) for keys in world.trained] == [3] * 6  # another group took its place


def test_books_that_do_not_balance_are_a_bug() -> None:
    state = WindowState(2, 1, "cut")
    state.submit(GroupKey(0, 0, "a"), 0)
    with pytest.raises(WindowStateError, match="in flight already"):
        state.submit(GroupKey(0, 0, "a"), 0)
    state.submitted += 1
    with pytest.raises(WindowStateError, match="2 groups submitted, 0 accepted and 0 rejected"):
        state.finish(GroupKey(0, 0, "a"))


def test_keys_are_text_and_back() -> None:
    key = GroupKey(3, 1, "owner/repo__issue-7")
    assert GroupKey.parse(str(key)) == key
    assert GroupKey(2, 9, "b") < key < GroupKey(3, 2, "a")


def test_a_simulated_clock_notices_what_would_hang() -> None:
    async def hangs() -> None:
        await asyncio.Event().wait()

    with pytest.raises(NothingToWaitForError):
        run_simulated(hangs())
