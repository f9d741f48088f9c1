"""Test-time scaling: the world model chooses among K candidates per held-out task; real outcomes only evaluate the choice.

Order: candidates of the newest evaluation; distinct patches; votes (stored as they come); signals that need no oracle, where they
are asked for; TTS@K against Pass@K; the scorer's quality, raw and calibrated; what a chosen patch cost.
"""

import asyncio
import math
import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from cluster.calibration_file import read_calibration, scorer_name
from cluster.group_store import read_groups
from cluster.stage import Stage, StageContext, StageError
from cluster.stages.eval_stage import estimate, pass_at_table
from cluster.stages.world_model_stage import context_of
from cluster.task_selection import tasks_of
from cluster.vote_store import Votes, VoteStore
from cluster.world_model_judging import measured_runs, patch_votes, world_client
from verifier.calibration import Calibration, calibration_from_dict
from verifier.estimates import bootstrap_interval, pass_at_k_per_task
from verifier.patch_sections import normalised_diff
from verifier.patch_signals import PatchSignals
from verifier.reward import Group, ScoredTrajectory
from verifier.scorer_metrics import Judged, reliability, scorer_quality
from verifier.selection import Candidate, JudgedCandidate, SelectionRule, tts_at_k_per_task
from verifier.simulated_scoring import mean_probability
from verifier.world_model_client import WorldModelClient

MAX_FIDELITY_COMMANDS = 400


async def choose_candidates(context: StageContext) -> dict[str, Any]:
    """Score the newest evaluation's candidates, then TTS@K and Pass@K for K = 1..num_candidates."""
    if not context.config.world_model.endpoint.base_url and "world-model" not in context.folder.stage_records():
        raise StageError(
            f"tts needs world-model first (swe-master world-model --resume {context.folder.root}) or world_model.endpoint"
        )
    name, groups = evaluated_groups(context)
    async with world_client(context) as client:
        return await choice_of(context, client, name, groups)


async def choice_of(context: StageContext, client: WorldModelClient, name: str, groups: list[Group]) -> dict[str, Any]:
    """The stage's record: the client's model judges the groups of the evaluation `name`."""
    config, world = context.config.tts, context.config.world_model
    own_engines = not world.endpoint.base_url
    before = await context.fleet.prefix_counts() if own_engines else (0.0, 0.0)
    started = time.monotonic()
    votes = await votes_of_groups(context, client, name, groups)
    scoring_s = time.monotonic() - started
    after = await context.fleet.prefix_counts() if own_engines else (0.0, 0.0)
    signals = await signals_of_groups(context, groups)
    rule = SelectionRule(agreement_weight=config.agreement_weight)
    judged = [
        [judged_candidate(context, member, votes, signals[group.instance_id]) for member in group.members] for group in groups
    ]
    calibration = calibration_from_dict(read_calibration(context.folder.hf("world-model"), scorer_name(world)))
    record = {"candidates_of": name, "context": world.context, "num_tasks": len(groups)}
    record |= {"world_model": scorer_name(world), "calibration": type(calibration).__name__}
    record.update(scaling_tables(judged, rule, config.num_candidates, config.num_bootstrap, config.seed))
    record["scorer"] = scorer_record(groups, votes, calibration, config.seed)
    record["cost"] = {
        "seconds": scoring_s,
        "calls": client.usage.calls,
        "prompt_tokens": client.usage.prompt_tokens,
        "answer_tokens": client.usage.answer_tokens,
        "prefix_hit_rate": (after[1] - before[1]) / (after[0] - before[0]) if after[0] > before[0] else None,
        "tokens_per_selected_patch": client.usage.tokens / len(groups),
        "seconds_per_selected_patch": scoring_s / len(groups),
    }
    if "transition" in world.roles:
        commands = [(one.trajectory.instance_id, done) for group in groups for one in group.members for done in one.executed]
        record["simulated_runs"] = await measured_runs(client, commands, MAX_FIDELITY_COMMANDS, config.seed)
    return record


def evaluated_groups(context: StageContext) -> tuple[str, list[Group]]:
    """The newest evaluation and its tasks that have enough candidates. Raises StageError."""
    count = context.config.tts.num_candidates
    name = next((name for name in ("eval-grpo", "eval-sft") if name in context.folder.stage_records()), None)
    if name is None:
        raise StageError(f"tts needs candidates: swe-master eval --resume {context.folder.root}")
    groups = [g for g in read_groups(context.folder.root / "trajectories" / name) if len(g.members) >= count]
    if not groups:
        raise StageError(f"no task of {name} has {count} candidates")
    return name, groups


def edit_of(member: ScoredTrajectory) -> tuple[str, str, str]:
    """What the world model's reading depends on: the task, the edit, and what the episode saw of it."""
    observed = member.context.observed if member.context else ""
    return member.trajectory.instance_id, normalised_diff(member.trajectory.patch.diff), observed


async def votes_of_groups(
    context: StageContext, client: WorldModelClient, name: str, groups: Sequence[Group]
) -> dict[tuple[str, str, str], Votes]:
    """Votes by `edit_of`: equal patches of a task that saw the same are read once. Stored votes are taken; once the budget is
    used up, patches stay without votes."""
    config, world = context.config.tts, context.config.world_model
    shown_of = context_of(context, "heldout")
    progress = context.progress.stage("tts", len(groups))
    weights = context.folder.hf("world-model")
    stamp = [(path.name, path.stat().st_mtime_ns) for path in sorted(weights.glob("*.safetensors"))]
    scorer = {"settings": asdict(world), "seed": config.seed, "weights": stamp, "of": name}
    found: dict[tuple[str, str, str], Votes] = {}
    started = time.monotonic()

    def spent() -> bool:
        too_long = 0 < config.max_scorer_s <= time.monotonic() - started
        return too_long or 0 < config.max_scorer_tokens <= client.usage.tokens

    async def score_group(group: Group, store: VoteStore) -> None:
        distinct = {edit_of(member): member for member in group.members}

        async def score(edit: tuple[str, str, str], member: ScoredTrajectory) -> None:
            votes = store.get(group.instance_id, edit)
            if votes is None and not spent():
                votes = await patch_votes(client, member, shown_of, config.seed)
                store.add(group.instance_id, edit, votes)
            found[edit] = votes or ()

        await asyncio.gather(*(score(edit, member) for edit, member in distinct.items()))
        progress.advance()

    limited = config.max_scorer_tokens > 0 or config.max_scorer_s > 0
    with VoteStore(context.folder.root / "tts", scorer) as store:
        if limited:  # one task after the other, so that the budget is known before the next begins
            for group in groups:
                await score_group(group, store)
        else:
            await asyncio.gather(*(score_group(group, store) for group in groups))
    return found


async def signals_of_groups(context: StageContext, groups: Sequence[Group]) -> dict[str, dict[str, PatchSignals]]:
    """By task and normalised diff: what running tests says about the patches; nothing is run when no weight asks for it."""
    config = context.config.tts
    if not config.existing_tests_weight and not config.reproduction_weight:
        return {group.instance_id: {} for group in groups}
    problems = {task.instance_id: task.problem for task in tasks_of(context, "heldout")}

    async def of_group(group: Group) -> dict[str, PatchSignals]:
        distinct = {normalised_diff(one.trajectory.patch.diff): one.trajectory.patch.diff for one in group.members}
        signals = await context.fleet.try_patches(problems[group.instance_id], tuple(distinct.values()))
        return dict(zip(distinct, signals, strict=True))

    found = await asyncio.gather(*(of_group(group) for group in groups))
    return {group.instance_id: signals for group, signals in zip(groups, found, strict=True)}


def judged_candidate(
    context: StageContext,
    member: ScoredTrajectory,
    votes: dict[tuple[str, str, str], Votes],
    signals: dict[str, PatchSignals],
) -> JudgedCandidate:
    """A candidate as the selection sees it, and its real outcome as the report needs it."""
    config = context.config.tts
    seen = signals.get(normalised_diff(member.trajectory.patch.diff), PatchSignals())
    bonus = config.existing_tests_weight * (0.5 if seen.existing_tests is None else seen.existing_tests)
    bonus += config.reproduction_weight * (0.5 if seen.reproductions is None else seen.reproductions)
    values = tuple(None if vote is None else vote.probability for vote in votes[edit_of(member)])
    return JudgedCandidate(Candidate(member.trajectory.patch.diff, values, bonus), member.resolved)


def scaling_tables(
    judged: list[list[JudgedCandidate]], rule: SelectionRule, most: int, num_bootstrap: int, seed: int
) -> dict[str, Any]:
    """pass_at, tts_at for K = 1..most, and the share of the way between that the choice goes."""
    outcomes = [[one.resolved for one in candidates] for candidates in judged]
    chosen = {k: tts_at_k_per_task(judged, k, rule, seed=seed) for k in range(1, most + 1)}
    share = closed_share_interval(
        np.array(chosen[most]), pass_at_k_per_task(outcomes, 1), pass_at_k_per_task(outcomes, most), num_bootstrap, seed
    )
    return {
        "pass_at": pass_at_table(outcomes, most, num_bootstrap, seed),
        "tts_at": {str(k): estimate(bootstrap_interval(values, num_bootstrap, seed)) for k, values in chosen.items()},
        "closed_share": share,
    }


def scorer_record(
    groups: Sequence[Group], votes: dict[tuple[str, str, str], Votes], calibration: Calibration, seed: int
) -> dict[str, Any]:
    """Quality over all candidates with a readable report, before and after calibration, and the points of its diagram."""
    raw: list[list[Judged]] = []
    reports = [vote for group in groups for one in group.members for vote in votes[edit_of(one)]]
    for group in groups:
        means = [(mean_probability(votes[edit_of(one)]), one.resolved) for one in group.members]
        raw.append([(mean, resolved) for mean, resolved in means if mean is not None])
    calibrated = [[(calibration(value), resolved) for value, resolved in judged] for judged in raw]
    flat = [one for judged in calibrated for one in judged]
    return {
        "num": len(flat),
        "unscored": sum(len(group.members) for group in groups) - len(flat),
        "invalid_reports": sum(vote is None for vote in reports) / max(len(reports), 1),
        "contradictory_reports": sum(vote is not None and vote.contradicts_itself for vote in reports) / max(len(reports), 1),
        "resolved_share": float(np.mean([resolved for _, resolved in flat])) if flat else 0.0,
        "raw": scorer_quality(raw, seed=seed),
        "calibrated": scorer_quality(calibrated, seed=seed),
        "reliability": [asdict(one) for one in reliability(flat)],
        "reliability_raw": [asdict(one) for one in reliability([one for judged in raw for one in judged])],
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


STAGE = Stage("tts", (), choose_candidates)
