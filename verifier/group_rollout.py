"""Play a task several times at once, grade what came out, and say what it is worth: one `Group`."""

import asyncio
import itertools
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

from configs.rollout_config import RolloutConfig
from configs.verifier_config import VerifierConfig
from envpool.agent.episode import run_episode
from envpool.chat.chat_format import ChatFormat
from envpool.policy import Generate, PolicyError
from envpool.pool.sandbox_pool import SandboxPool
from envpool.pool.sandbox_preparation import prepare_for_agent
from envpool.sandbox import Sandbox
from envpool.sandbox_errors import LeaseExpiredError, SandboxError, retry_rule
from envpool.simulation.execution_recorder import RecordingSandbox
from envpool.simulation.simulated_sandbox import SimulatedSandbox, SimulateText
from envpool.simulation.transition_format import ExecutedCommand
from envpool.task import Task
from envpool.trajectory import Trajectory, Turn
from verifier.episode_seconds import episode_seconds
from verifier.grade_cache import GradeCache, GradedPatch
from verifier.hidden_tests import BrokenTaskError, grade_patch
from verifier.hybrid_grading import Grader
from verifier.observed_run import observed_run
from verifier.reward import Group, LostEpisode, ScoredTrajectory
from verifier.rewards import compute_reward, reward_table

logger = logging.getLogger(__name__)
Result = TypeVar("Result")
OnTurn = Callable[[int, int, Turn], None]
"""Sees every finished turn once: sample_index, index of the turn, turn."""
CUT = "cut: the group had to end"


async def play_group(
    task: Task,
    *,
    group_size: int,
    generate: Generate,
    policy_name: str,
    pool: SandboxPool,
    chat: ChatFormat,
    rollout: RolloutConfig,
    verifier: VerifierConfig,
    temperature: float,
    seed: int,
    cache: GradeCache,
    on_turn: OnTurn | None = None,
    recorded: Mapping[int, Sequence[Turn]] | None = None,
    cut: asyncio.Event | None = None,
    grader: Grader | None = None,
    simulate: SimulateText | None = None,
) -> Group:
    """`group_size` episodes of one task, all at once, each in its own lease; members are sorted by `sample_index`.

    An episode whose sandbox or policy broke goes on in a fresh sandbox after its finished turns (envpool.agent.episode_replay),
    `rollout.infra_retries` times, and is then a `LostEpisode`; the same holds for its grading. `recorded` are finished turns
    of an earlier process by sample_index. Once `cut` is set, episodes that are not graded yet are ended and count as lost.
    `grader` decides about finished episodes; without one, their hidden tests are really run in sandboxes of `pool`.
    `simulate` answers for the agent's commands that execute code; without it they really run, and are recorded.
    A trajectory is graded after its own sandbox was given back, so waiting for a grading sandbox cannot block the pool. On
    cancellation, or when one member raises an error that is a bug and not a broken sandbox, the other episodes are cancelled
    and their sandboxes closed first.
    """
    turns = {index: list((recorded or {}).get(index, ())) for index in range(group_size)}
    player = _Player(
        task, generate, policy_name, pool, chat, rollout, verifier, temperature, seed, cache, on_turn, turns, grader, simulate
    )
    tasks: list[asyncio.Task[ScoredTrajectory | LostEpisode]] = []
    try:
        async with asyncio.TaskGroup() as running:
            tasks = [running.create_task(player.play_until(cut, index)) for index in range(group_size)]
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None  # the first bug, with its own traceback
    outcomes = [done.result() for done in tasks]
    return Group(
        instance_id=task.instance_id,
        members=tuple(outcome for outcome in outcomes if isinstance(outcome, ScoredTrajectory)),
        lost=tuple(outcome for outcome in outcomes if isinstance(outcome, LostEpisode)),
    )


@dataclass(frozen=True)
class _Player:
    """The arguments of `play_group`, bound; one method per phase of an episode."""

    task: Task
    generate: Generate
    policy_name: str
    pool: SandboxPool
    chat: ChatFormat
    rollout: RolloutConfig
    verifier: VerifierConfig
    temperature: float
    seed: int
    cache: GradeCache
    on_turn: OnTurn | None
    turns: dict[int, list[Turn]]
    grader: Grader | None = None
    simulate: SimulateText | None = None
    executed: dict[int, tuple[ExecutedCommand, ...]] = field(default_factory=dict)
    waited: dict[int, float] = field(default_factory=dict)
    began: float = field(default_factory=time.monotonic)

    async def play_until(self, cut: asyncio.Event | None, sample_index: int) -> ScoredTrajectory | LostEpisode:
        """`play`, or a lost episode when `cut` is set first."""
        if cut is None:
            return await self.play(sample_index)
        playing, cutting = asyncio.create_task(self.play(sample_index)), asyncio.create_task(cut.wait())
        try:
            await asyncio.wait({playing, cutting}, return_when=asyncio.FIRST_COMPLETED)
            if not playing.done():
                playing.cancel()
                await asyncio.wait({playing})
            return LostEpisode(sample_index, CUT) if playing.cancelled() else playing.result()
        finally:
            cutting.cancel()
            playing.cancel()
            await asyncio.wait({playing})

    async def play(self, sample_index: int) -> ScoredTrajectory | LostEpisode:
        """One member of the group, played and graded, or the error that made it impossible."""
        try:
            trajectory = await self._retried(lambda: self._episode(sample_index), f"episode {sample_index}")
            played = time.monotonic()
            graded = await self._retried(lambda: self._graded(trajectory), f"grading of episode {sample_index}")
        except (SandboxError, PolicyError) as error:
            return LostEpisode(sample_index, f"{type(error).__name__}: {error}")
        report = graded.report
        reward = compute_reward(
            reward_table(self.verifier), trajectory.stop_reason, report.resolved, self.verifier.truncated_factor
        )
        reward = replace(reward, parts={**reward.parts, **graded.parts})
        # The grade is shared by all episodes with this patch; what each of them observed is its own.
        context = graded.context and replace(graded.context, observed=observed_run(trajectory))
        notes = (*report.notes, *report.dropped)
        executed = self.executed.get(sample_index, ())
        ended, queued = time.monotonic(), self.waited.get(sample_index, 0.0)
        seconds = episode_seconds(trajectory.turns, queued, ended - played, ended - self.began)
        statuses = {test: status.value for test, status in report.status.items()}
        return ScoredTrajectory(
            trajectory, reward, report.resolved, report.log, context, report.grader, notes, executed, seconds, statuses
        )

    async def _episode(self, sample_index: int) -> Trajectory:
        def on_turn(index: int, turn: Turn) -> None:
            self.turns[sample_index].append(turn)
            if self.on_turn is not None:
                self.on_turn(sample_index, index, turn)

        task = self.task
        asked = time.monotonic()
        async with self.pool.lease(task.problem.image, task.problem.workdir, group=task.instance_id) as sandbox:
            self.waited[sample_index] = self.waited.get(sample_index, 0.0) + time.monotonic() - asked
            try:
                async with asyncio.timeout(self.rollout.lease_s) as lease:
                    await prepare_for_agent(sandbox, task.problem.image, task.preparation, task.instance_id)
                    seen = self._as_seen(sandbox)
                    trajectory = await run_episode(
                        task.problem,
                        seen,
                        self.generate,
                        self.chat,
                        self.rollout.episode,
                        sample_index=sample_index,
                        policy_name=self.policy_name,
                        temperature=self.temperature,
                        seed=self.seed,
                        on_turn=on_turn,
                        recorded=tuple(self.turns[sample_index]),
                    )
                    self.executed[sample_index] = tuple(seen.records) if isinstance(seen, RecordingSandbox) else ()
                    return trajectory
            except TimeoutError as error:
                if not lease.expired():
                    raise
                raise LeaseExpiredError(f"the lease of {self.rollout.lease_s:g} s ended before the episode did") from error

    def _as_seen(self, sandbox: Sandbox) -> Sandbox:
        """The prepared sandbox as the agent meets it. What a model makes up is no record of an execution."""
        statement = self.task.problem.problem_statement
        if self.simulate is not None:
            return SimulatedSandbox(sandbox, self.simulate, statement)
        return RecordingSandbox(sandbox, statement) if self.verifier.collect_executions else sandbox

    async def _graded(self, trajectory: Trajectory) -> GradedPatch:
        if self.grader is not None:
            return await self.grader(self.task, trajectory)
        timeout_s = min(self.verifier.grading_timeout_s, self.task.oracle.timeout_s)

        async def grade() -> GradedPatch:
            verifier = self.verifier
            return await grade_patch(
                self.task, trajectory.patch, self.pool, timeout_s, verifier.collect_context, verifier.protect_test_setup
            )

        return await self.cache.graded(self.task.instance_id, trajectory.patch, grade)

    async def _retried(self, attempt: Callable[[], Awaitable[Result]], what: str) -> Result:
        """Run `attempt` until it works, at most as often as its error's retry rule and `infra_retries` allow."""
        for failures in itertools.count(1):
            try:
                return await attempt()
            except BrokenTaskError:
                raise
            except (SandboxError, PolicyError) as error:
                rule = retry_rule(error)
                logger.warning("%s: %s broke (time %s, retry: %s): %s", self.task.instance_id, what, failures, rule.value, error)
                if not rule.allows(failures, self.rollout.infra_retries):
                    raise
                await asyncio.sleep(rule.pause_s(failures))
        raise AssertionError("unreachable: the last try returns or raises")
