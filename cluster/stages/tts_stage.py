"""Test-time scaling: the reward model chooses among K candidates per held-out task; real outcomes only evaluate the choice."""

import asyncio
import math
from typing import Any

import numpy as np

from cluster.episode_playing import task_seed
from cluster.group_store import read_groups
from cluster.stage import Stage, StageContext, StageError
from cluster.stages.eval_stage import estimate, pass_at_table
from envpool.policy import GenerateRequest, Message
from verifier.estimates import bootstrap_interval, pass_at_k_per_task
from verifier.patch_sections import normalised_diff
from verifier.reward import Group, ScoredTrajectory
from verifier.selection import Candidate, JudgedCandidate, tts_at_k_per_task
from verifier.world_model import score_candidates

Votes = tuple[float | None, ...]
MAX_REQUESTS = 128


async def choose_candidates(context: StageContext) -> dict[str, Any]:
    """Score the newest evaluation's candidates, then TTS@K and Pass@K for K = 1..num_candidates."""
    config = context.config.tts
    name = next((name for name in ("eval-grpo", "eval-sft") if name in context.folder.stage_records()), None)
    if name is None:
        raise StageError(f"tts needs candidates: swe-master eval --resume {context.folder.root}")
    groups = [g for g in read_groups(context.folder.root / "trajectories" / name) if len(g.members) >= config.num_candidates]
    if not groups:
        raise StageError(f"no task of {name} has {config.num_candidates} candidates")
    await context.fleet.serve("world-model")
    judged = await judge(context, groups)
    outcomes = [[one.resolved for one in candidates] for candidates in judged]
    pass_at = pass_at_table(outcomes, config.num_candidates, config.num_bootstrap, config.seed)
    chosen = {k: tts_at_k_per_task(judged, k, seed=config.seed) for k in range(1, config.num_candidates + 1)}
    tts_at = {str(k): estimate(bootstrap_interval(values, config.num_bootstrap, config.seed)) for k, values in chosen.items()}
    last = config.num_candidates
    share = closed_share_interval(
        np.array(chosen[last]),
        pass_at_k_per_task(outcomes, 1),
        pass_at_k_per_task(outcomes, last),
        config.num_bootstrap,
        config.seed,
    )
    return {
        "candidates_of": name,
        "context": "deployable",
        "num_tasks": len(groups),
        "pass_at": pass_at,
        "tts_at": tts_at,
        "closed_share": share,
        "scorer": scorer_quality(judged),
    }


async def judge(context: StageContext, groups: list[Group]) -> list[list[JudgedCandidate]]:
    """Votes for every candidate; equal patches of a task that saw the same are read once."""
    progress = context.progress.stage("tts", len(groups))
    slots = asyncio.Semaphore(MAX_REQUESTS)

    async def judge_group(group: Group) -> list[JudgedCandidate]:
        distinct = {edit_of(member): member for member in group.members}
        votes = await votes_of(context, group.instance_id, list(distinct.values()), slots)
        votes_by_edit = dict(zip(distinct, votes, strict=True))
        progress.advance()
        return [
            JudgedCandidate(Candidate(member.trajectory.patch.diff, votes_by_edit[edit_of(member)]), member.resolved)
            for member in group.members
        ]

    return list(await asyncio.gather(*(judge_group(group) for group in groups)))


def edit_of(member: ScoredTrajectory) -> tuple[str, str]:
    """What the reward model's reading depends on: the edit, and what the episode saw of it."""
    return normalised_diff(member.trajectory.patch.diff), member.context.observed if member.context else ""


async def votes_of(
    context: StageContext, instance_id: str, members: list[ScoredTrajectory], slots: asyncio.Semaphore
) -> list[Votes]:
    """`world_model.num_scores` simulated rewards per patch; None where the report could not be read."""
    config, chat, generate = context.config.world_model, context.fleet.chat, await context.fleet.generate()

    async def generate_text(messages: tuple[Message, ...], seed: int) -> str:
        prompt = chat.prompt_ids(messages)
        if len(prompt) + config.max_report_tokens > context.config.engine.max_model_len:
            return ""
        async with slots:
            completion = await generate(
                GenerateRequest(instance_id, messages, prompt, config.max_report_tokens, config.temperature, seed)
            )
        return chat.decode(completion.token_ids)

    seed = task_seed(context.config.seed, "tts", instance_id)
    return await score_candidates(generate_text, [member.context for member in members], config.num_scores, seed)


def scorer_quality(judged: list[list[JudgedCandidate]]) -> dict[str, float]:
    """Accuracy, precision and recall of "mean vote above one half" over all candidates with a valid vote."""
    pairs = []
    for candidates in judged:
        for one in candidates:
            votes = [vote for vote in one.candidate.votes if vote is not None]
            if votes:
                pairs.append((sum(votes) / len(votes) > 0.5, one.resolved))
    said, real = np.array([p[0] for p in pairs], bool), np.array([p[1] for p in pairs], bool)
    both = float((said & real).sum())
    return {
        "num": len(pairs),
        "unscored": sum(len(candidates) for candidates in judged) - len(pairs),
        "accuracy": float((said == real).mean()) if pairs else 0.0,
        "precision": both / max(float(said.sum()), 1.0),
        "recall": both / max(float(real.sum()), 1.0),
        "resolved_share": float(real.mean()) if pairs else 0.0,
    }


def closed_share_interval(
    tts: np.ndarray[Any, Any], pass_1: np.ndarray[Any, Any], pass_k: np.ndarray[Any, Any], num: int, seed: int
) -> list[float]:
    """(TTS@K - pass@1) / (pass@K - pass@1) over tasks, with the 95 % interval of resampled tasks; NaN without a gap."""
    rng = np.random.default_rng(seed)

    def share(rows: np.ndarray[Any, Any]) -> float:
        gap = float(pass_k[rows].mean() - pass_1[rows].mean())
        return float(tts[rows].mean() - pass_1[rows].mean()) / gap if gap > 0 else math.nan

    everything = np.arange(len(tts))
    resampled = [share(rng.integers(0, len(tts), len(tts))) for _ in range(num)]
    defined = [value for value in resampled if not math.isnan(value)]
    low, high = np.quantile(defined, [0.025, 0.975]) if defined else (math.nan, math.nan)
    return [share(everything), float(low), float(high)]


STAGE = Stage("tts", ("world-model",), choose_candidates)
