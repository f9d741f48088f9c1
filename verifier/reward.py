"""A trajectory's reward, and the group a baseline is computed over."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from envpool.simulation.transition_format import ExecutedCommand
from envpool.trajectory import Trajectory
from verifier.deployable_context import DeployableContext
from verifier.episode_seconds import EpisodeSeconds


@dataclass(frozen=True)
class Reward:
    """`value` is what the learner sees; `parts` names what it was made of; `train` False masks the trajectory's loss."""

    value: float
    parts: dict[str, float]
    train: bool


@dataclass(frozen=True)
class ScoredTrajectory:
    """A trajectory with its reward and whether its patch resolved the issue (before shaping).

    `report_text` is the log of the hidden tests. `context` is what a scorer may see of the patch; None when it was not
    collected (verifier.collect_context) or the patch is empty or does not apply. `grader` names who decided (grader, rule and
    parser with versions), `grading_notes` why a run was not believed and what was left out of the patch.
    `executed` are the commands of the episode that ran code, with what they really did (verifier.collect_executions).
    `seconds`: where its time went. `statuses`: value of verifier.test_report.TestStatus per hidden test, as the grader read them;
    empty for a simulated verdict and in files that kept none.
    """

    trajectory: Trajectory
    reward: Reward
    resolved: bool
    report_text: str
    context: DeployableContext | None = None
    grader: str = ""
    grading_notes: tuple[str, ...] = ()
    executed: tuple[ExecutedCommand, ...] = ()
    seconds: EpisodeSeconds = field(default_factory=EpisodeSeconds)
    statuses: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class LostEpisode:
    """An episode that infrastructure broke after all retries; in neither loss nor baseline."""

    sample_index: int
    error: str


@dataclass(frozen=True)
class Group:
    """All episodes of one task sampled together."""

    instance_id: str
    members: tuple[ScoredTrajectory, ...]
    lost: tuple[LostEpisode, ...]
