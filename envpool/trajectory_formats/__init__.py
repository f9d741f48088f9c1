"""Trajectory files of other systems: one module each, with `from_document` and `to_document` (JSON objects).

To add one: write `<name>_format.py` with the two functions and its line here. Reading raises TrajectoryFormatError and
nothing else. What a format cannot carry is said in its module.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from envpool.trajectories.recorded_episode import RecordedEpisode
from envpool.trajectory_formats import atif_format, mini_swe_agent_format, openai_format, r2e_gym_format, swe_agent_format


@dataclass(frozen=True)
class TrajectoryFormat:
    """`suffix` is the usual file name ending; a `.jsonl` holds one document a line, other files hold one."""

    suffix: str
    from_document: Callable[[Mapping[str, Any]], RecordedEpisode]
    to_document: Callable[[RecordedEpisode], dict[str, Any]]


TRAJECTORY_FORMATS: dict[str, TrajectoryFormat] = {
    "atif": TrajectoryFormat(".json", atif_format.from_document, atif_format.to_document),
    "openai": TrajectoryFormat(".jsonl", openai_format.from_document, openai_format.to_document),
    "r2e_gym": TrajectoryFormat(".jsonl", r2e_gym_format.from_document, r2e_gym_format.to_document),
    "swe_agent": TrajectoryFormat(".traj", swe_agent_format.from_document, swe_agent_format.to_document),
    "mini_swe_agent": TrajectoryFormat(".traj.json", mini_swe_agent_format.from_document, mini_swe_agent_format.to_document),
}
