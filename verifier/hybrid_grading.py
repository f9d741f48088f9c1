"""Grading by a reward model, with real runs of the hidden tests on an audited share: the training reward without containers.

A patch's probability is the calibrated mean over several simulated reports. An audited patch is graded by its real tests, and
the real verdict is its reward; the pair (probability, verdict) tells whether the calibration still holds (verifier.audit).
"""

import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from functools import partial

from envpool.policy import PolicyError
from envpool.pool.sandbox_pool import SandboxPool
from envpool.pool.sandbox_preparation import set_up
from envpool.task import Task
from envpool.trajectory import Trajectory
from verifier.audit import AuditRule, AuditState, after_audit, is_audited
from verifier.calibration import Calibration
from verifier.context_reading import collect_context
from verifier.curator_context import curator_context
from verifier.deployable_context import DeployableContext
from verifier.grade_cache import GradeCache, GradedPatch
from verifier.grading import ungraded_report
from verifier.hidden_tests import DOES_NOT_APPLY, NOTHING_LEFT, SETUP_TIMEOUT_S, grade_patch
from verifier.observed_run import observed_run
from verifier.patch_cleaning import clean_patch
from verifier.scorer_prompt import ScorerContext
from verifier.simulated_scoring import Vote, mean_probability
from verifier.test_report import TestReport

logger = logging.getLogger(__name__)
ScorePatch = Callable[[ScorerContext, int], Awaitable[tuple[Vote | None, ...]]]
"""Votes on one patch: context and seed in. Raises PolicyError when the model's engine broke."""
Grader = Callable[[Task, Trajectory], Awaitable[GradedPatch]]
"""Decides about a finished episode. Raises SandboxError and PolicyError."""


@dataclass
class RewardCost:
    """What rewards have cost so far: how many came from the model and how many from real tests, and seconds of each."""

    simulated: int = 0
    unreadable_reports: int = 0
    simulated_s: float = 0.0
    audited: int = 0
    audited_s: float = 0.0


@dataclass
class HybridGrader:
    """A Grader. `pool` holds real sandboxes; `context` says whether the model sees the deployable or the curator's context."""

    score: ScorePatch
    calibrate: Calibration
    pool: SandboxPool
    rule: AuditRule
    context: str
    grading_timeout_s: float
    protect_test_setup: bool
    seed: int
    cache: GradeCache
    cost: RewardCost = field(default_factory=RewardCost)
    state: AuditState = field(init=False)

    def __post_init__(self) -> None:
        self.state = AuditState(self.rule.base_share)

    async def __call__(self, task: Task, trajectory: Trajectory) -> GradedPatch:
        """The grade; `parts` has the model's `probability` and whether the patch was `audited`. A patch that does not apply, or
        of which nothing would be graded, is unresolved and not shown to the model."""
        cleaned = clean_patch(trajectory.patch, task.oracle, self.protect_test_setup, task.preparation.hidden_paths)
        seen = await self._context(task, trajectory)
        if seen is None or cleaned.patch.is_empty:
            why = NOTHING_LEFT if cleaned.patch.is_empty else DOES_NOT_APPLY
            return GradedPatch(ungraded_report(task.oracle, why, cleaned.dropped), seen)
        shown: ScorerContext = curator_context(seen, task.oracle) if self.context == "curator" else seen
        probability, votes = await self._probability(task.instance_id, trajectory.patch.diff, shown)
        if is_audited(self.state.share, self.seed, task.instance_id, trajectory.patch.diff):
            graded = await self._audited(task, trajectory, probability)
            return replace(graded, context=seen, parts={"probability": probability, "audited": 1.0})
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

    async def _probability(self, instance_id: str, diff: str, shown: ScorerContext) -> tuple[float, int]:
        started = time.monotonic()
        votes = await self.score(shown, self.seed)
        self.cost.simulated += 1
        self.cost.unreadable_reports += sum(vote is None for vote in votes)
        self.cost.simulated_s += time.monotonic() - started
        mean = mean_probability(votes)
        if mean is None:
            raise PolicyError(f"{instance_id}: none of {len(votes)} simulated reports on a patch can be read")
        return self.calibrate(mean), sum(vote is not None for vote in votes)

    async def _audited(self, task: Task, trajectory: Trajectory, probability: float) -> GradedPatch:
        started = time.monotonic()
        timeout_s = min(self.grading_timeout_s, task.oracle.timeout_s)

        async def grade() -> GradedPatch:
            return await grade_patch(task, trajectory.patch, self.pool, timeout_s, False, self.protect_test_setup)

        graded = await self.cache.graded(task.instance_id, trajectory.patch, grade)
        alarms = self.state.num_alarms
        self.state = after_audit(self.state, probability, graded.report.resolved, self.rule)
        self.cost.audited += 1
        self.cost.audited_s += time.monotonic() - started
        if self.state.num_alarms > alarms:
            logger.warning(
                "simulated rewards drift (mean residual %+.2f over %d audits): %.0f %% of patches are audited from now on",
                self.state.mean_residual,
                self.state.num_audited,
                100 * self.state.share,
            )
        return graded

    def figures(self) -> dict[str, float]:
        """Costs, the audited share and its alarms, as flat numbers."""
        state = self.state
        return {
            "reward_simulated": self.cost.simulated,
            "reward_unreadable_reports": self.cost.unreadable_reports,
            "reward_simulated_s": self.cost.simulated_s,
            "reward_audited": self.cost.audited,
            "reward_audited_s": self.cost.audited_s,
            "audit_share": state.share,
            "audit_alarms": state.num_alarms,
            "audit_mean_residual": state.mean_residual,
        }
