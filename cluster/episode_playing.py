"""Playing many tasks at once: bounded, shown, stored, resumable."""

import asyncio
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from actors.group_request import GroupRequest
from cluster.concurrent_calls import all_at_once
from cluster.evaluation_stamp import num_put_aside
from cluster.group_store import GroupStore, read_groups
from cluster.stage import StageContext, StageError
from envpool.task import Task
from verifier.reward import Group, LostEpisode, ScoredTrajectory


def task_seed(seed: int, *words: str) -> int:
    """A seed that depends on the run's seed and names, the same on every machine."""
    return (seed * 1_000_003 + zlib.crc32("\0".join(words).encode())) % (1 << 31)


async def play_tasks(
    context: StageContext,
    stage: str,
    tasks: Sequence[Task],
    policies: Sequence[str],
    num_samples: int,
    temperature: float,
    max_turns: int = 0,
    real: bool = False,
) -> list[Group]:
    """One group per task; sample i is played by `policies[i % len(policies)]`. Groups stored by an earlier try are kept.
    `max_turns` replaces rollout.episode.max_turns, unless 0. `real`: no world model takes part; every evaluation asks for that.

    Raises StageError when not one episode of the stage could be played.
    """
    folder = context.folder.root / "trajectories" / stage
    wanted = {task.instance_id for task in tasks}
    done = {group.instance_id: group for group in read_groups(folder) if group.instance_id in wanted} if folder.exists() else {}
    # Other seeds than those of groups put aside: a group that goes on from the journal must not find their turns there.
    again = num_put_aside(folder)
    seeds_of = f"{stage}.{again}" if again else stage
    progress = context.progress.stage(stage, len(tasks))
    progress.advance(len(done))
    # Enough tasks in flight to keep every rollout worker's episodes busy while slow ones finish.
    in_flight = asyncio.Semaphore(max(2, 2 * context.config.rollout.concurrency // max(num_samples, 1)))
    resolved = [sum(m.resolved for g in done.values() for m in g.members), sum(len(g.members) for g in done.values())]

    async def play_one(task: Task, store: GroupStore) -> None:
        async with in_flight:
            group = await play_mixed(context, seeds_of, task, policies, num_samples, temperature, max_turns, real)
        done[task.instance_id] = group
        store.add(group)
        resolved[0] += sum(member.resolved for member in group.members)
        resolved[1] += len(group.members)
        progress.advance()
        progress.note(f"resolved {resolved[0] / max(resolved[1], 1):.1%}")

    with GroupStore(folder) as store:
        async with asyncio.TaskGroup() as running:
            for task in tasks:
                if task.instance_id not in done:
                    running.create_task(play_one(task, store))
    groups = [done[task.instance_id] for task in tasks]
    lost = [episode for group in groups for episode in group.lost]
    if lost and not any(group.members for group in groups):
        raise StageError(f"all {len(lost)} episodes of {stage} were lost to infrastructure; the first: {lost[0].error}")
    return groups


async def play_mixed(
    context: StageContext,
    stage: str,
    task: Task,
    policies: Sequence[str],
    num_samples: int,
    temperature: float,
    max_turns: int = 0,
    real: bool = False,
) -> Group:
    """One task played `num_samples` times by several policies; the members get distinct sample indices."""
    shares = Counter(policies[index % len(policies)] for index in range(num_samples))
    parts = await all_at_once(
        context.fleet.play(
            GroupRequest(
                task,
                policy,
                count,
                temperature,
                seed=task_seed(context.config.seed, stage, task.instance_id, policy),
                max_turns=max_turns,
                real=real,
            )
        )
        for policy, count in shares.items()
    )
    members: list[ScoredTrajectory] = []
    lost: list[LostEpisode] = []
    offset = 0
    for part, count in zip(parts, shares.values(), strict=True):
        for member in part.members:
            moved = replace(member.trajectory, sample_index=member.trajectory.sample_index + offset)
            members.append(replace(member, trajectory=moved))
        lost.extend(replace(episode, sample_index=episode.sample_index + offset) for episode in part.lost)
        offset += count
    return Group(task.instance_id, tuple(members), tuple(lost))
