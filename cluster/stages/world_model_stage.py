"""SWE-World's world model: trained on the real outcomes of the run's rollouts of training tasks, then calibrated on tasks that
were kept out, where its fidelity is measured too."""

import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import numpy as np

from cluster.calibration_file import scorer_name, write_calibration
from cluster.group_store import members_by_name
from cluster.learner_run import TrainingRun
from cluster.policy_playing import play_policy
from cluster.reasoning_journal import ReasoningJournal
from cluster.run_policies import newest_policy
from cluster.stage import Stage, StageContext, StageError
from cluster.task_selection import tasks_of
from cluster.world_model_judging import judged_patches, measured_runs, world_client, world_endpoint_record
from configs.rollout_config import EndpointConfig
from envpool.chat.chat_format import ChatFormat
from envpool.endpoints.chat_endpoint import ChatEndpoint
from trainers.sft_loop import run_sft
from trainers.train_sample import TrainSample
from verifier.calibration import CALIBRATIONS
from verifier.curator_context import curator_context
from verifier.reverse_reasoning import EndpointJudge, EndpointReasoner, add_reasoning
from verifier.reward import ScoredTrajectory
from verifier.scorer_metrics import Judged, scorer_quality
from verifier.scorer_prompt import ScorerContext
from verifier.scripted_reasoner import ScriptedReasoner
from verifier.world_model_client import WorldModelClient
from verifier.world_model_data import ContextOf, WorldSample, deployable, report_samples, transition_samples, unobserved

TRAINING_ROLLOUTS = ("rollout", "grpo")


def training_trajectories(context: StageContext) -> Iterator[ScoredTrajectory]:
    """Every graded episode of a training task that the run has stored, the rollouts' first."""
    for name in TRAINING_ROLLOUTS:
        folder = context.folder.root / "trajectories" / name
        if folder.exists():
            yield from members_by_name(folder)


def is_kept_out(instance_id: str, share: float) -> bool:
    """Whether a task serves calibration and not training: decided by its name alone, so that it never moves."""
    digest = hashlib.sha256(f"calibration\0{instance_id}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64 < share


def context_of(context: StageContext, split: str = "train") -> ContextOf:
    """What the run's world model is shown of a patch (world_model.context)."""
    if context.config.world_model.context == "deployable":
        return deployable
    oracles = {task.instance_id: task.oracle for task in tasks_of(context, split)}

    def curator(scored: ScoredTrajectory) -> ScorerContext | None:
        oracle = oracles.get(scored.trajectory.instance_id)
        return None if scored.context is None or oracle is None else curator_context(scored.context, oracle)

    return curator


def world_train_sample(sample: WorldSample, chat: ChatFormat, form: str) -> TrainSample:
    """The prompt as context, the answer as what is learnt."""
    prompt, answer = chat.prompt_ids(sample.messages), chat.completion_ids(sample.target(form))
    length = len(prompt) + len(answer)
    mask = np.zeros(length, np.int8)
    mask[len(prompt) :] = 1
    zeros = np.zeros(length, np.float32)
    return TrainSample(np.concatenate([prompt, answer]), mask, zeros, zeros, np.zeros(length, np.int32), sample.instance_id)


async def train_world_model(context: StageContext) -> dict[str, Any]:
    """Train from the base model, export hf/world-model, calibrate it."""
    config = context.config.world_model
    samples, counts = await training_samples(context)
    if not samples:
        raise StageError(why_nothing(counts))
    train = [world_train_sample(sample, context.fleet.chat, config.form) for sample in samples]
    run = await TrainingRun.begin(
        context, "world-model", context.fleet.base_model, config.optimizer, config.learner, config.num_steps
    )
    await run_sft(config, train, run, run.start_step, context.config.seed, run.on_step("loss"))
    await run.finish()
    return {
        "context": config.context,
        "form": config.form,
        "samples": len(samples),
        **counts,
        "steps": config.num_steps,
        **run.summary("loss"),
        **await calibrate(context),
    }


async def training_samples(context: StageContext) -> tuple[list[WorldSample], dict[str, Any]]:
    """The samples of the configured roles from tasks that train, and counts of every step."""
    config, seed = context.config.world_model, context.config.seed
    share = config.calibration_share if config.calibration != "none" else 0.0
    episodes = [one for one in training_trajectories(context) if not is_kept_out(one.trajectory.instance_id, share)]
    samples: list[WorldSample] = []
    counts: dict[str, Any] = {}
    shape: dict[str, Any] = {
        "balanced": config.balanced, "seed": seed, "max_chars": config.max_prompt_chars, "form": config.form
    }  # fmt: skip
    if "reward" in config.roles:
        judged = episodes if config.show_observed else map(unobserved, episodes)
        reports, report_counts = report_samples(judged, **shape, context_of=context_of(context))
        counts["report_counts"] = asdict(report_counts)
        if config.reasoner == "endpoint":
            reports, counts["report_reasoning"] = await reasoned(context, reports)
        samples += reports
    if "transition" in config.roles:
        runs, run_counts = transition_samples(episodes, **shape)
        counts["transition_counts"] = asdict(run_counts)
        if config.reasoner != "none":
            runs, counts["transition_reasoning"] = await reasoned(context, runs)
        samples += runs
    return samples, counts


def why_nothing(counts: dict[str, Any]) -> str:
    """What the counts of `training_samples` say when no sample is left: the teacher's failures, or what was recorded."""
    asked = [row for name, row in counts.items() if name.endswith("_reasoning") and row["asked"]]
    if asked:
        fates = Counter({name: row[name] for row in asked for name in row if name not in ("asked", "first_error")})
        lost = ", ".join(f"{count} {name}" for name, count in fates.items() if count)
        error = next((row["first_error"] for row in asked if row["first_error"]), "")
        return f"none of {sum(row['asked'] for row in asked)} simulations by world_model.reasoner was kept ({lost})" + (
            f"; the teacher's endpoint: {error}" if error else ""
        )
    seen = {name: {field: count for field, count in row.items() if count} for name, row in counts.items() if "num_seen" in row}
    return (
        f"no graded trajectory with a context to learn from: {seen}; are verifier.collect_context and collect_executions on, and "
        "are there resolved and unresolved ones (world_model.balanced)?"
    )


async def reasoned(context: StageContext, samples: tuple[WorldSample, ...]) -> tuple[tuple[WorldSample, ...], dict[str, Any]]:
    """The samples with a simulation that was kept, and what became of all. A teacher's answers are kept in the run folder."""
    config = context.config.world_model
    if config.reasoner != "endpoint":
        kept, counts = await add_reasoning(samples, ScriptedReasoner(), None, context.config.seed)
        return kept, asdict(counts)
    teacher = config.teacher
    endpoint = teacher_endpoint(teacher)
    reasoner, judge = EndpointReasoner(endpoint, config.teacher_tokens), EndpointJudge(endpoint, config.teacher_tokens)
    decides = (
        context.config.seed,
        teacher.model,
        teacher.extra_body,
        config.teacher_tokens,
        reasoner.temperature,
        judge.temperature,
    )
    try:
        with ReasoningJournal(context.folder.root / "reasoning", decides) as journal:
            asking = journal.reasoner(reasoner), journal.judge(judge)
            kept, counts = await add_reasoning(samples, *asking, context.config.seed)
    finally:
        await endpoint.close()
    return kept, asdict(counts)


def teacher_endpoint(teacher: EndpointConfig) -> ChatEndpoint:
    """A thinking teacher may take request_timeout_s for an answer, and every attempt may. Close it."""
    return ChatEndpoint(teacher, deadline_s=teacher.request_timeout_s * teacher.max_attempts)


async def calibrate(context: StageContext) -> dict[str, Any]:
    """Score patches and commands of the tasks that were kept out; fit the calibration, measure fidelity."""
    if context.config.world_model.calibration == "none":
        return {}
    source, episodes = await calibration_episodes(context)
    async with world_client(context, STAGE.name) as client:
        record = await calibrated(context, client, source, episodes)
    return record | world_endpoint_record(context, STAGE.name)


async def calibrated(
    context: StageContext, client: WorldModelClient, source: str, episodes: list[ScoredTrajectory]
) -> dict[str, Any]:
    """The calibration of the client's model on `episodes` (`source` played them), kept on disk, and its fidelity."""
    config, seed = context.config.world_model, context.config.seed
    record: dict[str, Any] = {}
    if "reward" in config.roles:
        judged_episodes = episodes if config.show_observed else [unobserved(one) for one in episodes]
        patches = chosen_patches(judged_episodes, config.calibration_samples, seed)
        judged, agreement = await judged_patches(client, patches, context_of(context), seed)
        by_task: dict[str, list[Judged]] = {}
        for one in judged:
            if one.probability is not None:
                by_task.setdefault(one.instance_id, []).append((one.probability, one.resolved))
        flat = [one for of_task in by_task.values() for one in of_task]
        if not flat:
            context.progress.say(
                f"world-model: none of {len(judged)} kept-out patches has a readable report, so scores stay uncalibrated "
                "(more tasks, a longer training, or a larger world_model.max_report_tokens)"
            )
        method = config.calibration if flat else "none"
        calibration = CALIBRATIONS[method]([one[0] for one in flat], [one[1] for one in flat])
        write_calibration(context.folder.hf("world-model"), calibration, scorer_name(config))
        record["calibration"] = {
            "of": scorer_name(config),
            "method": method,
            "episodes_of": source,
            "patches": len(flat),
            "unscored": len(judged) - len(flat),
            "graders": sorted({one.grader for one in patches}),
        }
        if flat:
            record["kept_out_quality"] = scorer_quality(list(by_task.values()), seed=seed)
        record["kept_out_reports"] = agreement
    if "transition" in config.roles:
        commands = [(one.trajectory.instance_id, executed) for one in episodes for executed in one.executed]
        record["kept_out_runs"] = await measured_runs(client, commands, config.calibration_samples, seed)
    return record


async def calibration_episodes(context: StageContext) -> tuple[str, list[ScoredTrajectory]]:
    """Graded episodes of the tasks that were kept out, and who played them: the run's newest policy, now, since that is whose
    patches will be judged; the recorded rollouts where there is no policy yet, or world_model.calibration_episodes is 0."""
    config = context.config.world_model
    policy = newest_policy(context.config, context.folder.stage_records())
    if policy is None or config.calibration_episodes == 0:
        recorded = training_trajectories(context)
        return "recorded", [one for one in recorded if is_kept_out(one.trajectory.instance_id, config.calibration_share)]
    tasks = [task for task in tasks_of(context, "train") if is_kept_out(task.instance_id, config.calibration_share)]
    tasks = tasks[: max(1, config.calibration_samples // config.calibration_episodes)]
    await context.fleet.serve(policy)
    groups = await play_policy(context, f"calibration-{policy}", policy, tasks, config.calibration_episodes)
    return policy, [one for group in groups for one in group.members]


def chosen_patches(episodes: list[ScoredTrajectory], most: int, seed: int) -> list[ScoredTrajectory]:
    """At most `most` episodes with a really graded patch and a context, chosen by the seed. Equal patches stay: a calibration is
    about patches as they come."""
    graded = [one for one in episodes if one.context is not None and not one.grader.startswith("swr/")]

    def draw(one: ScoredTrajectory) -> bytes:
        names = (str(seed), one.trajectory.instance_id, one.trajectory.policy_name, str(one.trajectory.sample_index))
        return hashlib.sha256("\0".join((*names, one.trajectory.patch.diff)).encode("utf-8", "replace")).digest()

    return sorted(graded, key=draw)[:most]


STAGE = Stage("world-model", ("rollout",), train_world_model)
