"""Evaluation beside the loop: it never holds training up, scores checkpoints, and ends a run that has stopped improving."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from benchmarks.simulated_clock import run_simulated
from cluster.loop_evaluation import LoopEvaluation, evaluation_metrics
from cluster.stages.grpo_stage import evaluation_seed
from configs.grpo_config import GRPOConfig
from envpool.agent.episode_replay import journalled_group
from envpool.agent.journal_index import JournalIndex
from envpool.agent.turn_journal import TurnJournal
from envpool.policy import PolicyError
from envpool.sandbox_errors import SandboxLostError
from tests.trainers.test_rollout_window import TimedWorld
from tests.trainers.training_doubles import make_group, make_turn, with_version
from trainers.checkpoint import best_checkpoint, keep_best_and_last, list_checkpoints, record_score, step_folder
from trainers.early_stopping import best_step, has_stalled
from trainers.group_ledger import NoLedger
from trainers.grpo_loop import run_grpo
from verifier.reward import Group


@dataclass
class Checkpoints:
    expected: list[int] = field(default_factory=list)
    scores: dict[int, float | None] = field(default_factory=dict)

    def expect_score(self, step: int) -> None:
        self.expected.append(step)

    def score(self, step: int, score: float | None) -> None:
        self.scores[step] = score


@dataclass
class Trial:
    """A run of the loop with an evaluation of 2 tasks; `resolve` plays one task of it."""

    config: GRPOConfig
    resolve: Callable[["Trial"], Awaitable[float]]
    checkpoints: Checkpoints = field(default_factory=Checkpoints)
    logged: dict[int, Mapping[str, float]] = field(default_factory=dict)
    known: dict[int, float] = field(default_factory=dict)
    version: int = 0
    steps: int = 0
    seconds: float = 0.0
    skipped: int = 0
    asked: list[tuple[int, str]] = field(default_factory=list)

    def run(self) -> "Trial":
        world = TimedWorld(iter(lambda: 1.0, None))

        async def play(step: int, task_id: str) -> Group:
            self.asked.append((step, task_id))
            version = world.version
            self.version = version
            return with_version(make_group([await self.resolve(self)], task=task_id), version)

        async def go() -> None:
            evaluation = LoopEvaluation(self.config, ["a", "b"], play, self.checkpoints, self.logged.__setitem__, self.known)
            self.steps = await run_grpo(
                self.config, world, world, world, NoLedger(), 0, lambda step, metrics, groups: None, evaluation
            )
            self.seconds = asyncio.get_running_loop().time()
            await evaluation.finish()
            self.skipped = evaluation.skipped

        run_simulated(go())
        return self


def config_of(**changes: int) -> GRPOConfig:
    return GRPOConfig(**{"num_steps": 8, "groups_per_step": 3, "eval_every": 2, **changes})  # type: ignore[arg-type]


async def always_right(trial: Trial) -> float:
    return 1.0


def test_evaluations_carry_the_versions_that_played_and_score_their_checkpoints() -> None:
    trial = Trial(config_of(), always_right).run()
    assert trial.checkpoints.expected == [2, 4, 6, 8]
    assert trial.asked == [(step, task_id) for step in (2, 4, 6, 8) for task_id in "ab"]
    assert trial.checkpoints.scores == {2: -1.0, 4: -1.0, 6: -1.0, 8: -1.0}
    assert trial.logged[4] == {
        "eval/episodes": 2,
        "eval/lost": 0,
        "eval/tasks": 2,
        "eval/resolved": 1,
        "eval/version_min": 4,
        "eval/version_max": 4,
        "eval/skipped": 0,
    }


def test_a_group_that_is_played_again_does_not_find_the_episodes_of_an_earlier_evaluation(tmp_path: Path) -> None:
    """A rollout worker's journals hold both; after a death a group goes on from what stands under its seed."""
    turn = make_turn([1, 2], [3, 4], [-0.1, -0.2])
    with TurnJournal(tmp_path / "worker_0.jsonl") as journal:
        journal.append("a", 0, 0, turn, evaluation_seed(7, 10, "a"))
    index = JournalIndex(tmp_path)
    found = [journalled_group(index, "a", 1, evaluation_seed(7, step, "a")) for step in (10, 20)]
    assert [sorted(turns) for turns in found] == [[0], []]


def test_a_slow_evaluation_takes_no_time_from_the_training() -> None:
    async def slow(trial: Trial) -> float:
        await asyncio.sleep(5.0)
        return 1.0

    trial, alone = Trial(config_of(), slow).run(), Trial(config_of(eval_every=0), always_right).run()
    assert trial.steps == alone.steps == 8
    assert trial.seconds == alone.seconds
    assert trial.skipped == len(range(2, 9, 2)) - len(trial.logged) > 0


def test_a_broken_evaluation_is_not_fatal() -> None:
    async def broken(trial: Trial) -> float:
        raise PolicyError("no engine")

    trial = Trial(config_of(eval_samples=4), broken).run()
    assert (trial.steps, set(trial.checkpoints.scores.values())) == (8, {None})
    assert trial.logged[2] == {"eval/episodes": 0, "eval/lost": 8, "eval/tasks": 0, "eval/skipped": 0}


@pytest.mark.parametrize("error", [SandboxLostError("killed"), TimeoutError("hung")])
def test_a_task_that_infrastructure_broke_is_counted_and_its_evaluation_gives_no_score(error: Exception) -> None:
    """The easy task alone would score 1.0, and the checkpoint would pass for the best."""

    async def second_breaks_at_4(trial: Trial) -> float:
        if trial.asked[-1] == (4, "b"):
            raise error
        return 1.0

    trial = Trial(config_of(eval_samples=3, patience=9), second_breaks_at_4).run()
    assert trial.checkpoints.scores == {2: -1.0, 4: None, 6: -1.0, 8: -1.0}
    assert "eval/resolved" not in trial.logged[4]
    assert (trial.logged[4]["eval/lost"], trial.logged[4]["eval/tasks"]) == (3, 1)
    assert trial.logged[2]["eval/resolved"] == trial.logged[6]["eval/resolved"] == 1


def test_a_bug_in_an_evaluation_ends_the_run() -> None:
    async def has_a_bug(trial: Trial) -> float:
        if trial.asked[-1][1] == "b":
            raise KeyError("label")
        return 1.0

    trial = Trial(config_of(), has_a_bug)
    with pytest.raises(KeyError, match="label"):
        trial.run()
    assert trial.checkpoints.scores == {2: None}
    assert trial.logged == {}


async def test_a_score_that_cannot_be_written_is_an_error_of_the_run() -> None:
    def disk_is_full(step: int, metrics: Mapping[str, float]) -> None:
        raise OSError("no space left on device")

    async def play(step: int, task_id: str) -> Group:
        return make_group([1.0], task=task_id)

    for end in ("after_step", "finish"):
        evaluation = LoopEvaluation(config_of(), ["a"], play, Checkpoints(), disk_is_full, {})
        assert evaluation.after_step(2)
        assert evaluation._running is not None
        await asyncio.wait([evaluation._running])
        with pytest.raises(OSError, match="no space left"):
            evaluation.after_step(3) if end == "after_step" else await evaluation.finish()
        await evaluation.close()


async def test_an_error_that_nobody_has_seen_is_logged_at_the_end(caplog: pytest.LogCaptureFixture) -> None:
    async def play(step: int, task_id: str) -> Group:
        raise KeyError("label")

    evaluation = LoopEvaluation(config_of(), ["a"], play, Checkpoints(), lambda step, metrics: None, {})
    evaluation.after_step(2)
    assert evaluation._running is not None
    await asyncio.wait([evaluation._running])
    await evaluation.close()
    assert "KeyError: 'label'" in caplog.text


@pytest.mark.parametrize(("patience", "steps"), [(0, 8), (1, 5), (2, 7)])
def test_training_ends_when_it_stops_improving(patience: int, steps: int) -> None:
    """Only version 2 solves anything; a score is known one step after its evaluation began."""

    async def best_at_2(trial: Trial) -> float:
        return float(trial.version == 2)

    trial = Trial(config_of(patience=patience), best_at_2).run()
    assert trial.steps == steps


def test_scores_of_an_earlier_process_count() -> None:
    trial = Trial(config_of(patience=1), always_right, known={2: 1.0, 4: 0.5}).run()
    assert (trial.steps, trial.checkpoints.expected) == (0, [])
    assert trial.checkpoints.scores == {2: -1.0, 4: -0.5}


def test_stalling_and_the_best_step() -> None:
    assert best_step({}) is None
    assert best_step({2: 0.5, 4: 0.75, 6: 0.75}) == 4
    assert [has_stalled({2: 0.5, 4: 0.4, 6: 0.5}, patience) for patience in (0, 1, 2, 3)] == [False, True, True, False]
    assert not has_stalled({}, 1)


def test_an_evaluation_without_an_episode_has_no_score() -> None:
    assert evaluation_metrics([make_group([], lost=2)]) == {"eval/episodes": 0, "eval/lost": 2, "eval/tasks": 0}


def test_a_checkpoint_that_waits_for_its_score_stays(tmp_path: Path) -> None:
    for step in range(1, 6):
        step_folder(tmp_path, step).mkdir()
    keep_best_and_last(tmp_path, 2, unscored={2})
    assert [step for step, _ in list_checkpoints(tmp_path)] == [2, 4, 5]
    record_score(step_folder(tmp_path, 2), -0.5)
    keep_best_and_last(tmp_path, 2)
    assert best_checkpoint(tmp_path) == (2, step_folder(tmp_path, 2))
