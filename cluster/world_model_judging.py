"""Scoring many patches and commands with the run's world model: bounded, and compared with what really happened."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from actors.worker_policies import WORLD_LEDGERS, world_model_policy
from cluster.concurrent_calls import all_at_once
from cluster.episode_playing import task_seed
from cluster.stage import StageContext
from envpool.endpoints.token_usage import read_ledgers, usage_record
from envpool.policy import Completion, Generate, GenerateRequest
from envpool.simulation.transition_format import ExecutedCommand, InvalidRun, SimulatedRun
from verifier.reward import ScoredTrajectory
from verifier.simulated_scoring import Vote, mean_probability
from verifier.world_model_client import WorldModelClient
from verifier.world_model_data import ContextOf, real_statuses
from verifier.world_model_fidelity import report_agreement, run_fidelity

MAX_REQUESTS = 128


@dataclass(frozen=True)
class JudgedPatch:
    """A patch's votes, their mean probability (None: no readable report), and whether it really resolves."""

    instance_id: str
    votes: tuple[Vote | None, ...]
    probability: float | None
    resolved: bool


@asynccontextmanager
async def world_client(context: StageContext, asker: str) -> AsyncIterator[WorldModelClient]:
    """The world model as this process asks it, at most `MAX_REQUESTS` at once: world_model.endpoint, or the run's engines, which
    then hold the trained model. An endpoint's usage is kept in the run folder under the name `asker`."""
    config, fleet = context.config, context.fleet
    ledger = context.folder.root / "journal" / WORLD_LEDGERS / f"{asker}.jsonl"
    endpoint = world_model_policy(config, fleet.chat, ledger) if config.world_model.endpoint.base_url else None
    if endpoint is None:
        await fleet.serve("world-model")
    generate: Generate = endpoint or await fleet.generate()
    slots = asyncio.Semaphore(MAX_REQUESTS)

    async def bounded(request: GenerateRequest) -> Completion:
        async with slots:
            return await generate(request)

    try:
        yield WorldModelClient(bounded, fleet.chat, config.world_model, config.engine.max_model_len)
    finally:
        if endpoint is not None:
            await endpoint.close()


def world_endpoint_record(context: StageContext, askers: str) -> dict[str, Any]:
    """`{"endpoint": ...}`: requests, the endpoint's own tokens, and dollars by the configured prices, of all runs so far of those
    whose names match `askers` (a glob); {} without an endpoint."""
    if not context.config.world_model.endpoint.base_url:
        return {}
    ledgers = sorted((context.folder.root / "journal" / WORLD_LEDGERS).glob(f"{askers}.jsonl"))
    totals = usage_record(read_ledgers(ledgers))
    return {"endpoint": {name: value for name, value in totals.items() if name != "sessions"}}


async def judged_patches(
    client: WorldModelClient, patches: Sequence[ScoredTrajectory], context_of: ContextOf, seed: int
) -> tuple[list[JudgedPatch], dict[str, float]]:
    """Votes on every patch, in order, and how far the simulated reports agree with the real ones. Equal patches of a task that
    saw the same are read once."""
    distinct = {_reading(patch): patch for patch in patches}
    found = await all_at_once(patch_votes(client, patch, context_of, seed) for patch in distinct.values())
    by_reading = dict(zip(distinct, found, strict=True))
    votes = [by_reading[_reading(patch)] for patch in patches]
    judged = [
        JudgedPatch(patch.trajectory.instance_id, of_one, mean_probability(of_one), patch.resolved)
        for patch, of_one in zip(patches, votes, strict=True)
    ]
    pairs = [
        (vote.statuses, real_statuses(patch))
        for patch, of_one in zip(patches, votes, strict=True)
        for vote in of_one
        if vote is not None
    ]
    return judged, report_agreement(pairs)


def _reading(patch: ScoredTrajectory) -> tuple[str, str, str]:
    """What a patch's votes depend on."""
    return patch.trajectory.instance_id, patch.trajectory.patch.diff, patch.context.observed if patch.context else ""


async def patch_votes(
    client: WorldModelClient, patch: ScoredTrajectory, context_of: ContextOf, seed: int
) -> tuple[Vote | None, ...]:
    """The votes on one patch; () where nothing can be shown. Their seeds depend on the run's seed, the task and the patch."""
    shown = context_of(patch)
    if shown is None or patch.trajectory.patch.is_empty:
        return ()
    trajectory = patch.trajectory
    digest = hashlib.sha256(trajectory.patch.diff.encode("utf-8", "surrogatepass")).hexdigest()
    return await client.votes(f"swr/{trajectory.instance_id}", shown, task_seed(seed, "swr", trajectory.instance_id, digest))


async def measured_runs(
    client: WorldModelClient, commands: Sequence[tuple[str, ExecutedCommand]], most: int, seed: int
) -> dict[str, Any]:
    """Simulate at most `most` distinct recorded commands (chosen by the seed) and compare."""
    distinct = {(instance, one.context.command, repr(one.context.code)): one for instance, one in commands}
    keys = sorted(distinct, key=lambda key: hashlib.sha256("\0".join((str(seed), *key)).encode("utf-8", "replace")).digest())
    chosen = [distinct[key] for key in keys[:most]]

    async def simulated(command: ExecutedCommand) -> SimulatedRun | InvalidRun:
        return await client.run(command.context)

    runs = await all_at_once(simulated(command) for command in chosen)
    record: dict[str, Any] = run_fidelity(list(zip(runs, chosen, strict=True)))
    if chosen:
        record["real_failures"] = sum(one.exit_code != 0 for one in chosen) / len(chosen)
    return record
