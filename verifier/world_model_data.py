"""Training data of the world model: real episodes, what it could see of them, and what really came out.

Two roles, one kind of sample: `reward` (SWR: a patch and the report of its tests) and `transition` (SWT: a command and its
result). The rules are the original's: at most six commands of an episode, logs trimmed to the test session, runs that were cut
off by a deadline left out.
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from envpool.policy import Message
from envpool.simulation.transition_format import ExecutedCommand, render_run, transition_prompt
from verifier.deployable_context import DeployableContext
from verifier.patch_sections import normalised_diff
from verifier.report_format import MAX_LOG_CHARS, log_statuses, render_report, session_of, statuses_within, trim_log
from verifier.reward import ScoredTrajectory
from verifier.scorer_prompt import ScorerContext, build_prompt
from verifier.test_report import TestStatus
from verifier.test_run import TIMED_OUT

ROLES = ("reward", "transition")
MAX_COMMANDS = 6
"""Executed commands taken of one episode (the original's rule)."""
ContextOf = Callable[[ScoredTrajectory], ScorerContext | None]
"""What the model is shown of a graded patch; None when nothing can be shown."""


@dataclass(frozen=True)
class WorldSample:
    """One prompt and what is true: for a reward the trimmed log and the verdict, for a transition the output and the exit code.

    `thought` is the simulation to learn; None leaves the form's default (a reward: the log's lines that are no status).
    `statuses` (a reward's only) are those of the hidden tests.
    """

    role: str
    instance_id: str
    messages: tuple[Message, ...]
    truth: str
    outcome: int
    thought: str | None = None
    statuses: Mapping[str, str] = field(default_factory=dict)

    @property
    def resolved(self) -> bool:
        return self.role == "reward" and bool(self.outcome)

    def target(self, form: str) -> str:
        """The answer to learn."""
        if self.role == "reward":
            return render_report(self.truth, bool(self.outcome), form, self.thought, self.statuses)
        return render_run(self.truth, self.outcome, form, self.thought or "")


@dataclass(frozen=True)
class ReportCounts:
    """What became of the trajectories. `without_context`: empty patches, patches that do not apply, contexts not collected;
    `timed_out`: the tests did not end, so there is no report to learn; `simulated`: a model's verdict, not a real one;
    `duplicate`: the same edit of the same task with the same observation; `unbalanced`: dropped to have as many of either
    verdict."""

    num_seen: int
    without_context: int
    timed_out: int
    simulated: int
    duplicate: int
    unbalanced: int
    resolved: int
    unresolved: int


@dataclass(frozen=True)
class TransitionCounts:
    """What became of the executed commands. `surplus`: beyond MAX_COMMANDS of an episode; `duplicate`: the same command on the
    same code of the same task; `unbalanced`: dropped to have as many that failed as that did not."""

    num_seen: int
    surplus: int
    duplicate: int
    unbalanced: int
    succeeded: int
    failed: int


def deployable(scored: ScoredTrajectory) -> DeployableContext | None:
    """The deployable context of a patch, as it was collected."""
    return scored.context


def unobserved(scored: ScoredTrajectory) -> ScoredTrajectory:
    """The same, for a scorer that is not shown what the episode saw (world_model.show_observed)."""
    return replace(scored, context=scored.context and replace(scored.context, observed=""))


def real_statuses(scored: ScoredTrajectory) -> dict[str, str]:
    """What a report says of each hidden test, as the grader read it; one that gave no result is an ERROR. Of files that kept no
    statuses, what a pytest log says."""
    if not scored.statuses:
        return log_statuses(session_of(scored.report_text))
    missing = TestStatus.MISSING.value
    return {" ".join(test.split()): "ERROR" if status == missing else status.upper() for test, status in scored.statuses.items()}


def report_samples(
    trajectories: Iterable[ScoredTrajectory],
    *,
    balanced: bool,
    seed: int,
    max_chars: int = 200_000,
    form: str = "compact",
    context_of: ContextOf = deployable,
) -> tuple[tuple[WorldSample, ...], ReportCounts]:
    """One sample per distinct edit of a task, in order of first appearance.

    `balanced` keeps as many resolved as unresolved ones: of the more frequent verdict, those that a seeded hash puts first
    (the choice does not depend on the order of the input).
    """
    samples: list[WorldSample] = []
    seen: set[tuple[str, str, str]] = set()
    counts = dict.fromkeys(("num_seen", "without_context", "timed_out", "simulated", "duplicate"), 0)
    for scored in trajectories:
        counts["num_seen"] += 1
        trajectory, context = scored.trajectory, context_of(scored)
        if context is None or scored.context is None:
            counts["without_context"] += 1
            continue
        if scored.grader.startswith("swr/"):
            counts["simulated"] += 1
            continue
        if scored.report_text.rstrip().endswith(TIMED_OUT):
            counts["timed_out"] += 1
            continue
        edit = (trajectory.instance_id, normalised_diff(trajectory.patch.diff), scored.context.observed)
        if edit in seen:
            counts["duplicate"] += 1
            continue
        seen.add(edit)
        messages = build_prompt(context, max_chars, form)
        log = trim_log(scored.report_text)
        statuses = statuses_within(real_statuses(scored), MAX_LOG_CHARS)
        samples.append(WorldSample("reward", trajectory.instance_id, messages, log, int(scored.resolved), statuses=statuses))
    kept = _balanced(samples, lambda sample: sample.resolved, seed) if balanced else tuple(samples)
    num_resolved = sum(sample.resolved for sample in kept)
    return kept, ReportCounts(
        **counts, unbalanced=len(samples) - len(kept), resolved=num_resolved, unresolved=len(kept) - num_resolved
    )


def transition_samples(
    trajectories: Iterable[ScoredTrajectory], *, balanced: bool, seed: int, max_chars: int = 200_000, form: str = "compact"
) -> tuple[tuple[WorldSample, ...], TransitionCounts]:
    """One sample per distinct command and code of a task, in order of first appearance; balanced by whether it failed."""
    samples: list[WorldSample] = []
    seen: set[tuple[str, str, str]] = set()
    num_seen = surplus = duplicate = 0
    for scored in trajectories:
        num_seen += len(scored.executed)
        surplus += max(0, len(scored.executed) - MAX_COMMANDS)
        instance_id = scored.trajectory.instance_id
        for executed in scored.executed[:MAX_COMMANDS]:
            edit = (instance_id, executed.context.command, repr(executed.context.code))
            if edit in seen:
                duplicate += 1
                continue
            seen.add(edit)
            samples.append(transition_sample(instance_id, executed, max_chars, form))
    kept = _balanced(samples, lambda sample: sample.outcome == 0, seed) if balanced else tuple(samples)
    succeeded = sum(sample.outcome == 0 for sample in kept)
    return kept, TransitionCounts(
        num_seen, surplus, duplicate, len(samples) - len(kept), succeeded=succeeded, failed=len(kept) - succeeded
    )


def transition_sample(
    instance_id: str, executed: ExecutedCommand, max_chars: int = 200_000, form: str = "compact"
) -> WorldSample:
    """A recorded command as a sample."""
    messages = transition_prompt(executed.context, max_chars, form)
    return WorldSample("transition", instance_id, messages, executed.output, executed.exit_code)


def with_thought(sample: WorldSample, thought: str) -> WorldSample:
    """The sample with the simulation that leads to its result."""
    return replace(sample, thought=thought)


def shown_truth(sample: WorldSample) -> str:
    """The true result as a teacher is shown it, and as a judge compares with it."""
    if sample.role == "reward":
        statuses = "\n".join(f"{status} {name}" for name, status in sample.statuses.items())
        return f"{statuses}\nreward {sample.outcome}".strip()
    return f"{sample.truth.rstrip()}\nexit code {sample.outcome}".strip()


def _balanced(samples: Sequence[WorldSample], side_of: Callable[[WorldSample], bool], seed: int) -> tuple[WorldSample, ...]:
    """As many samples of either side, in their old order."""

    def draw(index: int) -> bytes:
        sample = samples[index]
        return hashlib.sha256(f"{seed}\0{sample.instance_id}\0{sample.messages[-1].content}".encode()).digest()

    sides = [[i for i, sample in enumerate(samples) if side_of(sample) is verdict] for verdict in (True, False)]
    size = min(len(side) for side in sides)
    kept = {index for side in sides for index in sorted(side, key=draw)[:size]}
    return tuple(sample for index, sample in enumerate(samples) if index in kept)
