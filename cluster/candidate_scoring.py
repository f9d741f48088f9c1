"""What test-time scaling knows of its candidates: votes and signals, taken from the store or asked for, with what they cost."""

import asyncio
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace

from cluster.concurrent_calls import all_at_once
from cluster.stage import StageContext
from cluster.task_selection import tasks_of
from cluster.vote_store import PatchVotes, SignalStore, TaskSignals, Votes, VoteStore
from cluster.weights_fingerprint import weights_fingerprint
from cluster.world_model_judging import patch_votes
from envpool.sandbox_errors import SandboxError, SandboxUnavailableError
from verifier.patch_sections import normalised_diff
from verifier.patch_signals import PatchSignals
from verifier.reward import Group, ScoredTrajectory
from verifier.world_model_client import ModelUsage, WorldModelClient
from verifier.world_model_data import ContextOf

Edit = tuple[str, str, str]


def edit_of(member: ScoredTrajectory) -> Edit:
    """What the world model's reading depends on: the task, the edit, and what the episode saw of it."""
    observed = member.context.observed if member.context else ""
    return member.trajectory.instance_id, normalised_diff(member.trajectory.patch.diff), observed


@dataclass
class CandidateVotes:
    """Votes by `edit_of`, and what they cost in this run of the stage and in those before it. `num_left_out` patches were not
    read, since the budget was used up."""

    votes: dict[Edit, Votes] = field(default_factory=dict)
    usage: ModelUsage = field(default_factory=ModelUsage)
    seconds: float = 0.0
    num_left_out: int = 0

    def take(self, edit: Edit, read: PatchVotes) -> None:
        self.votes[edit] = read.votes
        self.usage.add(read.usage)
        self.seconds += read.seconds


@dataclass
class CandidateSignals:
    """Signals by task and normalised diff, and their seconds in this run and before. Nothing is known of the candidates of
    `num_untried` tasks: sandboxes broke again and again, or no second was left of the budget."""

    by_task: dict[str, dict[str, PatchSignals]] = field(default_factory=dict)
    seconds: float = 0.0
    num_untried: int = 0

    def take(self, instance_id: str, edits: Iterable[str], tried: TaskSignals) -> None:
        self.by_task[instance_id] = dict(zip(edits, tried.signals, strict=True))
        self.seconds += tried.seconds

    def of(self, member: ScoredTrajectory) -> PatchSignals:
        """The signals of a candidate; PatchSignals() where nothing is known."""
        of_task = self.by_task.get(member.trajectory.instance_id, {})
        return of_task.get(normalised_diff(member.trajectory.patch.diff), PatchSignals())


async def votes_of_groups(
    context: StageContext, client: WorldModelClient, shown_of: ContextOf, name: str, groups: Sequence[Group]
) -> CandidateVotes:
    """Equal patches of a task that saw the same are read once. Stored votes are taken, and count in the budget; once it is used
    up, patches stay without votes."""
    config, world = context.config.tts, context.config.world_model
    progress = context.progress.stage("tts", len(groups))
    weights = await asyncio.to_thread(weights_fingerprint, context.folder.hf("world-model"))
    scorer = {"settings": asdict(world), "seed": config.seed, "weights": weights, "of": name}
    found, clock = CandidateVotes(), Stopwatch()

    async def score(edit: Edit, member: ScoredTrajectory, store: VoteStore) -> None:
        used_up = 0 < config.max_scorer_s <= found.seconds + clock.running_s()
        if used_up or 0 < config.max_scorer_tokens <= found.usage.tokens:
            found.votes[edit] = ()
            found.num_left_out += 1
            return
        usage = ModelUsage()
        votes = await patch_votes(replace(client, usage=usage), member, shown_of, config.seed)
        read = PatchVotes(votes, usage, clock.lap_s())
        store.add(edit[0], edit, read)
        found.take(edit, read)

    async def score_group(group: Group, store: VoteStore) -> None:
        unread = {edit_of(member): member for member in group.members if edit_of(member) not in found.votes}
        await all_at_once(score(edit, member, store) for edit, member in unread.items())
        progress.advance()

    with VoteStore(context.folder.root / "tts", scorer) as store:
        for edit in dict.fromkeys(edit_of(member) for group in groups for member in group.members):
            if (read := store.get(edit[0], edit)) is not None:
                found.take(edit, read)
        if config.max_scorer_tokens > 0 or config.max_scorer_s > 0:
            for group in groups:  # one task after the other, so that the budget is known before the next begins
                await score_group(group, store)
        else:
            await all_at_once(score_group(group, store) for group in groups)
    return found


async def signals_of_groups(context: StageContext, groups: Sequence[Group], spent_s: float) -> CandidateSignals:
    """What running tests says about the patches; nothing is run when no weight asks for it. Stored signals are taken. The votes
    took `spent_s` of tts.max_scorer_s. Raises SandboxUnavailableError."""
    config, found = context.config.tts, CandidateSignals()
    if not config.existing_tests_weight and not config.reproduction_weight:
        return found
    tasks = {task.instance_id: task for task in tasks_of(context, "heldout")}
    settings = {"timeout_s": context.config.verifier.grading_timeout_s, "sandbox": context.config.sandbox.real_backend}
    clock = Stopwatch()

    distinct = {
        group.instance_id: {normalised_diff(one.trajectory.patch.diff): one.trajectory.patch.diff for one in group.members}
        for group in groups
    }

    async def try_task(name: str, diffs: tuple[str, ...], store: SignalStore) -> None:
        if 0 < config.max_scorer_s <= spent_s + found.seconds + clock.running_s():
            found.num_untried += 1
            return
        try:
            signals = await context.fleet.try_patches(tasks[name].problem, tasks[name].preparation, diffs)
        except SandboxUnavailableError:
            raise
        except SandboxError as error:  # left unknown for all candidates of the task; not stored, so that a later run tries again
            context.progress.say(f"tts: {error}")
            found.num_untried += 1
            return
        tried = TaskSignals(tuple(signals), clock.lap_s())
        store.add(name, diffs, tried)
        found.take(name, distinct[name], tried)

    with SignalStore(context.folder.root / "tts", settings) as store:
        untried = {}
        for name, patches in distinct.items():
            if (tried := store.get(name, diffs := tuple(patches.values()))) is not None:
                found.take(name, patches, tried)
            else:
                untried[name] = diffs
        if config.max_scorer_s > 0:
            for name, diffs in untried.items():
                await try_task(name, diffs, store)
        else:
            await all_at_once(try_task(name, diffs, store) for name, diffs in untried.items())
    return found


class Stopwatch:
    """Wall time in laps."""

    def __init__(self) -> None:
        self._last = time.monotonic()

    def running_s(self) -> float:
        """Seconds of the lap that runs."""
        return time.monotonic() - self._last

    def lap_s(self) -> float:
        """Seconds of the lap that ends now."""
        now = time.monotonic()
        seconds, self._last = now - self._last, now
        return seconds
