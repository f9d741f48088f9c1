"""The run's groups survive a death at every event: nothing trains twice, nothing finished is lost, synchronous runs end equal."""

import asyncio
import hashlib
import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from benchmarks.simulated_clock import run_simulated
from cluster import window_ledger
from cluster.group_store import write_shard
from cluster.window_ledger import WindowLedger, WindowLedgerError, read_ledger, shard_name
from configs.grpo_config import GRPOConfig
from envpool.sandbox_errors import SandboxLostError, SandboxUnavailableError
from tests.trainers.training_doubles import make_group, make_trajectory, make_turn
from trainers.group_key import GroupKey
from trainers.group_ledger import GroupNotKeptError, LedgerState
from trainers.grpo_loop import run_grpo
from trainers.loss_spec import LossSpec
from trainers.rollout_window import RolloutsFailedError
from trainers.train_sample import TrainSample
from verifier.reward import Group


class DiedError(Exception):
    """The process is gone."""


@dataclass
class MortalLedger:
    """A ledger whose process dies at event number `dies_at`: before it is written, or right after."""

    inner: WindowLedger
    dies_at: int
    after: bool
    events: int = 0
    dead: bool = False

    def _event(self, write: Any, *args: Any) -> None:
        if self.dead:
            raise DiedError
        self.events += 1
        self.dead = self.events > self.dies_at
        if not self.dead or self.after:
            write(*args)
        if self.dead:
            raise DiedError

    def opened(self) -> LedgerState:
        return self.inner.opened()

    def submitted(self, key: GroupKey, version: int) -> None:
        self._event(self.inner.submitted, key, version)

    async def completed(self, key: GroupKey, group: Group) -> None:
        if self.dead:
            raise DiedError
        self.events += 1
        self.dead = self.events > self.dies_at
        if not self.dead or self.after:
            await self.inner.completed(key, group)
        if self.dead:
            raise DiedError

    def load(self, key: GroupKey) -> Group:
        return self.inner.load(key)

    def taken(self, step: int, keys: Sequence[GroupKey]) -> None:
        self._event(self.inner.taken, step, keys)

    def rejected(self, key: GroupKey, reason: str) -> None:
        self._event(self.inner.rejected, key, reason)


@dataclass
class Machine:
    """What outlives processes: the ledger's folder and the checkpoints (the weights are a hash of everything trained)."""

    folder: Path
    config: GRPOConfig
    checkpoints: dict[int, str] = field(default_factory=lambda: {0: "start"})
    finished: Counter[GroupKey] = field(default_factory=Counter)
    broken: Callable[[GroupKey], bool] = lambda key: False
    """Groups that infrastructure breaks."""
    wrong: list[tuple[GroupKey, int, int]] = field(default_factory=list)
    """Groups that were begun before the engines held their version: key, version, the engines'. Must stay empty."""
    submitted: float = 0.0
    """By the books of the newest step."""

    def live(self, dies_at: int = 10**9, after: bool = False) -> str | None:
        """One process from the newest checkpoint; its weights at the end, None when it died."""
        start = max(self.checkpoints)
        process = Process(self, self.checkpoints[start], version=start)
        ledger = MortalLedger(WindowLedger(self.folder, start, self.config.groups_per_step), dies_at, after)

        def on_step(step: int, metrics: dict[str, float], groups: list[Group]) -> None:
            ledger.inner.forget_before(max(self.checkpoints))
            assert metrics["rollout/staleness_max"] <= self.config.max_staleness
            self.submitted = metrics["window/submitted"]

        async def go() -> None:
            await run_grpo(self.config, process, process, process, ledger, start, on_step)

        try:
            run_simulated(go())
        except (DiedError, GroupNotKeptError):
            return None
        finally:
            ledger.inner.close()
            assert self.wrong == []
        return process.weights


@dataclass
class Process:
    machine: Machine
    weights: str
    version: int

    async def play(self, key: GroupKey, version: int, resumed: bool) -> Group:
        if version > self.version:
            self.machine.wrong.append((key, version, self.version))
        await asyncio.sleep(1 + (key.step * 7 + key.index * 5) % 6)
        if key.index == 1 and key.step == 1:
            raise SandboxLostError("this worker always dies")
        if self.machine.broken(key):
            raise SandboxUnavailableError("the sandbox engine is away")
        self.machine.finished[key] += 1
        turns = [make_turn([1], [key.step, key.index], [-0.1, -0.1], version), make_turn([2], [9], [-0.2], self.version)]
        group = make_group([1.0, float(key.index == 0)], task=key.task_id)
        members = [replace(member, trajectory=make_trajectory(turns, index)) for index, member in enumerate(group.members)]
        return replace(group, members=tuple(members))

    async def cut(self, key: GroupKey) -> None: ...

    async def train_step(self, samples: list[TrainSample], loss: LossSpec) -> dict[str, float]:
        await asyncio.sleep(2.5)
        text = "|".join(f"{s.group} {s.token_ids} {s.advantages} {s.loss_mask} {s.policy_versions}" for s in samples)
        self.weights = hashlib.sha256(f"{self.weights}{text}".encode()).hexdigest()
        return {}

    async def sync_weights(self, version: int) -> float:
        self.version = version
        return 0.0

    async def save(self, step: int) -> None:
        self.machine.checkpoints[step] = self.weights

    def tasks(self, step: int) -> list[str]:
        return [f"task/{step}/{index}" for index in range(2)]

    def spares(self, step: int, round_: int, used: set[str], count: int) -> list[str]:
        return [f"spare-{step}-{round_}-{len(used)}-{index}" for index in range(count)]

    def shape(self, step: int, groups: list[Group]) -> list[Group]:
        return groups


def config_of(max_staleness: int, zero_spread: str = "keep") -> GRPOConfig:
    return GRPOConfig(
        num_steps=4,
        groups_per_step=2,
        checkpoint_every=2,
        max_staleness=max_staleness,
        zero_spread_groups=zero_spread,
        max_replacement_rounds=1,
    )


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize(("max_staleness", "zero_spread"), [(0, "keep"), (0, "replace"), (2, "keep")])
def test_a_death_at_any_event(tmp_path: Path, max_staleness: int, zero_spread: str, after: bool) -> None:
    config = config_of(max_staleness, zero_spread)
    undisturbed = Machine(tmp_path / "undisturbed", config).live()
    num_events = sum(1 for _ in (tmp_path / "undisturbed/ledger.jsonl").open())
    assert num_events > 15
    for dies_at in range(after, num_events, 2):
        machine = Machine(tmp_path / f"run-{dies_at}", config)
        assert machine.live(dies_at, after) is None
        on_record, played = read_ledger(machine.folder / "ledger.jsonl"), Counter(machine.finished)
        weights = machine.live()
        record = read_ledger(machine.folder / "ledger.jsonl")
        taken = [key for keys in record.taken.values() for key in keys]
        assert sorted(record.taken) == [0, 1, 2, 3]
        assert len(taken) == len(set(taken))
        assert all(machine.finished[key] == played[key] for key in on_record.completed)  # what is on record is not played again
        assert on_record.begun.keys() <= set(taken) | record.rejected.keys() | set(record.in_flight)
        assert all(record.taken[step] == keys for step, keys in on_record.taken.items())
        if max_staleness == 0:
            assert weights == undisturbed


def test_a_synchronous_step_that_came_to_nothing_is_played_again(tmp_path: Path) -> None:
    """The sandbox engine is away, and still when the run is resumed; once it is back the run ends as if it had always been."""
    undisturbed = Machine(tmp_path / "undisturbed", config_of(0)).live()
    machine = Machine(tmp_path / "run", config_of(0), broken=lambda key: key.step == 2)
    for _ in range(2):
        with pytest.raises(RolloutsFailedError, match=r"step 3: no episode to train on .*the sandbox engine is away"):
            machine.live()
    machine.broken = lambda key: False
    assert machine.live() == undisturbed
    record = read_ledger(machine.folder / "ledger.jsonl")
    assert [str(key) for key in record.rejected] == ["1/1/task/1/1"]  # its step did without it
    assert machine.submitted == len(record.begun) == 8


def test_a_replacement_that_was_rejected_may_be_played_after_all(tmp_path: Path) -> None:
    spare = GroupKey(0, 2, "spare-0-0-2-0")
    machine = Machine(tmp_path, config_of(0, "replace"), broken=lambda key: key == spare)
    assert machine.live(dies_at=6) is None  # at "taken"
    assert list(read_ledger(tmp_path / "ledger.jsonl").rejected) == [spare]
    machine.broken = lambda key: False
    assert machine.live(dies_at=2) is None  # at "taken" again
    assert read_ledger(tmp_path / "ledger.jsonl").rejected == {}
    machine.live()
    record = read_ledger(tmp_path / "ledger.jsonl")
    assert (machine.finished[spare], record.taken[0][2]) == (1, spare)
    assert machine.submitted == len(record.begun)


def test_a_replacement_that_nobody_asks_for_any_more_does_not_train_too_late(tmp_path: Path) -> None:
    """Step 0's second group fails and a spare is begun; after a death the group comes through, and the spare is another task."""
    machine = Machine(tmp_path, config_of(0, "replace"), broken=lambda key: key == GroupKey(0, 1, "task/0/1"))
    assert machine.live(dies_at=5) is None
    old, new = GroupKey(0, 2, "spare-0-0-1-0"), GroupKey(0, 2, "spare-0-0-2-0")
    assert read_ledger(tmp_path / "ledger.jsonl").in_flight == [GroupKey(0, 0, "task/0/0"), old]
    machine.broken = lambda key: False
    machine.live()
    record = read_ledger(tmp_path / "ledger.jsonl")
    assert record.taken[0] == (GroupKey(0, 0, "task/0/0"), GroupKey(0, 1, "task/0/1"), new)
    assert record.rejected[old] == "step 0 did without it"


async def test_a_group_that_is_dropped_while_it_is_written_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on, written = Event(), Event(), Event()

    def held(*arguments: Any) -> None:
        begun.set()
        go_on.wait(10)
        write_shard(*arguments)
        written.set()

    monkeypatch.setattr(window_ledger, "write_shard", held)
    ledger, key = WindowLedger(tmp_path, 0, 2), GroupKey(0, 0, "a")
    ledger.submitted(key, 0)
    writing = asyncio.create_task(ledger.completed(key, make_group([1.0, 0.0], task="a")))
    assert await asyncio.to_thread(begun.wait, 10)
    writing.cancel()
    ledger.rejected(key, "too old")
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await writing
    assert await asyncio.to_thread(written.wait, 10)
    assert os.listdir(tmp_path) == ["ledger.jsonl"]
    assert list(read_ledger(tmp_path / "ledger.jsonl").completed) == []
    ledger.close()


def test_two_tasks_that_were_planned_for_one_place_are_two_files(tmp_path: Path) -> None:
    ledger = WindowLedger(tmp_path, 0, 2)
    keys = [GroupKey(0, 2, task) for task in ("a", "b")]
    for key in keys:
        ledger.submitted(key, 0)
        asyncio.run(ledger.completed(key, make_group([1.0, 0.0], task=key.task_id)))
    assert ledger.load(keys[0]).instance_id == "a"
    ledger.rejected(keys[0], "not asked for")
    assert ledger.load(keys[1]).instance_id == "b"
    ledger.close()


def test_a_group_that_is_begun_again_has_nothing_behind_it(tmp_path: Path) -> None:
    ledger = WindowLedger(tmp_path, 0, 2)
    key = GroupKey(0, 2, "a")
    ledger.submitted(key, 0)
    asyncio.run(ledger.completed(key, make_group([1.0, 0.0], task="a")))
    ledger.rejected(key, "too old")
    ledger.submitted(key, 0)
    ledger.close()
    state = WindowLedger(tmp_path, 0, 2).opened()
    assert (state.playing, state.complete, state.rejected) == ({key: 0}, {}, ())


def test_events_are_read_back_and_a_torn_line_never_was(tmp_path: Path) -> None:
    keys = [GroupKey(0, index, f"owner/task-{index}") for index in range(5)]
    groups = [make_group([1.0, 0.0], task=key.task_id) for key in keys]
    ledger = WindowLedger(tmp_path, 0, 2)
    for key in keys:
        ledger.submitted(key, 0)
    for key, group in zip(keys[:4], groups, strict=False):
        asyncio.run(ledger.completed(key, group))
    ledger.taken(0, keys[:2])
    ledger.taken(1, [keys[2]])
    ledger.rejected(keys[4], "worker died")
    ledger.close()
    with (tmp_path / "ledger.jsonl").open("ab") as file:
        file.write(b'{"event":"taken","step":2,"ke')

    again = WindowLedger(tmp_path, 1, 2)
    state = again.opened()
    assert (state.taken, state.playing, state.complete) == ({1: (keys[2],)}, {}, {keys[3]: 0})
    assert (state.next_position, state.accepted, state.rejected) == (2, 3, (keys[4],))
    assert again.load(keys[3]).members[0].trajectory.turns[0].completion_ids.tolist() == [3, 4]
    again.forget_before(1)
    assert not (tmp_path / f"shard_{shard_name(keys[0])}.parquet").exists()
    assert again.load(keys[2]).instance_id == "owner/task-2"
    with pytest.raises(WindowLedgerError, match=r"finished group 0/0/owner/task-0 cannot be read .*remove .* to play from"):
        again.load(keys[0])
    again.taken(2, [keys[3]])
    again.close()
    assert sorted(read_ledger(tmp_path / "ledger.jsonl").taken) == [0, 1, 2]


def test_a_damaged_ledger_says_so(tmp_path: Path) -> None:
    (tmp_path / "ledger.jsonl").write_bytes(b'{"event":"begun","key":"0/0/a","version":0}\n{"event":"lost"}\n')
    with pytest.raises(WindowLedgerError, match="line 2 is no event"):
        WindowLedger(tmp_path, 0, 2)
