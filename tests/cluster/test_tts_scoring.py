"""The scoring part of the test-time scaling stage, with a scripted model: resume, budget, tables."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import trainers
from cluster.progress_view import ProgressView
from cluster.run_folder import RunFolder
from cluster.stages.tts_stage import edit_of, judged_candidate, scaling_tables, scorer_record, votes_of_groups
from configs.run_config import RunConfig
from configs.tts_config import TTSConfig
from configs.world_model_config import WorldModelConfig
from envpool.chat.chat_format import load_chat_format
from envpool.patch import Patch
from envpool.policy import Completion, GenerateRequest
from envpool.trajectory import StopReason, Trajectory, Turn
from tests.verifier.test_scorer_prompt import CONTEXT, DIFF
from verifier.calibration import Identity
from verifier.patch_signals import PatchSignals
from verifier.reward import Group, Reward, ScoredTrajectory
from verifier.selection import SelectionRule
from verifier.world_model_client import WorldModelClient

CHAT = load_chat_format(Path(trainers.__file__).parent / "tiny_base")


@dataclass
class Context:
    """What the stage's functions read of a StageContext."""

    config: RunConfig
    folder: RunFolder
    progress: ProgressView = field(default_factory=ProgressView)


def candidate(index: int, line: str, resolved: bool, turns: int = 2, observed: str = "") -> ScoredTrajectory:
    diff = DIFF.replace("a + b", line)
    none = np.zeros(0, np.int32)
    turn = Turn(none, none, none.astype(np.float32), none, "", "", "", 0.0, 0.0)
    trajectory = Trajectory("task", index, "p", "", (turn,) * turns, Patch(diff), StopReason.SUBMITTED, 1.0)
    return ScoredTrajectory(trajectory, Reward(0.0, {}, True), resolved, "", replace(CONTEXT, patch=diff, observed=observed))


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


async def test_equal_patches_are_read_once_and_a_second_run_asks_for_nothing(context: Any) -> None:
    asked: list[str] = []
    votes = await votes_of_groups(context, client(asked), "eval-sft", GROUPS)
    assert len(asked) == len(votes) == 3
    again: list[str] = []
    assert await votes_of_groups(context, client(again), "eval-sft", GROUPS) == votes
    assert again == []
    judged = [[judged_candidate(context, one, votes, {}) for one in group.members] for group in GROUPS]
    tables = scaling_tables(judged, SelectionRule(), 4, 50, 0)
    assert (tables["pass_at"]["1"][0], tables["tts_at"]["1"][0], tables["tts_at"]["4"][0]) == (0.5, 0.5, 1.0)
    record = scorer_record(GROUPS, votes, Identity(), 0)
    assert (record["num"], record["unscored"], record["invalid_reports"]) == (4, 0, 0.0)
    assert record["raw"]["accuracy"][0] == 1.0
    assert record["raw"]["ece"][0] == pytest.approx((0.1 * 2 + 0.2 * 2) / 4, abs=1e-6)


async def test_a_budget_leaves_later_patches_without_votes(context: Any) -> None:
    context.config = replace(context.config, tts=replace(context.config.tts, max_scorer_tokens=1))
    asked: list[str] = []
    second = [Group("other", GROUPS[0].members, ())]
    votes = await votes_of_groups(context, client(asked), "eval-sft", [*GROUPS, *second])
    assert len(asked) < 6
    assert any(of_one == () for of_one in votes.values()) or len(asked) <= 3


async def test_signals_add_their_weights(context: Any) -> None:
    votes = await votes_of_groups(context, client([]), "eval-sft", GROUPS)
    context.config = replace(context.config, tts=replace(context.config.tts, existing_tests_weight=2.0, reproduction_weight=1.0))
    member = GROUPS[0].members[2]
    name = edit_of(member)[1]
    seen = judged_candidate(context, member, votes, {name: PatchSignals(existing_tests=1.0, reproductions=0.0)})
    unknown = judged_candidate(context, member, votes, {})
    assert (seen.candidate.bonus, unknown.candidate.bonus) == (2.0, 1.5)
    assert seen.candidate.votes == (pytest.approx(0.2, abs=1e-6),)
