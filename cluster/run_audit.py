"""Checks a run folder's GRPO records against each other: `python -m cluster.run_audit RUN [--json]`; exit code 1 with problems.

Reads only what is on disk: the ledger, the turn journals, the trained trajectories and the metrics. Made for runs whose
processes were killed: no group trained twice or lost, no turn sampled twice, staleness within its bound, steps that were
trained again equal to the first time.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from cluster.group_store import read_shard
from cluster.stages.grpo_stage import group_seed
from cluster.window_ledger import LedgerRecord, read_ledger
from configs.run_config import RunConfig
from configs.stage_loading import load_config
from envpool.agent.turn_journal import JournalEntry, read_journal
from trainers.group_key import GroupKey
from verifier.reward import Group, ScoredTrajectory

EQUAL_AGAIN = ("loss", "grad_norm", "tokens", "trained_tokens", "reward/mean", "rollout/staleness")
"""Figures of a step that must come out equal to the last bit when it is trained again."""


@dataclass
class Audit:
    """What was found; `problems` is empty when everything holds."""

    problems: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    def require(self, holds: bool, problem: str) -> None:
        if not holds:
            self.problems.append(problem)


def audit_run(root: Path, config: RunConfig) -> Audit:
    """Audit the GRPO stage of a run, finished or not. Raises OSError or ValueError for files that cannot be read."""
    audit = Audit()
    record = read_ledger(root / "window" / "ledger.jsonl")
    _check_ledger(audit, record)
    journal = _journalled(root, config, record)
    audit.counts["turns"] = sum(journal.values())
    audit.counts["turns sampled twice"] = sum(count - 1 for count in journal.values())
    for (key, sample, turn), count in journal.items():
        audit.require(count <= 2, f"turn {turn} of episode {sample} of group {key} was sampled {count} times")
    for step, keys in sorted(record.taken.items()):
        _check_step(audit, root, config, step, keys)
    _check_metrics(audit, root, config)
    return audit


def _check_ledger(audit: Audit, record: LedgerRecord) -> None:
    taken = Counter(key for keys in record.taken.values() for key in keys)
    audit.counts |= Counter(
        {
            "submitted": len(record.begun),
            "accepted": sum(taken.values()),
            "rejected": len(record.rejected),
            "running": len(record.in_flight),
            "steps": len(record.taken),
        }
    )
    for key, count in taken.items():
        audit.require(count == 1, f"group {key} trained in {count} steps")
        audit.require(key in record.completed, f"group {key} trained and was never finished")
        audit.require(key not in record.rejected, f"group {key} trained and was rejected")
    audit.require(sorted(record.taken) == list(range(len(record.taken))), f"steps {sorted(record.taken)} are not without a gap")
    balance = len(record.begun) - sum(taken.values()) - len(record.rejected)
    audit.require(
        balance == len(record.in_flight), f"submitted - accepted - rejected = {balance}, running {len(record.in_flight)}"
    )


def _journalled(root: Path, config: RunConfig, record: LedgerRecord) -> Counter[tuple[GroupKey, int, int]]:
    """How often each turn of the ledger's groups was sampled: (group, sample_index, turn_index) to count."""
    keys = {(key.task_id, group_seed(config.seed, key)): key for key in record.begun}
    counts: Counter[tuple[GroupKey, int, int]] = Counter()
    for entry in _entries(root):
        key = keys.get((entry.instance_id, entry.seed))
        if key is not None:
            counts[key, entry.sample_index, entry.turn_index] += 1
    return counts


def _entries(root: Path) -> Iterator[JournalEntry]:
    for path in sorted((root / "journal").glob("*.jsonl")):
        yield from read_journal(path)


def _check_step(audit: Audit, root: Path, config: RunConfig, step: int, keys: tuple[GroupKey, ...]) -> None:
    """The trained trajectories are the ledger's groups, whole, made of journalled turns, of versions that may train."""
    folder, name = root / "trajectories" / "grpo", f"{step + 1:05d}"
    if not (folder / f"lost_{name}.jsonl").exists():
        return  # taken, and the process died while it trained
    groups = list(read_shard(folder / f"lost_{name}.jsonl", folder / f"shard_{name}.parquet"))
    names = [group.instance_id for group in groups]
    audit.require(
        names == [key.task_id for key in keys], f"step {step} trained on {names}, the ledger says {list(map(str, keys))}"
    )
    for key, group in zip(keys, groups, strict=False):
        played = len(group.members) + len(group.lost)
        audit.require(played == config.grpo.group_size, f"group {key} has {played} episodes of {config.grpo.group_size}")
        audit.counts["trained trajectories"] += len(group.members)
        audit.counts["lost episodes"] += len(group.lost)
        _check_versions(audit, config, step, key, group)
    audit.counts["checked steps"] += 1


def _check_versions(audit: Audit, config: RunConfig, step: int, key: GroupKey, group: Group) -> None:
    found = np.concatenate([np.zeros(0, np.int32), *(_versions(member) for member in group.members)])
    bound = config.grpo.max_staleness if config.grpo.late_groups != "mask" else step
    if len(found):
        low, high = int(found.min()), int(found.max())
        fits = high <= step and low >= step - bound
        audit.require(fits, f"group {key} has tokens of versions {low} to {high} in step {step}")


def _versions(member: ScoredTrajectory) -> Any:
    return np.concatenate([np.zeros(0, np.int32), *(turn.policy_versions for turn in member.trajectory.turns)])


def _check_metrics(audit: Audit, root: Path, config: RunConfig) -> None:
    first: dict[int, dict[str, Any]] = {}
    for row in _metric_rows(root):
        step = row["step"]
        running = row["window/submitted"] - row["window/accepted"] - row["window/rejected"]
        audit.require(running == row["window/running"], f"step {step}: the window's counts do not balance")
        audit.require(row["rollout/staleness_max"] <= config.grpo.max_staleness, f"step {step}: staleness above its bound")
        if step in first:
            audit.counts["steps trained again"] += 1
            for name in EQUAL_AGAIN:
                was, now = first[step].get(name), row.get(name)
                audit.require(was == now, f"step {step} trained again: {name} {now}, at first {was}")
        first.setdefault(step, row)


def _metric_rows(root: Path) -> Iterator[dict[str, Any]]:
    for line in (root / "metrics.jsonl").read_bytes().split(b"\n")[:-1]:
        try:
            row = orjson.loads(line)
        except orjson.JSONDecodeError:
            continue  # a line that a kill cut in two
        if row.get("stage") == "grpo":
            yield row


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("settings", nargs="*", help="key=value as the run was resumed with, beside its config.yaml")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    audit = audit_run(options.run, load_config(options.run / "config.yaml", options.settings))
    if options.json:
        sys.stdout.write(orjson.dumps({"problems": audit.problems, "counts": audit.counts}).decode() + "\n")
    else:
        sys.stdout.write("".join(f"{name}: {count}\n" for name, count in audit.counts.items()))
        sys.stdout.write("".join(f"problem: {problem}\n" for problem in audit.problems) or "everything holds\n")
    sys.exit(bool(audit.problems))


if __name__ == "__main__":
    main()
