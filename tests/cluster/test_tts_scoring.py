"""The scoring part of the test-time scaling stage, with a scripted model: resume, cost, budget, tables, choices."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import orjson
import pytest

import trainers
from cluster.candidate_scoring import CandidateSignals, CandidateVotes, edit_of, signals_of_groups, votes_of_groups
from cluster.evaluation_stamp import put_aside_others, stamp_name
from cluster.group_store import GroupStore
from cluster.patch_choices import CHOICES, chosen_among, chosen_rows, judged_candidate, write_choices
from cluster.predictions_file import CHOSEN_PREDICTIONS
from cluster.progress_view import ProgressView
from cluster.run_export import export_run
from cluster.run_folder import RunFolder
from cluster.run_policies import newest_evaluation
from cluster.stage import StageError
from cluster.stages.tts_stage import cost_record, evaluated_groups, scaling_tables, scorer_record
from cluster.weights_fingerprint import weights_fingerprint
from configs.grpo_config import GRPOConfig
from configs.run_config import RunConfig
from configs.tts_config import TTSConfig
from configs.world_model_config import WorldModelConfig
from envpool.chat.chat_format import load_chat_format
from envpool.patch import Patch
from envpool.policy import Completion, GenerateRequest
from envpool.preparation import Preparation
from envpool.problem import Problem
from envpool.sandbox_errors import SandboxError, SandboxUnavailableError
from envpool.task_sets.task_store import write_tasks
from envpool.trajectory import StopReason, Trajectory, Turn
from tests.verifier.small_repo import TASK
from tests.verifier.test_scorer_prompt import CONTEXT, DIFF
from verifier.calibration import Identity
from verifier.patch_signals import PatchSignals
from verifier.predictions import Prediction, read_predictions
from verifier.reward import Group, LostEpisode, Reward, ScoredTrajectory
from verifier.selection import SelectionRule
from verifier.world_model_client import WorldModelClient
from verifier.world_model_data import deployable

CHAT = load_chat_format(Path(trainers.__file__).parent / "tiny_base")


@dataclass
class Context:
    """What the stage's functions read of a StageContext."""

    config: RunConfig
    folder: RunFolder
    fleet: Any = None
    progress: ProgressView = field(default_factory=ProgressView)


def candidate(index: int, line: str, resolved: bool, turns: int = 2, observed: str = "") -> ScoredTrajectory:
    diff = DIFF.replace("a + b", line)
    none = np.zeros(0, np.int32)
    turn = Turn(none, none, none.astype(np.float32), none, "", "", "", 0.0, 0.0)
    trajectory = Trajectory("task", index, "p", "", (turn,) * turns, Patch(diff), StopReason.SUBMITTED, 1.0)
    return ScoredTrajectory(trajectory, Reward(0.0, {}, True), resolved, "", replace(CONTEXT, patch=diff, observed=observed))


def renamed(member: ScoredTrajectory, name: str) -> ScoredTrajectory:
    return replace(member, trajectory=replace(member.trajectory, instance_id=name))


NO_SIGNALS = CandidateSignals()
RIGHT = (candidate(0, "a + b", True), candidate(1, "a + b", True, 3))
GROUPS = [Group("task", (*RIGHT, candidate(2, "a * b", False), candidate(3, "a % b", False, 5)), ())]


def client(asked: list[str], limit: int = 1) -> WorldModelClient:
    """A model that likes `a + b` (0.9) and nothing else (0.2)."""

    async def generate(request: GenerateRequest) -> Completion:
        asked.append(request.messages[-1].content)
        right = "+    return a + b" in request.messages[-1].content
        ids = CHAT.completion_ids(f"<think>\n\n</think>\n<reward>{int(right)}</reward>")
        logprobs = np.full(len(ids), np.log(0.9 if right else 0.8), np.float32)
        return Completion(ids, logprobs, ids * 0, "stop")

    return WorldModelClient(generate, CHAT, WorldModelConfig(num_scores=limit, temperature=1.0), 1_024)


@pytest.fixture
def context(tmp_path: Path) -> Any:
    config = RunConfig(runs_dir=str(tmp_path), tts=TTSConfig(num_candidates=4, num_bootstrap=50))
    return Context(config, RunFolder.create(config))


async def votes_of(context: Any, asked: list[str], groups: list[Group] = GROUPS) -> CandidateVotes:
    return await votes_of_groups(context, client(asked), deployable, "eval-sft", groups)


async def test_equal_patches_are_read_once_and_a_second_run_asks_for_nothing(context: Any) -> None:
    asked: list[str] = []
    scored = await votes_of(context, asked)
    assert len(asked) == len(scored.votes) == 3
    again: list[str] = []
    assert (await votes_of(context, again)).votes == scored.votes
    assert again == []
    judged = [[judged_candidate(context.config.tts, one, scored, NO_SIGNALS) for one in group.members] for group in GROUPS]
    tables = scaling_tables(judged, SelectionRule(), 4, 50, 0)
    assert (tables["pass_at"]["1"][0], tables["tts_at"]["1"][0], tables["tts_at"]["4"][0]) == (0.5, 0.5, 1.0)
    record = scorer_record(GROUPS, scored.votes, Identity(), 0)
    assert (record["num"], record["unscored"], record["invalid_reports"]) == (4, 0, 0.0)
    assert record["raw"]["accuracy"][0] == 1.0
    assert record["raw"]["ece"][0] == pytest.approx((0.1 * 2 + 0.2 * 2) / 4, abs=1e-6)


async def test_a_second_run_reports_the_cost_of_the_first(context: Any) -> None:
    first = cost_record(await votes_of(context, []), NO_SIGNALS, 1)
    assert (first["calls"], first["prompt_tokens"] > 300, first["answer_tokens"] > 20) == (3, True, True)
    assert first["seconds"] > 0
    assert cost_record(await votes_of(context, []), NO_SIGNALS, 1) == first


async def test_a_budget_leaves_later_patches_without_votes(context: Any) -> None:
    context.config = replace(context.config, tts=replace(context.config.tts, max_scorer_tokens=1))
    asked: list[str] = []
    groups = [*GROUPS, Group("other", tuple(renamed(one, "other") for one in GROUPS[0].members), ())]
    scored = await votes_of(context, asked, groups)
    assert (len(asked), scored.num_left_out) == (3, 3)
    assert [scored.votes[edit_of(one)] for one in groups[1].members] == [()] * 4
    assert (await votes_of(context, asked, groups)).votes == scored.votes
    assert len(asked) == 3, "what was spent before counts in the budget"


async def test_signals_add_their_weights(context: Any) -> None:
    scored = await votes_of(context, [])
    config = replace(context.config.tts, existing_tests_weight=2.0, reproduction_weight=1.0)
    member = GROUPS[0].members[2]
    signals = CandidateSignals({"task": {edit_of(member)[1]: PatchSignals(existing_tests=1.0, reproductions=0.0)}})
    seen = judged_candidate(config, member, scored, signals)
    unknown = judged_candidate(config, member, scored, NO_SIGNALS)
    assert (seen.candidate.bonus, unknown.candidate.bonus) == (2.0, 1.5)
    assert seen.candidate.votes == (pytest.approx(0.2, abs=1e-6),)


class TryingFleet:
    """Says of every patch that the repository's tests pass; breaks as often as it is told."""

    def __init__(self, *errors: Exception) -> None:
        self.errors, self.asked = list(errors), 0

    async def try_patches(self, problem: Problem, preparation: Preparation, diffs: tuple[str, ...]) -> list[PatchSignals]:
        self.asked += 1
        if self.errors:
            raise self.errors.pop(0)
        return [PatchSignals(existing_tests=1.0) for _ in diffs]


@pytest.fixture
def with_signals(context: Any) -> Any:
    name = {"instance_id": "task"}
    heldout = replace(TASK, problem=replace(TASK.problem, **name), oracle=replace(TASK.oracle, **name), split="heldout")
    write_tasks(context.folder.tasks, [heldout])
    context.config = replace(context.config, tts=replace(context.config.tts, existing_tests_weight=1.0))
    context.fleet = TryingFleet()
    return context


async def test_signals_are_stored_and_their_seconds_count_again(with_signals: Any) -> None:
    first = await signals_of_groups(with_signals, GROUPS, 0.0)
    second = await signals_of_groups(with_signals, GROUPS, 0.0)
    assert with_signals.fleet.asked == 1
    assert first == second
    assert first.seconds > 0
    assert first.of(GROUPS[0].members[0]) == PatchSignals(existing_tests=1.0)


async def test_patches_that_cannot_be_tried_stay_unknown_and_are_counted(with_signals: Any) -> None:
    with_signals.fleet = TryingFleet(SandboxError("killed"), SandboxUnavailableError("away"))
    found = await signals_of_groups(with_signals, GROUPS, 0.0)
    assert (found.num_untried, found.of(GROUPS[0].members[0])) == (1, PatchSignals())
    with pytest.raises(SandboxUnavailableError):
        await signals_of_groups(with_signals, GROUPS, 0.0)
    assert (await signals_of_groups(with_signals, GROUPS, 0.0)).num_untried == 0


async def test_seconds_of_the_votes_leave_less_for_signals(with_signals: Any) -> None:
    with_signals.config = replace(with_signals.config, tts=replace(with_signals.config.tts, max_scorer_s=5.0))
    assert (await signals_of_groups(with_signals, GROUPS, 5.0)).num_untried == 1
    assert with_signals.fleet.asked == 0


async def test_chosen_patches_become_predictions_that_say_why(context: Any) -> None:
    scored = await votes_of(context, [])
    judged = {"task": [judged_candidate(context.config.tts, one, scored, NO_SIGNALS) for one in GROUPS[0].members[::-1]]}
    groups = [replace(GROUPS[0], members=GROUPS[0].members[::-1])]
    rows = chosen_rows(context.config.tts, groups, judged, NO_SIGNALS, SelectionRule())
    assert rows == chosen_rows(context.config.tts, groups, judged, NO_SIGNALS, SelectionRule())
    write_choices(context.folder.root, "eval-sft", "stamp", groups, rows)
    (prediction,) = read_predictions(context.folder.root / CHOSEN_PREDICTIONS)
    assert isinstance(prediction, Prediction)
    assert (prediction.instance_id, prediction.patch.diff) == ("task", RIGHT[0].trajectory.patch.diff)
    assert prediction.model == f"{context.folder.root.name}/eval-sft-tts"
    (line,) = (orjson.loads(line) for line in (context.folder.root / CHOICES).read_bytes().splitlines())
    assert (line["chosen"], line["index"]) in ((0, 3), (1, 2))
    assert (line["tied"], line["score"]) == (2, pytest.approx(0.9, abs=1e-6))
    assert [one["sample_index"] for one in line["candidates"]] == [3, 2, 1, 0]
    assert line["candidates"][1]["votes"] == [pytest.approx(0.2, abs=1e-6)]
    assert "resolved" not in str(line), "what only the oracle knows stays out"
    assert chosen_among(context.folder.root) == ("eval-sft", "stamp")


async def test_a_choice_is_among_the_first_candidates_only(context: Any) -> None:
    scored = await votes_of(context, [])
    config = replace(context.config.tts, num_candidates=2)
    groups = [replace(GROUPS[0], members=GROUPS[0].members[::-1])]
    judged = {"task": [judged_candidate(config, one, scored, NO_SIGNALS) for one in groups[0].members]}
    (row,) = chosen_rows(config, groups, judged, NO_SIGNALS, SelectionRule())
    assert row["chosen"] in (2, 3)


def test_tasks_with_too_few_candidates_are_chosen_for_and_counted(context: Any) -> None:
    with pytest.raises(StageError, match="tts needs candidates"):
        evaluated_groups(context)
    groups = [*GROUPS, Group("short", (renamed(RIGHT[0], "short"),), ()), Group("none", (), (LostEpisode(0, "gone"),))]
    with GroupStore(context.folder.root / "trajectories" / "eval-sft") as store:
        for group in groups:
            store.add(group)
    context.folder.record_stage("eval-sft", {"num_tasks": 2, "unplayed_tasks": 1})
    name, played, unplayed = evaluated_groups(context)
    assert (name, [group.instance_id for group in played], unplayed) == ("eval-sft", ["task", "short"], 1)
    context.folder.record_stage("eval-sft", {"num_tasks": 3, "unplayed_tasks": 1})
    with pytest.raises(StageError, match="eval-sft was begun anew and is not finished"):
        evaluated_groups(context)


def test_the_newest_evaluation_is_of_grpo_or_of_what_it_begins_with() -> None:
    base, both = RunConfig(grpo=GRPOConfig(initial_policy="base")), {"eval-base": {}, "eval-sft": {}}
    assert (newest_evaluation(RunConfig(), both), newest_evaluation(base, both)) == ("eval-sft", "eval-base")
    assert newest_evaluation(base, {**both, "eval-grpo": {}}) == "eval-grpo"
    assert newest_evaluation(RunConfig(), {"eval-base": {}}) is None


def test_candidates_of_a_policy_that_was_trained_on_since_are_refused(context: Any) -> None:
    weights = context.folder.hf("sft") / "model.safetensors"
    weights.parent.mkdir()
    weights.write_bytes(b"old")
    stored = context.folder.root / "trajectories" / "eval-sft"
    put_aside_others(stored, {"weights": weights_fingerprint(weights.parent)})
    with GroupStore(stored) as store:
        store.add(GROUPS[0])
    context.folder.record_stage("eval-sft", {"num_tasks": 1, "unplayed_tasks": 0})
    context.fleet = SimpleNamespace(model_folder=context.folder.hf)
    assert [group.instance_id for group in evaluated_groups(context)[1]] == ["task"]
    weights.write_bytes(b"newer")
    with pytest.raises(StageError, match="eval-sft was played by an earlier sft policy"):
        evaluated_groups(context)


def test_chosen_patches_are_exported_while_their_evaluation_is_the_newest(context: Any, tmp_path: Path) -> None:
    folder = context.folder
    folder.hf("sft").mkdir()
    (folder.hf("sft") / "config.json").write_text("{}")
    (folder.root / "predictions.jsonl").write_text("")
    put_aside_others(folder.root / "trajectories" / "eval-sft", {"weights": "a"})
    folder.record_stage("eval-sft", {})
    assert not [line for line in export_run(folder, tmp_path / "first") if "tts" in line]
    row = {"instance_id": "task", "index": 0}
    write_choices(folder.root, "eval-sft", stamp_name(folder.root / "trajectories" / "eval-sft"), GROUPS, [row])
    lines = export_run(folder, tmp_path / "second")
    assert f"{tmp_path / 'second' / CHOSEN_PREDICTIONS}  (chosen by test-time scaling)" in lines
    assert {"predictions.jsonl", CHOSEN_PREDICTIONS, CHOICES} <= {path.name for path in (tmp_path / "second").iterdir()}
    put_aside_others(folder.root / "trajectories" / "eval-sft", {"weights": "b"})
    lines = export_run(folder, tmp_path / "third")
    assert [line for line in lines if line.startswith(f"{CHOSEN_PREDICTIONS} stays behind")]
    assert not (tmp_path / "third" / CHOSEN_PREDICTIONS).exists()
