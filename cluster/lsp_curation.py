"""The facts about language-server use that curation's filters `lsp_calls` and `lsp_judge` need: counted, trimmed, judged."""

import asyncio
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import orjson

from cluster.group_store import read_groups
from configs.curate_config import CurateConfig
from envpool.curation.lsp_turns import num_lsp_successes, useless_lsp_turns
from envpool.curation.turn_deletion import without_turns
from envpool.endpoints.chat_endpoint import ChatEndpoint
from envpool.endpoints.token_usage import UsageLedger
from envpool.trajectory import Trajectory
from verifier.lsp_judge import Judgement, LspVerdict, judge_lsp_use
from verifier.trajectory_curation import CurationRules, Pair
from verifier.trajectory_filter import TrajectoryFacts

CALLS, JUDGE = "lsp_calls", "lsp_judge"
JUDGE_LEDGER = "judge_usage.jsonl"
VERDICTS_FILE = "lsp_verdicts.jsonl"
DELETIONS_FILE = "curated_deletions.json"


@dataclass
class LspFacts:
    """Per trajectory: successful calls, turns to take out, verdict. `judged` counts this run's verdicts by word."""

    successes: dict[Pair, int] = field(default_factory=dict)
    deletions: dict[Pair, tuple[int, ...]] = field(default_factory=dict)
    verdicts: dict[Pair, str] = field(default_factory=dict)

    def enriched(self, stream: Iterable[TrajectoryFacts]) -> Iterator[TrajectoryFacts]:
        for facts in stream:
            pair = (facts.instance_id, facts.sample_index)
            yield replace(facts, num_lsp_successes=self.successes.get(pair, 0), lsp_verdict=self.verdicts.get(pair, ""))

    def record(self, kept: Iterable[Pair]) -> dict[str, Any]:
        """For stages.json."""
        trimmed = [len(self.deletions[pair]) for pair in kept if self.deletions.get(pair)]
        verdicts = Counter(self.verdicts.values())
        return {
            "trajectories_with_calls": sum(count > 0 for count in self.successes.values()),
            "trimmed": len(trimmed),
            "turns_deleted": sum(trimmed),
            "verdicts": {verdict.value: verdicts[verdict.value] for verdict in LspVerdict},
        }


async def collect_lsp_facts(
    root: Path, rollout: Path, stream: Iterable[TrajectoryFacts], rules: CurationRules, config: CurateConfig
) -> LspFacts:
    """Count every trajectory's calls; with `lsp_judge` among the filters, judge those that pass all the others.

    Verdicts are kept in lsp_verdicts.jsonl: a second run asks only for what is missing. Raises PolicyError when the endpoint
    broke (what was judged before is kept), GroupStoreError for damaged shards.
    """
    found = LspFacts(verdicts=stored_verdicts(root / VERDICTS_FILE, config) if JUDGE in rules.filters else {})
    for trajectory in all_trajectories(rollout):
        pair = (trajectory.instance_id, trajectory.sample_index)
        found.successes[pair] = num_lsp_successes(trajectory.turns)
        if deleted := useless_lsp_turns(trajectory.turns):
            found.deletions[pair] = deleted
    if JUDGE in rules.filters:
        others = [keep for name, keep in rules.filters.items() if name != JUDGE]
        wanted = {
            (facts.instance_id, facts.sample_index)
            for facts in found.enriched(stream)
            if all(keep(facts, rules.limits) for keep in others)
        }
        await judge_missing(root, rollout, wanted - set(found.verdicts), found, config)
    return found


async def judge_missing(root: Path, rollout: Path, wanted: set[Pair], found: LspFacts, config: CurateConfig) -> None:
    """Judge these trajectories, at most `judge_concurrency` at once, each written down when it is decided."""
    endpoint = ChatEndpoint(config.lsp.judge, config.lsp.judge_deadline_s, ledger=UsageLedger(root / JUDGE_LEDGER))
    free = asyncio.Semaphore(config.lsp.judge_concurrency)

    async def judge(trajectory: Trajectory, pair: Pair) -> None:
        try:
            judgement = await judge_lsp_use(trajectory, endpoint, config.lsp)
        finally:
            free.release()
        found.verdicts[pair] = judgement.verdict.value
        append_verdict(root / VERDICTS_FILE, pair, judgement, config)

    try:
        async with asyncio.TaskGroup() as running:
            for trajectory in all_trajectories(rollout):
                pair = (trajectory.instance_id, trajectory.sample_index)
                if pair in wanted:
                    await free.acquire()
                    running.create_task(judge(trimmed(trajectory, found.deletions), pair))
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None
    finally:
        await endpoint.close()


def trimmed(trajectory: Trajectory, deletions: Mapping[Pair, tuple[int, ...]]) -> Trajectory:
    """The trajectory without its useless calls."""
    return without_turns(trajectory, deletions.get((trajectory.instance_id, trajectory.sample_index), ()))


def all_trajectories(rollout: Path) -> Iterator[Trajectory]:
    """Every stored trajectory, in order. Raises GroupStoreError."""
    return (member.trajectory for group in read_groups(rollout) for member in group.members)


def stored_verdicts(path: Path, config: CurateConfig) -> dict[Pair, str]:
    """Valid verdicts of the same judge under the same rule; torn lines are left out."""
    verdicts = {}
    for line in path.read_bytes().splitlines() if path.is_file() else ():
        try:
            row = orjson.loads(line)
            if row["judge"] == judge_name(config) and row["verdict"] in ("yes", "no"):
                verdicts[str(row["instance_id"]), int(row["sample_index"])] = row["verdict"]
        except (KeyError, TypeError, ValueError):
            continue
    return verdicts


def append_verdict(path: Path, pair: Pair, judgement: Judgement, config: CurateConfig) -> None:
    row = {
        "instance_id": pair[0],
        "sample_index": pair[1],
        "judge": judge_name(config),
        "verdict": judgement.verdict.value,
        "tries": judgement.tries,
        "report": judgement.report,
    }
    with path.open("ab") as file:
        file.write(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE))


def judge_name(config: CurateConfig) -> str:
    """Who judged, and by which rule: verdicts of another are not taken over."""
    return f"{config.lsp.judge.model}{' (hard rule)' if config.lsp.hard_rule else ''}"


def read_deletions(root: Path) -> dict[Pair, tuple[int, ...]]:
    """Turns to take out of curated trajectories; empty for a run curated without LSP filters."""
    path = root / DELETIONS_FILE
    rows = orjson.loads(path.read_bytes()) if path.is_file() else []
    return {(name, index): tuple(turns) for name, index, turns in rows}
