"""Training data of the reward model: real episodes, what a scorer could see of them, and what their tests really said."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from envpool.policy import Message
from verifier.patch_sections import normalised_diff
from verifier.reward import ScoredTrajectory
from verifier.test_run import TIMED_OUT
from verifier.world_model import build_prompt, render_report


@dataclass(frozen=True)
class ReportSample:
    """One prompt and the answer to learn: the real log and verdict."""

    instance_id: str
    messages: tuple[Message, ...]
    target: str
    resolved: bool


@dataclass(frozen=True)
class ReportCounts:
    """What became of the trajectories. `without_context`: empty patches, patches that do not apply, contexts not collected;
    `timed_out`: the tests did not end, so there is no report to learn; `duplicate`: the same edit of the same task with the
    same observation; `unbalanced`: dropped to have as many of either verdict."""

    num_seen: int
    without_context: int
    timed_out: int
    duplicate: int
    unbalanced: int
    resolved: int
    unresolved: int


def report_samples(
    trajectories: Iterable[ScoredTrajectory], *, balanced: bool, seed: int, max_chars: int = 200_000
) -> tuple[tuple[ReportSample, ...], ReportCounts]:
    """One sample per distinct edit of a task, in order of first appearance.

    `balanced` keeps as many resolved as unresolved ones: of the more frequent verdict, those that a seeded hash puts first
    (the choice does not depend on the order of the input).
    """
    samples: list[ReportSample] = []
    seen: set[tuple[str, str, str]] = set()
    num_seen = without_context = timed_out = duplicate = 0
    for scored in trajectories:
        num_seen += 1
        trajectory = scored.trajectory
        if scored.context is None:
            without_context += 1
            continue
        if scored.report_text.rstrip().endswith(TIMED_OUT):
            timed_out += 1
            continue
        edit = (trajectory.instance_id, normalised_diff(trajectory.patch.diff), scored.context.observed)
        if edit in seen:
            duplicate += 1
            continue
        seen.add(edit)
        target = render_report(scored.report_text, scored.resolved)
        samples.append(ReportSample(trajectory.instance_id, build_prompt(scored.context, max_chars), target, scored.resolved))
    kept = _balanced(samples, seed) if balanced else tuple(samples)
    num_resolved = sum(sample.resolved for sample in kept)
    counts = ReportCounts(
        num_seen=num_seen,
        without_context=without_context,
        timed_out=timed_out,
        duplicate=duplicate,
        unbalanced=len(samples) - len(kept),
        resolved=num_resolved,
        unresolved=len(kept) - num_resolved,
    )
    return kept, counts


def _balanced(samples: Sequence[ReportSample], seed: int) -> tuple[ReportSample, ...]:
    """As many samples of either verdict, in their old order."""

    def draw(index: int) -> bytes:
        sample = samples[index]
        return hashlib.sha256(f"{seed}\0{sample.instance_id}\0{sample.messages[-1].content}".encode()).digest()

    sides = [[i for i, sample in enumerate(samples) if sample.resolved is verdict] for verdict in (True, False)]
    size = min(len(side) for side in sides)
    kept = {index for side in sides for index in sorted(side, key=draw)[:size]}
    return tuple(sample for index, sample in enumerate(samples) if index in kept)
