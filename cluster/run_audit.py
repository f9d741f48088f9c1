"""Checks a run folder's GRPO records against each other: `python -m cluster.run_audit RUN [--json]`; exit code 1 with problems.

Reads only what is on disk: the ledger, the turn journals, the trained trajectories and the metrics. Made for runs whose
processes were killed:

- No group trains twice. A synchronous step trains on groups of its own plan only.
- Every step's trained trajectories are on disk: the ledger's groups, each episode once, made of turns that are journalled. Only
  the newest step of an unfinished run may lack them: a process can die between "taken" and the end of the step.
- A journal holds finished turns only, so one turn of an episode may stand there twice for each process that died (`deaths`): one
  that a cancelled worker finished after its follower had read the journal. More means that turns were thrown away.
- No trained token is older than the bound; with late_groups=mask such tokens are masked instead. Steps that were trained again
  are equal to the first time.
- A finished run has trained all its steps, and the books of its last step are the ledger's. Its window is empty, since pacing
  begins no group that no step is left for. Groups may stay behind where that is no fault: when `patience` ended an asynchronous
  run early, when late_groups is mask or drop (a straggler of the last step), and replacements (zero_spread_groups=replace) that a
  dead process had begun and the last step did not ask for again.

A group that was rejected and then begun again (a synchronous step that came to nothing, a replacement asked for once more) counts
as what became of it last. Rejected groups and lost episodes are failures of infrastructure that a run may have and counts;
`strict` calls them problems, as they are where nothing failed but processes that were killed: nothing may be lost then.
"""

import argparse
import sys
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from cluster.group_store import read_shard
from cluster.run_folder import RunFolder
from cluster.stages.grpo_stage import group_seed
from cluster.window_ledger import LedgerRecord, read_ledger
from configs.run_config import RunConfig
from configs.stage_loading import load_config
from envpool.agent.turn_journal import JournalEntry, read_journal
from envpool.trajectory import Turn
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


def audit_run(root: Path, config: RunConfig, deaths: int = 0, strict: bool = False) -> Audit:
    """Audit the GRPO stage of a run, finished or not; see the top of this file. `deaths`: how many of its processes were killed.

    Raises OSError or ValueError for files that cannot be read.
    """
    audit = Audit()
    record = read_ledger(root / "window" / "ledger.jsonl")
    finished = "grpo" in RunFolder(root).stage_records()
    _check_ledger(audit, record)
    journal = _journalled(root, config, record)
    _check_repeats(audit, journal, deaths)
    for step, keys in sorted(record.taken.items()):
        _check_step(audit, root, config, step, keys, journal, needed=finished or step < max(record.taken))
    books = _check_metrics(audit, root, config)
    if finished:
        _check_end(audit, config, record, books)
    if strict:
        for key, reason in record.rejected.items():
            audit.require(False, f"group {key} was rejected: {reason}")
        audit.require(not audit.counts["lost episodes"], f"{audit.counts['lost episodes']} episodes were lost")
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
        audit.require(key in record.begun, f"group {key} trained and was never begun")
        audit.require(key in record.completed, f"group {key} trained and was never finished")
        audit.require(key not in record.rejected, f"group {key} trained and was rejected")
    audit.require(sorted(record.taken) == list(range(len(record.taken))), f"steps {sorted(record.taken)} are not without a gap")


def _check_end(audit: Audit, config: RunConfig, record: LedgerRecord, books: Mapping[str, float]) -> None:
    """What holds once the stage is finished; `books`: the newest row of the metrics."""
    grpo, counts = config.grpo, audit.counts
    early = grpo.patience > 0 and counts["steps"] < grpo.num_steps
    audit.require(early or counts["steps"] == grpo.num_steps, f"finished after {counts['steps']} of {grpo.num_steps} steps")
    may_leave = early or grpo.late_groups != "cut" or grpo.zero_spread_groups == "replace"
    if not may_leave:
        for key in record.in_flight:
            audit.require(False, f"group {key} was begun, and no step trained on it when the run ended")
    for name in ("submitted", "accepted", "rejected", "running"):
        said = books.get(f"window/{name}")
        audit.require(said == counts[name], f"the last step says that {said} groups were {name}, the ledger {counts[name]}")


Journalled = dict[tuple[GroupKey, int, int], list[int]]
"""(group, sample_index, turn_index) to a checksum of each turn that was journalled there."""


def _journalled(root: Path, config: RunConfig, record: LedgerRecord) -> Journalled:
    """The turns of the ledger's groups."""
    keys = {(key.task_id, group_seed(config.seed, key)): key for key in record.begun}
    found: Journalled = {}
    for entry in _entries(root):
        key = keys.get((entry.instance_id, entry.seed))
        if key is not None:
            found.setdefault((key, entry.sample_index, entry.turn_index), []).append(_checksum(entry.turn))
    return found


def _checksum(turn: Turn) -> int:
    """Of the sampled tokens and the policies that sampled them."""
    return zlib.crc32(np.concatenate([turn.completion_ids, turn.policy_versions]).astype(np.int32).tobytes())


def _check_repeats(audit: Audit, journal: Journalled, deaths: int) -> None:
    repeats = Counter[tuple[GroupKey, int]]()
    for (key, sample, _), sampled in journal.items():
        repeats[key, sample] += len(sampled) - 1
    audit.counts["turns"] = sum(map(len, journal.values()))
    audit.counts["turns sampled twice"] = sum(repeats.values())
    for (key, sample), count in repeats.items():
        audit.require(
            count <= deaths, f"episode {sample} of group {key} has {count} turns that were sampled again, with {deaths} deaths"
        )


def _entries(root: Path) -> Iterator[JournalEntry]:
    for path in sorted((root / "journal").glob("*.jsonl")):
        yield from read_journal(path)


def _check_step(
    audit: Audit, root: Path, config: RunConfig, step: int, keys: tuple[GroupKey, ...], journal: Journalled, needed: bool
) -> None:
    """The trained trajectories are the ledger's groups, whole, made of journalled turns, of versions that may train. Without
    `needed` they may be missing."""
    folder, name = root / "trajectories" / "grpo", f"{step + 1:05d}"
    if not (folder / f"lost_{name}.jsonl").exists():
        audit.require(not needed, f"step {step} has trained and its trajectories are not there")
        return
    groups = list(read_shard(folder / f"lost_{name}.jsonl", folder / f"shard_{name}.parquet"))
    names = [group.instance_id for group in groups]
    audit.require(
        names == [key.task_id for key in keys], f"step {step} trained on {names}, the ledger says {list(map(str, keys))}"
    )
    for key, group in zip(keys, groups, strict=False):
        audit.require(
            config.grpo.max_staleness > 0 or key.step == step, f"step {step} of a synchronous run trained on group {key}"
        )
        played = [member.trajectory.sample_index for member in group.members] + [lost.sample_index for lost in group.lost]
        wanted = list(range(config.grpo.group_size))
        audit.require(sorted(played) == wanted, f"group {key} has episodes {sorted(played)} of {config.grpo.group_size}")
        audit.counts["trained trajectories"] += len(group.members)
        audit.counts["lost episodes"] += len(group.lost)
        _check_turns(audit, key, group, journal)
        _check_versions(audit, config, step, key, group)
    audit.counts["checked steps"] += 1


def _check_turns(audit: Audit, key: GroupKey, group: Group, journal: Journalled) -> None:
    for member in group.members:
        sample = member.trajectory.sample_index
        for index, turn in enumerate(member.trajectory.turns):
            known = _checksum(turn) in journal.get((key, sample, index), ())
            audit.require(known, f"turn {index} of episode {sample} of group {key} trained and is in no journal")


def _check_versions(audit: Audit, config: RunConfig, step: int, key: GroupKey, group: Group) -> None:
    found = np.concatenate([np.zeros(0, np.int32), *(_versions(member) for member in group.members)])
    bound = config.grpo.max_staleness if config.grpo.late_groups != "mask" else step
    if len(found):
        low, high = int(found.min()), int(found.max())
        fits = high <= step and low >= step - bound
        audit.require(fits, f"group {key} has tokens of versions {low} to {high} in step {step}")


def _versions(member: ScoredTrajectory) -> Any:
    return np.concatenate([np.zeros(0, np.int32), *(turn.policy_versions for turn in member.trajectory.turns)])


def _check_metrics(audit: Audit, root: Path, config: RunConfig) -> dict[str, Any]:
    """Returns the newest row."""
    first: dict[int, dict[str, Any]] = {}
    row: dict[str, Any] = {}
    for row in _metric_rows(root):
        step = row["step"]
        running = row["window/submitted"] - row["window/accepted"] - row["window/rejected"]
        audit.require(running == row["window/running"], f"step {step}: the window's counts do not balance")
        stale = row["rollout/stale_tokens"]
        audit.require(config.grpo.late_groups == "mask" or not stale, f"step {step}: {stale:g} tokens were too old to train")
        if step in first:
            audit.counts["steps trained again"] += 1
            for name in EQUAL_AGAIN:
                was, now = first[step].get(name), row.get(name)
                audit.require(was == now, f"step {step} trained again: {name} {now}, at first {was}")
        first.setdefault(step, row)
    return row


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
    parser.add_argument(
        "--deaths", type=int, default=0, help="processes of the run that were killed: so many turns of an episode may repeat"
    )
    parser.add_argument("--strict", action="store_true", help="rejected groups and lost episodes are problems, too")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    audit = audit_run(options.run, load_config(options.run / "config.yaml", options.settings), options.deaths, options.strict)
    if options.json:
        sys.stdout.write(orjson.dumps({"problems": audit.problems, "counts": audit.counts}).decode() + "\n")
    else:
        sys.stdout.write("".join(f"{name}: {count}\n" for name, count in audit.counts.items()))
        sys.stdout.write("".join(f"problem: {problem}\n" for problem in audit.problems) or "everything holds\n")
    sys.exit(bool(audit.problems))


if __name__ == "__main__":
    main()
