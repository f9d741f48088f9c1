"""Test-time scaling: the world model chooses among K candidates per held-out task; real outcomes only evaluate the choice.

Order: candidates of the newest evaluation; distinct patches; votes (stored as they come); signals that need no oracle, where they
are asked for; the chosen patches, as predictions; TTS@K against Pass@K; the scorer's quality, raw and calibrated; what a chosen
patch cost.
"""

import asyncio
import math
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from cluster.calibration_file import read_calibration, scorer_name
from cluster.candidate_scoring import CandidateSignals, CandidateVotes, edit_of, signals_of_groups, votes_of_groups
from cluster.evaluation_stamp import read_stamp, stamp_name
from cluster.group_store import read_groups
from cluster.patch_choices import chosen_rows, judged_candidate, write_choices
from cluster.run_policies import newest_evaluation
from cluster.stage import Stage, StageContext, StageError
from cluster.stages.eval_stage import estimate, pass_at_table
from cluster.stages.world_model_stage import context_of
from cluster.vote_store import Votes
from cluster.weights_fingerprint import weights_fingerprint
from cluster.world_model_judging import measured_runs, world_client, world_endpoint_record
from verifier.calibration import Calibration, calibration_from_dict
from verifier.estimates import bootstrap_interval, pass_at_k_per_task
from verifier.reward import Group
from verifier.scorer_metrics import Judged, reliability, scorer_quality
from verifier.selection import JudgedCandidate, SelectionRule, tts_at_k_per_task
from verifier.simulated_scoring import mean_probability
from verifier.world_model_client import WorldModelClient
from verifier.world_model_data import unobserved

MAX_FIDELITY_COMMANDS = 400
MANY_INVALID = 0.5
"""From this share of unreadable reports on it is said."""


async def choose_candidates(context: StageContext) -> dict[str, Any]:
    """Score the newest evaluation's candidates, choose a patch for every task that has one, then TTS@K and Pass@K for
    K = 1..num_candidates over the tasks that have K."""
    if not context.config.world_model.endpoint.base_url and "world-model" not in context.folder.stage_records():
        raise StageError(
            f"tts needs world-model first (swe-master world-model --resume {context.folder.root}) or world_model.endpoint"
        )
    name, groups, unplayed = await asyncio.to_thread(evaluated_groups, context)
    async with world_client(context, STAGE.name) as client:
        record = await choice_of(context, client, name, groups, unplayed)
    return record | world_endpoint_record(context, STAGE.name)


async def choice_of(
    context: StageContext, client: WorldModelClient, name: str, groups: list[Group], unplayed: int
) -> dict[str, Any]:
    """The stage's record: the client's model judges the groups of the evaluation `name`, which left `unplayed` tasks."""
    config, world = context.config.tts, context.config.world_model
    if not world.show_observed:
        groups = [replace(group, members=tuple(map(unobserved, group.members))) for group in groups]
    whole = [group for group in groups if len(group.members) >= config.num_candidates]
    own_engines = not world.endpoint.base_url
    before = await context.fleet.prefix_counts() if own_engines else (0.0, 0.0)
    scored = await votes_of_groups(context, client, context_of(context, "heldout"), name, groups)
    after = await context.fleet.prefix_counts() if own_engines else (0.0, 0.0)
    signals = await signals_of_groups(context, groups, scored.seconds)
    rule = SelectionRule(agreement_weight=config.agreement_weight)
    judged = {
        group.instance_id: [judged_candidate(config, member, scored, signals) for member in group.members] for group in groups
    }
    rows = chosen_rows(config, groups, judged, signals, rule)
    write_choices(context.folder.root, name, stamp_name(context.folder.root / "trajectories" / name), groups, rows)
    calibration = calibration_from_dict(read_calibration(context.folder.hf("world-model"), scorer_name(world)))
    record: dict[str, Any] = {"candidates_of": name, "context": world.context, "num_tasks": len(whole)}
    record |= {"world_model": scorer_name(world), "calibration": type(calibration).__name__}
    record |= {"short_tasks": len(groups) - len(whole), "unplayed_tasks": unplayed}
    candidates = [judged[group.instance_id] for group in whole]
    record.update(scaling_tables(candidates, rule, config.num_candidates, config.num_bootstrap, config.seed))
    right = [float(judged[row["instance_id"]][row["index"]].resolved) for row in rows]
    record["chosen"] = {"tasks": len(rows), "resolved": estimate(bootstrap_interval(right, config.num_bootstrap, config.seed))}
    record["scorer"] = scorer_record(groups, scored.votes, calibration, config.seed)
    if (invalid := record["scorer"]["invalid_reports"]) >= MANY_INVALID:
        context.progress.say(
            f"tts: {invalid:.0%} of the reports could not be read and are no votes; a general model needs world_model.form=full "
            "and room for its answer (world_model.max_report_tokens)"
        )
    record["cost"] = cost_record(scored, signals, len(rows))
    record["cost"]["prefix_hit_rate"] = (after[1] - before[1]) / (after[0] - before[0]) if after[0] > before[0] else None
    if "transition" in world.roles:
        commands = [(one.trajectory.instance_id, done) for group in groups for one in group.members for done in one.executed]
        record["simulated_runs"] = await measured_runs(client, commands, MAX_FIDELITY_COMMANDS, config.seed)
    return record


def evaluated_groups(context: StageContext) -> tuple[str, list[Group], int]:
    """The newest evaluation, its tasks that have a candidate, and how many have none. Raises StageError, also when no task has
    enough candidates, or when the policy has been trained on since."""
    count = context.config.tts.num_candidates
    name = newest_evaluation(context.config, context.folder.stage_records())
    if name is None:
        raise StageError(f"tts needs candidates: swe-master eval --resume {context.folder.root}")
    folder, record = context.folder.root / "trajectories" / name, context.folder.stage_records()[name]
    groups, stamp = list(read_groups(folder)), read_stamp(folder)
    policy = name.removeprefix("eval-")
    if stamp is not None and stamp["weights"] != weights_fingerprint(context.fleet.model_folder(policy)):
        raise StageError(f"{name} was played by an earlier {policy} policy: swe-master eval --resume {context.folder.root}")
    if len(groups) < record.get("num_tasks", 0) + record.get("unplayed_tasks", 0):
        raise StageError(f"{name} was begun anew and is not finished: swe-master eval --resume {context.folder.root}")
    if not any(len(group.members) >= count for group in groups):
        raise StageError(f"no task of {name} has {count} candidates")
    played = [group for group in groups if group.members]
    return name, played, len(groups) - len(played)


def cost_record(scored: CandidateVotes, signals: CandidateSignals, num_chosen: int) -> dict[str, Any]:
    """What votes and signals took in all, runs of the stage before this one included."""
    seconds = scored.seconds + signals.seconds
    return {
        "seconds": scored.seconds,
        "signal_seconds": signals.seconds,
        "calls": scored.usage.calls,
        "prompt_tokens": scored.usage.prompt_tokens,
        "answer_tokens": scored.usage.answer_tokens,
        "unread_patches": scored.num_left_out,
        "untried_tasks": signals.num_untried,
        "tokens_per_selected_patch": scored.usage.tokens / num_chosen,
        "seconds_per_selected_patch": seconds / num_chosen,
    }


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
