"""Curation: difficulty per task, named filters, a cap and a split; the trajectories that SFT learns from, and the funnel."""

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import orjson

from cluster.funnel_chart import funnel_chart
from cluster.funnel_table import funnel_table
from cluster.group_store import GroupStoreError, count_lost, read_facts, read_outcomes
from cluster.lsp_curation import CALLS, DELETIONS_FILE, JUDGE, JUDGE_LEDGER, LspFacts, collect_lsp_facts
from cluster.run_folder import write_atomically
from cluster.stage import Stage, StageContext, StageError
from cluster.svg_charts import standalone_svg
from configs.curate_config import CurateConfig
from envpool.curation.difficulty import (
    DifficultyError,
    DifficultyIndex,
    TaskDifficulty,
    difficulty_histogram,
    difficulty_index,
    difficulty_of_outcomes,
    read_reward_rows,
)
from envpool.endpoints.token_usage import read_ledgers, usage_record
from envpool.policy import PolicyError
from envpool.task_sets.problem_store import TaskStoreError
from envpool.task_sets.task_columns import TaskOrigin, read_task_origins
from verifier.trajectory_curation import Curation, CurationRules, curate_trajectories
from verifier.trajectory_filter import TrajectoryFacts, filter_limits, select_filters

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
        lsp = await lsp_facts(context, rollout, rules, difficulty)
        result, lost = curate_rollout(rollout, rules, difficulty, origins, lsp), count_lost(rollout)
    except (GroupStoreError, DifficultyError, TaskStoreError, PolicyError, ValueError) as error:
        raise StageError(f"curate: {error}") from error
    funnels = result.funnels
    context.progress.console.print(funnel_table(funnels, result.fails))
    for key, means in list(statistics.conflicts.items())[:3]:
        context.progress.say(
            f"curate: {key} has different means in the statistics ({', '.join(f'{m:g}' for m in means)}); unused"
        )
    if not result.train:
        raise StageError("curation left no trajectory: use more samples or other teachers (rollout.policies), or fewer filters")
    write_results(context.folder.root, result, difficulty, context.config.curate, lsp)
    return {
        "difficulty": difficulty_record(difficulty, context.config.curate),
        "histogram": difficulty_histogram(one.mean for one in difficulty.values()),
        "statistics": statistics_record(context.config.curate, statistics, played, difficulty),
        "funnel": funnels[-1].trajectories.steps,
        "funnels": [funnel.as_dict() for funnel in funnels],
        "fails_by_itself": result.fails,
        "lost": lost,
        **({"lsp": lsp_record(context, lsp, result)} if lsp is not None else {}),
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
    folder: Path,
    rules: CurationRules,
    difficulty: Mapping[str, TaskDifficulty],
    origins: Mapping[str, TaskOrigin],
    lsp: LspFacts | None = None,
) -> Curation:
    """Streams the scalar columns of a rollout folder through the rules. Raises GroupStoreError, TrajectoryFilterError."""

    def source_of(instance_id: str) -> str:
        return origins[instance_id].source if instance_id in origins else UNKNOWN_SOURCE

    available = Counter(origin.source for origin in origins.values() if origin.split == "train")
    facts = facts_with_means(folder, difficulty)
    return curate_trajectories(facts if lsp is None else lsp.enriched(facts), rules, source_of, available)


def facts_with_means(folder: Path, difficulty: Mapping[str, TaskDifficulty]) -> Iterator[TrajectoryFacts]:
    """The scalar facts of every trajectory. Raises GroupStoreError."""
    return read_facts(folder, lambda name: difficulty[name].mean if name in difficulty else NAN)


async def lsp_facts(
    context: StageContext, rollout: Path, rules: CurationRules, difficulty: Mapping[str, TaskDifficulty]
) -> LspFacts | None:
    """What the filters about the language server need; None when none of them is asked for."""
    config = context.config.curate
    if not {CALLS, JUDGE} & set(rules.filters):
        return None
    if JUDGE in rules.filters and not config.lsp.judge.base_url:
        raise ValueError("the filter lsp_judge needs a judge: set curate.lsp.judge.base_url and curate.lsp.judge.model")
    return await collect_lsp_facts(context.folder.root, rollout, facts_with_means(rollout, difficulty), rules, config)


def lsp_record(context: StageContext, lsp: LspFacts, result: Curation) -> dict[str, Any]:
    """Counts, and what the judge took in this run so far."""
    record = lsp.record((*result.train, *result.heldout))
    ledger = context.folder.root / JUDGE_LEDGER
    return record | ({"judge": usage_record(read_ledgers([ledger]))} if ledger.is_file() else {})


def write_results(
    root: Path, result: Curation, difficulty: Mapping[str, TaskDifficulty], config: CurateConfig, lsp: LspFacts | None
) -> None:
    """The files of a curation; the chosen pairs come last, so that they never point to an older funnel."""
    lines = [orjson.dumps(difficulty_line(row, config)) for row in difficulty.values()]
    write_atomically(root / "difficulty.jsonl", b"\n".join(lines) + b"\n")
    chart = funnel_chart("What survives curation: trajectories", result.funnels)
    write_atomically(root / FUNNEL_FILE, standalone_svg(chart).encode())
    pairs = (*result.train, *result.heldout)
    deletions = [] if lsp is None else [(*pair, lsp.deletions[pair]) for pair in pairs if pair in lsp.deletions]
    write_atomically(root / DELETIONS_FILE, orjson.dumps(deletions))
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
