"""Curation: difficulty per task, named filters, a cap and a split; the trajectories that SFT learns from, and the funnel."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson

from cluster.funnel_chart import funnel_chart
from cluster.funnel_table import funnel_table
from cluster.group_store import GroupStoreError, count_lost, read_facts, read_outcomes
from cluster.run_folder import write_atomically
from cluster.stage import Stage, StageContext, StageError
from cluster.svg_charts import standalone_svg
from configs.curate_config import CurateConfig
from envpool.difficulty import (
    DifficultyError,
    DifficultyIndex,
    TaskDifficulty,
    difficulty_histogram,
    difficulty_index,
    difficulty_of_outcomes,
    read_reward_rows,
)
from envpool.problem_store import TaskStoreError
from envpool.task_columns import TaskOrigin, read_task_origins
from verifier.trajectory_curation import Curation, CurationRules, curate_trajectories
from verifier.trajectory_filter import filter_limits, select_filters

UNKNOWN_SOURCE = "unknown"
FUNNEL_FILE = "curation_funnel.svg"
NAN = float("nan")


async def curate(context: StageContext) -> dict[str, Any]:
    """Reads trajectories/rollout; writes curated.json and curated_heldout.json (the (instance_id, sample_index) pairs that
    are kept), difficulty.jsonl (a line per task) and curation_funnel.svg."""
    rollout = context.folder.root / "trajectories" / "rollout"
    try:
        rules = curation_rules(context.config.curate, context.config.sft.max_tokens)
        origins = read_task_origins(context.folder.tasks)
        played = difficulty_of_outcomes(read_outcomes(rollout))
        statistics = statistics_index(context.config.curate, played)
        difficulty = joined_difficulty(played, statistics, origins)
        result, lost = curate_rollout(rollout, rules, difficulty, origins), count_lost(rollout)
    except (GroupStoreError, DifficultyError, TaskStoreError, ValueError) as error:
        raise StageError(f"curate: {error}") from error
    funnels = result.funnels
    context.progress.console.print(funnel_table(funnels, result.fails))
    for key, means in list(statistics.conflicts.items())[:3]:
        context.progress.say(
            f"curate: {key} has different means in the statistics ({', '.join(f'{m:g}' for m in means)}); unused"
        )
    if not result.train:
        raise StageError("curation left no trajectory: use more samples or other teachers (rollout.policies), or fewer filters")
    write_results(context.folder.root, result, difficulty, context.config.curate)
    return {
        "difficulty": difficulty_record(difficulty, context.config.curate),
        "histogram": difficulty_histogram(one.mean for one in difficulty.values()),
        "statistics": statistics_record(context.config.curate, statistics, played, difficulty),
        "funnel": funnels[-1].trajectories.steps,
        "funnels": [funnel.as_dict() for funnel in funnels],
        "fails_by_itself": result.fails,
        "lost": lost,
        "split": {
            "seed": rules.split_seed,
            "heldout_share": rules.heldout_share,
            "train": len(result.train),
            "heldout": len(result.heldout),
        },
        "sft_samples": len(result.train),
    }


def curation_rules(config: CurateConfig, sft_max_tokens: int) -> CurationRules:
    """The rules a configuration asks for. Raises ValueError in one line."""
    return CurationRules(
        filters=select_filters(config.filters),
        limits=filter_limits(config, sft_max_tokens),
        max_per_task=config.max_per_task,
        heldout_share=config.heldout_share,
        split_seed=config.split_seed,
    )


def statistics_index(config: CurateConfig, played: DifficultyIndex) -> DifficultyIndex:
    """The means that count: those of the statistics files when there are any, else those of the played episodes."""
    if not config.statistics:
        return played
    return difficulty_index(row for path in config.statistics for row in read_reward_rows(Path(path)))


def joined_difficulty(
    played: DifficultyIndex, statistics: DifficultyIndex, origins: Mapping[str, TaskOrigin]
) -> dict[str, TaskDifficulty]:
    """The statistics of every played task, by instance id, else by base commit; tasks without any are left out."""
    found = {}
    for instance_id in played.by_key:
        commit = (origins[instance_id].base_commit,) if instance_id in origins else ()
        if (row := statistics.find(instance_id, *commit)) is not None:
            found[instance_id] = TaskDifficulty(instance_id, row.num_attempts, row.mean)
    return found


def curate_rollout(
    folder: Path, rules: CurationRules, difficulty: Mapping[str, TaskDifficulty], origins: Mapping[str, TaskOrigin]
) -> Curation:
    """Streams the scalar columns of a rollout folder through the rules. Raises GroupStoreError, TrajectoryFilterError."""

    def mean_of(instance_id: str) -> float:
        return difficulty[instance_id].mean if instance_id in difficulty else NAN

    def source_of(instance_id: str) -> str:
        return origins[instance_id].source if instance_id in origins else UNKNOWN_SOURCE

    available = Counter(origin.source for origin in origins.values() if origin.split == "train")
    return curate_trajectories(read_facts(folder, mean_of), rules, source_of, available)


def write_results(root: Path, result: Curation, difficulty: Mapping[str, TaskDifficulty], config: CurateConfig) -> None:
    """The files of a curation; the chosen pairs come last, so that they never point to an older funnel."""
    lines = [orjson.dumps(difficulty_line(row, config)) for row in difficulty.values()]
    write_atomically(root / "difficulty.jsonl", b"\n".join(lines) + b"\n")
    chart = funnel_chart("What survives curation: trajectories", result.funnels)
    write_atomically(root / FUNNEL_FILE, standalone_svg(chart).encode())
    write_atomically(root / "curated_heldout.json", orjson.dumps(result.heldout))
    write_atomically(root / "curated.json", orjson.dumps(result.train))


def difficulty_line(row: TaskDifficulty, config: CurateConfig) -> dict[str, Any]:
    """One task, in the form `curate.statistics` reads."""
    return {
        "instance_id": row.instance_id,
        "reward_mean": row.mean,
        "num_attempts": row.num_attempts,
        "sft_band": config.mean_low <= row.mean < config.mean_high,
        "rl_band": config.rl_mean_low <= row.mean < config.mean_high,
    }


def difficulty_record(difficulty: Mapping[str, TaskDifficulty], config: CurateConfig) -> dict[str, Any]:
    """Tasks by outcome and band."""
    rows = [difficulty_line(row, config) for row in difficulty.values()]
    means = [row["reward_mean"] for row in rows]
    return {
        "rows": len(rows),
        "all_fail": sum(mean <= 0 for mean in means),
        "mixed": sum(0 < mean < 1 for mean in means),
        "all_pass": sum(mean >= 1 for mean in means),
        "sft_band": sum(row["sft_band"] for row in rows),
        "rl_band": sum(row["rl_band"] for row in rows),
    }


def statistics_record(
    config: CurateConfig, statistics: DifficultyIndex, played: DifficultyIndex, difficulty: Mapping[str, TaskDifficulty]
) -> dict[str, Any]:
    """Where the means come from, and which tasks have none."""
    return {
        "files": list(config.statistics),
        "keys": len(statistics.by_key),
        "repeated_keys": statistics.repeated,
        "conflicting_keys": len(statistics.conflicts),
        "broken": list(statistics.broken[:20]),
        "tasks_without": len(played.by_key) - len(difficulty),
    }


STAGE = Stage("curate", ("rollout",), curate)
