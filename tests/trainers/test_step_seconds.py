"""Where a step's seconds go: literal spans, and the loop on a simulated clock."""

import asyncio
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.simulated_clock import run_simulated
from configs.grpo_config import GRPOConfig
from tests.trainers.training_doubles import make_group, with_version
from trainers.group_key import GroupKey
from trainers.group_ledger import NoLedger
from trainers.grpo_loop import run_grpo
from trainers.loss_spec import LossSpec
from trainers.step_seconds import LABELS, StepSeconds, episode_metrics, episode_shares, ledger_row
from trainers.train_sample import TrainSample
from verifier.episode_seconds import EpisodeSeconds, episode_seconds
from verifier.reward import Group

SPENT = EpisodeSeconds(generate=5.0, tool=2.0, queue=1.0, grade=1.5, total=10.0)


def with_seconds(group: Group, spent: EpisodeSeconds) -> Group:
    return replace(group, members=tuple(replace(member, seconds=spent) for member in group.members))


def test_spans_and_remainder_sum_to_the_wall() -> None:
    now = iter([100.0, 101.0, 105.0, 105.5, 107.5, 108.0, 109.0, 110.0])
    seconds = StepSeconds(lambda: next(now))
    for label in ("rollouts", "train", "train"):
        with seconds.span(label):
            pass
    assert seconds.spent("train") == 3.0
    assert seconds.close() == {"rollouts": 4.0, "train": 3.0, "other": 3.0, "wall": 10.0}


def test_a_span_that_fails_is_booked_and_overlap_is_refused() -> None:
    now = iter([0.0, 1.0, 3.0, 4.0])
    seconds = StepSeconds(lambda: next(now))
    with pytest.raises(ValueError, match="span sync would overlap train"), seconds.span("train"), seconds.span("sync"):
        pass
    assert seconds.close() == {"train": 2.0, "other": 2.0, "wall": 4.0}


def test_the_wait_for_rollouts_is_split_like_the_episodes() -> None:
    groups = [with_seconds(make_group([1, 0]), SPENT)]
    assert episode_shares(groups) == pytest.approx({"generate": 0.5, "tool": 0.2, "queue": 0.1, "grade": 0.15, "other": 0.05})
    row = ledger_row({"rollouts": 20.0, "train": 3.0, "other": 1.0, "wall": 24.0}, groups, engine_queue=0.25)
    assert row == pytest.approx(
        {
            "seconds/generate": 7.5,
            "seconds/tool": 4.0,
            "seconds/queue": 4.5,
            "seconds/grade": 3.0,
            "seconds/train": 3.0,
            "seconds/sync": 0.0,
            "seconds/checkpoint": 0.0,
            "seconds/evaluation": 0.0,
            "seconds/other": 2.0,
            "seconds/wall": 24.0,
        }
    )


def test_episodes_that_do_not_say_count_as_other() -> None:
    assert episode_shares([make_group([1, 0])]) == {"other": 1.0}
    assert episode_metrics([make_group([1, 0])]) == {}


def test_an_episode_in_figures() -> None:
    figures = episode_metrics([with_seconds(make_group([1, 0]), SPENT)])
    assert figures.pop("episode/total_s") == 10.0
    assert sum(figures.values()) == pytest.approx(10.0)
    assert figures["episode/other_s"] == 0.5


def test_turns_of_an_earlier_process_do_not_make_other_negative() -> None:
    turns = make_group([1]).members[0].trajectory.turns
    before = [replace(turn, generate_s=30.0, tool_s=4.0) for turn in turns]
    spent = episode_seconds(before, queue=1.0, grade=2.0, total=5.0)
    assert spent == EpisodeSeconds(30.0, 4.0, 1.0, 2.0, 37.0)
    assert spent.after_waiting(3.0) == EpisodeSeconds(30.0, 4.0, 4.0, 2.0, 40.0)


amounts = st.floats(0, 1e6)


@given(st.dictionaries(st.sampled_from(["rollouts", "train", "sync", "checkpoint", "other"]), amounts), st.floats(0, 1))
def test_labels_always_sum_to_the_wall(spans: dict[str, float], queue: float) -> None:
    row = ledger_row({**spans, "wall": sum(spans.values())}, [with_seconds(make_group([1, 0]), SPENT)], queue)
    wall = row.pop("seconds/wall")
    assert {f"seconds/{label}" for label in LABELS} == row.keys()
    assert sum(row.values()) == pytest.approx(wall)


class SlowLoop:
    """Plan, rollouts and learner in one, each taking a few hundredths of a second."""

    def tasks(self, step: int) -> list[str]:
        return [f"task-{step}-{index}" for index in range(2)]

    def spares(self, step: int, round_: int, used: set[str], count: int) -> list[str]:
        return []

    def shape(self, step: int, groups: list[Group]) -> list[Group]:
        return groups

    async def play(self, key: GroupKey, version: int, resumed: bool) -> Group:
        await asyncio.sleep(0.08)
        return with_version(with_seconds(make_group([1, 0], task=key.task_id), SPENT), version)

    async def cut(self, key: GroupKey) -> None:
        raise AssertionError("nothing is late here")

    async def train_step(self, samples: list[TrainSample], loss: LossSpec) -> dict[str, float]:
        await asyncio.sleep(0.05)
        return {"loss": 0.5}

    async def sync_weights(self, version: int) -> float:
        await asyncio.sleep(0.03)
        return 0.03

    async def save(self, step: int) -> None:
        await asyncio.sleep(0.04)


@pytest.mark.parametrize("max_staleness", [0, 1])
def test_the_loop_accounts_for_all_its_time(max_staleness: int) -> None:
    rows: list[dict[str, float]] = []
    parts = SlowLoop()
    config = GRPOConfig(groups_per_step=2, num_steps=4, checkpoint_every=2, max_staleness=max_staleness)

    def on_seconds(step: int, spans: dict[str, float], groups: list[Group]) -> None:
        rows.append(ledger_row(spans, groups))

    trained: list[float] = []

    def on_step(step: int, metrics: dict[str, float], groups: list[Group]) -> None:
        trained.append(metrics["time/train_s"])

    async def go() -> float:
        ledger = NoLedger(0, 2)
        await run_grpo(config, parts, parts, parts, ledger, 0, on_step, on_seconds=on_seconds)  # type: ignore[arg-type]
        return asyncio.get_running_loop().time()

    wall_s = run_simulated(go())
    assert trained == pytest.approx([0.05] * 4)
    for row in rows:
        labels = [row[f"seconds/{label}"] for label in LABELS]
        assert sum(labels) == pytest.approx(row["seconds/wall"])
        assert min(labels) >= 0.0
    # A step's rollouts take 0.08 s; begun a step ahead, they are there after 0.05 + 0.03 s of training and sync.
    waited = [0.08] * 4 if max_staleness == 0 else [0.08, 0.0, 0.0, 0.0]
    assert [row["seconds/wall"] for row in rows] == pytest.approx(
        [wait + 0.05 + 0.03 + saved for wait, saved in zip(waited, (0.0, 0.04, 0.0, 0.04), strict=True)]
    )
    assert [row["seconds/train"] for row in rows] == pytest.approx([0.05] * 4)
    assert [row["seconds/sync"] for row in rows] == pytest.approx([0.03] * 4)
    assert [row["seconds/checkpoint"] for row in rows] == pytest.approx([0.0, 0.04, 0.0, 0.04])
    assert rows[0]["seconds/generate"] >= 0.03
    assert sum(row["seconds/wall"] for row in rows) == pytest.approx(wall_s)
