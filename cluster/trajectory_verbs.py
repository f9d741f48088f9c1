"""`swe-master trajectories`: a run's trajectories for other tools, and other tools' files from one format to another."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cluster.group_store import read_groups
from cluster.run_folder import RunFolder
from configs.stage_loading import load_config
from envpool.action_formats import action_format
from envpool.chat.chat_format import load_chat_format
from envpool.chat.chat_sample import tool_specs
from envpool.tools import select_tools
from envpool.trajectories.episode_import import trajectory_of_record
from envpool.trajectories.recorded_episode import RecordedEpisode, TrajectoryFormatError, record_trajectory
from envpool.trajectories.trajectory_store import read_trajectories, write_trajectories
from envpool.trajectory_formats import TRAJECTORY_FORMATS, TrajectoryFormat
from trainers.model_paths import resolve_model_path
from verifier.reward import Reward, ScoredTrajectory
from verifier.score_columns import score_columns

PARQUET = "parquet"
"""Our own store: tokens, log-probs, versions, scores."""


@dataclass(frozen=True)
class Rendering:
    """How recorded texts become tokens: the folder of the tokenizer, and the form of calls (envpool.action_formats)."""

    model: str = "tiny_base"
    action_format: str = "xml"


def trajectory_format(name: str) -> TrajectoryFormat:
    """The format of that name. Raises TrajectoryFormatError."""
    if name not in TRAJECTORY_FORMATS:
        raise TrajectoryFormatError(f"unknown format {name!r}; known: {', '.join((*TRAJECTORY_FORMATS, PARQUET))}")
    return TRAJECTORY_FORMATS[name]


def export_trajectories(folder: RunFolder, stage: str, form: TrajectoryFormat, to: Path) -> int:
    """The trajectories of a run's stage into folder (or `.jsonl` file) `to`; how many. Raises TrajectoryFormatError, OSError."""
    stored = folder.root / "trajectories" / stage
    if not stored.is_dir():
        known = sorted(path.name for path in (folder.root / "trajectories").glob("*/"))
        raise TrajectoryFormatError(f"{folder.root} has no trajectories of {stage!r}; it has {', '.join(known) or 'none'}")
    chosen = select_tools(load_config(folder.root / "config.yaml", []).rollout.episode.tools)
    tools = tool_specs((tool.name, tool.description, tool.parameters) for tool in chosen.values())

    def episodes() -> Iterator[tuple[str, RecordedEpisode]]:
        for group in read_groups(stored):
            for member in group.members:
                trajectory = member.trajectory
                yield (
                    f"{trajectory.instance_id}.{trajectory.sample_index}",
                    record_trajectory(trajectory, member.reward.value, tools),
                )

    return write_documents(episodes(), form, to)


def convert_trajectories(path: Path, source: str, target: str, to: Path, render: Rendering) -> int:
    """A file (one document, or one a line in `.jsonl`, or `parquet`) in another format; how many.

    Raises TrajectoryFormatError, TrajectoryFileError, OSError; and ModelPathError, ValueError when `render` cannot be done.
    """
    episodes = read_stored(path) if source == PARQUET else read_documents(path, trajectory_format(source))
    if target == PARQUET:
        return store_episodes(episodes, to, render)
    named = ((f"{index:05}-{episode.instance_id}", episode) for index, episode in enumerate(episodes))
    return write_documents(named, trajectory_format(target), to)


def read_stored(path: Path) -> Iterator[RecordedEpisode]:
    """The episodes of one of our Parquet files; a stored reward counts as a grade."""
    for trajectory, columns in read_trajectories(path):
        episode = record_trajectory(trajectory, float(columns.get("reward", 0.0)))
        yield episode if "reward" in columns else replace(episode, graded=False)


def store_episodes(episodes: Iterable[RecordedEpisode], to: Path, render: Rendering) -> int:
    """Write episodes as one Parquet file of scored trajectories; a reward of 1 and more counts as resolved."""
    chat = load_chat_format(resolve_model_path(render.model))
    form = action_format(render.action_format)
    seen: Counter[str] = Counter()
    rows = []
    for episode in episodes:
        trajectory = trajectory_of_record(episode, chat, form, seen[episode.instance_id])
        seen[episode.instance_id] += 1
        reward = Reward(episode.reward, {"recorded": episode.reward}, train=episode.graded)
        scored = ScoredTrajectory(trajectory, reward, episode.graded and episode.reward >= 1.0, "", grader="recorded")
        rows.append((trajectory, score_columns(scored)))
    to.parent.mkdir(parents=True, exist_ok=True)
    write_trajectories(to, rows)
    return len(rows)


def read_documents(path: Path, form: TrajectoryFormat) -> Iterator[RecordedEpisode]:
    """The episodes of a file in order. Raises TrajectoryFormatError with the file and line, FileNotFoundError."""
    with path.open("rb") as file:
        texts: Iterable[bytes] = file if path.suffix == ".jsonl" else [file.read()]
        for number, text in enumerate(texts, start=1):
            if text.strip():
                yield _read(path, number, text, form)


def write_documents(episodes: Iterable[tuple[str, RecordedEpisode]], form: TrajectoryFormat, to: Path) -> int:
    """One file per episode in folder `to`, or a line each when `to` ends in `.jsonl`; how many."""
    count = 0
    if to.suffix == ".jsonl":
        to.parent.mkdir(parents=True, exist_ok=True)
        with to.open("w", encoding="utf-8") as file:
            for _, episode in episodes:
                count += 1
                file.write(json.dumps(form.to_document(episode), ensure_ascii=False) + "\n")
        return count
    to.mkdir(parents=True, exist_ok=True)
    suffix = ".json" if form.suffix == ".jsonl" else form.suffix
    for name, episode in episodes:
        count += 1
        safe = "".join(char if char.isalnum() or char in "._+-" else "_" for char in name)
        (to / f"{safe}{suffix}").write_text(json.dumps(form.to_document(episode), ensure_ascii=False, indent=1), encoding="utf-8")
    return count


def _read(path: Path, number: int, text: bytes, form: TrajectoryFormat) -> RecordedEpisode:
    try:
        document: Any = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise TrajectoryFormatError(f"{path}: document {number} is not valid JSON") from error
    if not isinstance(document, dict):
        raise TrajectoryFormatError(f"{path}: document {number} is {type(document).__name__}, not an object")
    try:
        return form.from_document(document)
    except TrajectoryFormatError as error:
        raise TrajectoryFormatError(f"{path}: document {number}: {error}") from error
