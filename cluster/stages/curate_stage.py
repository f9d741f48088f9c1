"""Curation: difficulty per task, the mixed-results filter, format filters; the trajectories that SFT learns from."""

from dataclasses import asdict
from typing import Any

import orjson

from cluster.group_store import read_groups
from cluster.run_folder import write_atomically
from cluster.stage import Stage, StageContext, StageError
from envpool.difficulty import difficulty_histogram
from envpool.funnel import Funnel
from verifier.trajectory_filter import filter_trajectories, format_filters, mixed_groups


async def curate(context: StageContext) -> dict[str, Any]:
    """Reads trajectories/rollout, writes curated.json: the (instance_id, sample_index) pairs that are kept."""
    groups = list(read_groups(context.folder.root / "trajectories" / "rollout"))
    means = [sum(m.resolved for m in group.members) / len(group.members) for group in groups if group.members]
    mixed, counts = mixed_groups(groups)
    members = [member for group in mixed for member in group.members]
    kept, filtered = filter_trajectories(members, format_filters(context.config.sft.max_tokens))
    if not kept:
        raise StageError("curation left no trajectory: use more samples or other teachers (rollout.policies)")
    funnel = Funnel((("played", sum(len(group.members) for group in groups)), ("mixed", len(members))))
    for name, dropped in filtered.dropped.items():
        funnel = funnel.then(name, funnel.steps[-1][1] - dropped)
    chosen = [[member.trajectory.instance_id, member.trajectory.sample_index] for member in kept]
    write_atomically(context.folder.root / "curated.json", orjson.dumps(chosen))
    return {
        "difficulty": {"rows": len(means), **asdict(counts)},
        "histogram": difficulty_histogram(means),
        "funnel": funnel.steps,
        "sft_samples": len(kept),
    }


STAGE = Stage("curate", ("rollout",), curate)
