"""Grading by a reward model, with real runs of the hidden tests on an audited share: the training reward without containers.

A patch's probability is the calibrated mean over several simulated reports. An audited patch is graded by its real tests, and
the real verdict is its reward; the pair (probability, verdict) tells whether the calibration still holds (verifier.audit).
"""

import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass, replace
from functools import partial

from envpool.pool.sandbox_pool import SandboxPool
from envpool.pool.sandbox_preparation import set_up
from envpool.task import Task
from envpool.trajectory import Trajectory
from verifier.audit import AuditRule, after_audit, is_audited
from verifier.calibration import Calibration
from verifier.context_reading import collect_context
from verifier.curator_context import curator_context
from verifier.deployable_context import DeployableContext
from verifier.grade_cache import GradeCache, GradedPatch
from verifier.grading import ungraded_report
from verifier.hidden_tests import DOES_NOT_APPLY, NOTHING_LEFT, SETUP_TIMEOUT_S, grade_patch
from verifier.observed_run import observed_run
from verifier.patch_cleaning import clean_patch
from verifier.reward_record import RewardRecord, patch_key
from verifier.scorer_prompt import ScorerContext
from verifier.simulated_scoring import Vote, mean_probability
from verifier.test_report import TestReport

logger = logging.getLogger(__name__)
READING_TRIES = 3
"""Times a patch is asked about until a report on it can be read."""
ScorePatch = Callable[[ScorerContext, int], Awaitable[tuple[Vote | None, ...]]]
"""Votes on one patch: context and seed in. Raises PolicyError when the model's engine broke."""
Grader = Callable[[Task, Trajectory], Awaitable[GradedPatch]]
"""Decides about a finished episode. Raises SandboxError and PolicyError."""


@dataclass
class HybridGrader:
    """A Grader. `pool` holds real sandboxes; `context` says whether the model sees the deployable or the curator's context.
    `record` is where the audits stand and what all has cost; `save` is given it after each change."""

    score: ScorePatch
    calibrate: Calibration
    pool: SandboxPool
    rule: AuditRule
    context: str
    grading_timeout_s: float
    protect_test_setup: bool
    seed: int
    cache: GradeCache
    record: RewardRecord
    save: Callable[[RewardRecord], None] = lambda record: None

    async def __call__(self, task: Task, trajectory: Trajectory) -> GradedPatch:
        """The grade; `parts` has the model's `probability` and whether the patch was `audited`: drawn for it, or without a
        report that can be read (then without a probability). A patch that does not apply, or of which nothing would be graded,
        is unresolved and not shown to the model."""
        cleaned = clean_patch(trajectory.patch, task.oracle, self.protect_test_setup, task.preparation.hidden_paths)
        seen = await self._context(task, trajectory)
        if seen is None or cleaned.patch.is_empty:
            why = NOTHING_LEFT if cleaned.patch.is_empty else DOES_NOT_APPLY
            return GradedPatch(ungraded_report(task.oracle, why, cleaned.dropped), seen)
        shown: ScorerContext = curator_context(seen, task.oracle) if self.context == "curator" else seen
        probability, votes = await self._probability(shown)
        share = self.record.state.share
        if probability is None or is_audited(share, self.seed, task.instance_id, trajectory.patch.diff):
            graded = await self._audited(task, trajectory, probability)
            told = {} if probability is None else {"probability": probability}
            return replace(graded, context=seen, parts={**told, "audited": 1.0})
        report = TestReport(
            task.instance_id,
            {},
            resolved=probability > 0.5,
            applied=False,
            exit_code=0,
            log="",
            notes=(f"simulated: {votes} reports, probability {probability:.3f}",),
            dropped=cleaned.dropped,
            grader=f"swr/{self.context}",
        )
        return GradedPatch(report, seen, {"probability": probability, "audited": 0.0})

    async def _context(self, task: Task, trajectory: Trajectory) -> DeployableContext | None:
        """What a scorer may see of the episode, read in a sandbox of its own that is set up; None without a patch to see."""
        prepare = partial(set_up, preparation=task.preparation, instance_id=task.instance_id)
        hidden = task.preparation.hidden_paths
        seen = await collect_context(task.problem, trajectory.patch, self.pool, SETUP_TIMEOUT_S, prepare, hidden)
        return seen and replace(seen, observed=observed_run(trajectory))

    async def _probability(self, shown: ScorerContext) -> tuple[float | None, int]:
        """The calibrated mean and how many reports it is of; None when no report of several tries, each with its own seeds, can
        be read."""
        started, seed, cost = time.monotonic(), self.seed, self.record.cost
        mean, readable = None, 0
        for _ in range(READING_TRIES):
            votes = await self.score(shown, seed)
            mean, readable = mean_probability(votes), sum(vote is not None for vote in votes)
            cost.unreadable_reports += len(votes) - readable
            if mean is not None:
                break
            seed += len(votes)
        cost.simulated += 1
        cost.unreadable_patches += mean is None
        cost.simulated_s += time.monotonic() - started
        self.save(self.record)
        return None if mean is None else self.calibrate(mean), readable

    async def _audited(self, task: Task, trajectory: Trajectory, probability: float | None) -> GradedPatch:
        started, record = time.monotonic(), self.record
        timeout_s = min(self.grading_timeout_s, task.oracle.timeout_s)

        async def grade() -> GradedPatch:
            return await grade_patch(task, trajectory.patch, self.pool, timeout_s, False, self.protect_test_setup)

        graded = await self.cache.graded(task.instance_id, trajectory.patch, grade)
        record.cost.audited += 1
        record.cost.audited_s += time.monotonic() - started
        key = patch_key(task.instance_id, trajectory.patch.diff)
        if probability is not None and key not in record.counted:  # equal patches are one observation, not several
            record.counted.add(key)
            alarms = record.state.num_alarms
            record.state = after_audit(record.state, probability, graded.report.resolved, self.rule)
            if record.state.num_alarms > alarms:
                logger.warning(
                    "simulated rewards drift (mean residual %+.2f over %d audits): %.0f %% of patches are audited from now on",
                    record.state.mean_residual,
                    record.state.num_audited,
                    100 * record.state.share,
                )
        self.save(record)
        return graded

    def figures(self) -> dict[str, float]:
        """Costs, the audited share and its alarms, as flat numbers."""
        state = self.record.state
        costs = {f"reward_{name}": value for name, value in asdict(self.record.cost).items()}
        return {
            **costs,
            "audit_share": state.share,
            "audit_alarms": state.num_alarms,
            "audit_mean_residual": state.mean_residual,
        }
