"""The scores of a trajectory as flat columns, for a trajectory store that knows nothing of verifiers."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from envpool.simulation.transition_format import ExecutedCommand, ExecutionContext
from envpool.trajectory import Trajectory
from verifier.deployable_context import DeployableContext
from verifier.episode_seconds import EpisodeSeconds
from verifier.reward import Reward, ScoredTrajectory

SCORE_COLUMNS: dict[str, type] = {
    "reward": float,
    "reward_parts": str,
    "train": bool,
    "resolved": bool,
    "report_text": str,
    "context": str,
}
"""Column names and Python types; `reward_parts` and `context` are JSON, `context` is "" when there is none."""
LATER_COLUMNS: dict[str, str] = {
    "grader": "",
    "grading_notes": "[]",
    "executed": "[]",
    "seconds_parts": "{}",
    "statuses": "{}",
}
"""Columns that files of earlier versions lack, with what is read in their place; all but `grader` are JSON."""


def score_columns(scored: ScoredTrajectory) -> dict[str, Any]:
    """Everything of a scored trajectory but the trajectory; `scored_from_columns` is its inverse."""
    return {
        "reward": scored.reward.value,
        "reward_parts": json.dumps(scored.reward.parts),
        "train": scored.reward.train,
        "resolved": scored.resolved,
        "report_text": scored.report_text,
        "context": "" if scored.context is None else json.dumps(scored.context.as_dict()),
        "grader": scored.grader,
        "grading_notes": json.dumps(scored.grading_notes),
        "executed": json.dumps([asdict(one) for one in scored.executed]),
        "seconds_parts": json.dumps(asdict(scored.seconds)),
        "statuses": json.dumps(dict(scored.statuses)),
    }


def scored_from_columns(trajectory: Trajectory, columns: Mapping[str, Any]) -> ScoredTrajectory:
    """The scored trajectory again. Raises ValueError that names a missing or unreadable column."""
    missing = [name for name in SCORE_COLUMNS if name not in columns]
    if missing:
        raise ValueError(f"stored trajectory {trajectory.instance_id} lacks the columns {', '.join(missing)}")
    try:
        parts = json.loads(columns["reward_parts"])
        context = DeployableContext(**json.loads(columns["context"])) if columns["context"] else None
        later = {name: str(columns.get(name, default)) for name, default in LATER_COLUMNS.items()}
        notes = tuple(json.loads(later["grading_notes"]))
        executed = tuple(
            ExecutedCommand(ExecutionContext(**one["context"]), one["output"], one["exit_code"])
            for one in json.loads(later["executed"])
        )
        seconds = EpisodeSeconds(**json.loads(later["seconds_parts"]))
        statuses = dict(json.loads(later["statuses"]))
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"stored trajectory {trajectory.instance_id} has unreadable scores: {error}") from error
    reward = Reward(float(columns["reward"]), parts, bool(columns["train"]))
    resolved, log = bool(columns["resolved"]), str(columns["report_text"])
    return ScoredTrajectory(trajectory, reward, resolved, log, context, later["grader"], notes, executed, seconds, statuses)
