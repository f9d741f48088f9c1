"""The curated trajectories of a run as a file of `messages` and `tools`, and such files (or the original's) read back."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from string import Formatter
from typing import Any

import orjson

from cluster.group_store import complete_shards
from cluster.lsp_curation import read_deletions
from cluster.run_folder import RunFolder
from configs.run_config import RunConfig
from configs.stage_loading import load_config
from envpool.action_formats import action_format
from envpool.agent.prompt import PROMPTS, tool_section
from envpool.chat.chat_sample import ChatSample, ChatSampleError, sample_of_trajectory
from envpool.chat.chat_sample_file import read_samples, write_samples
from envpool.tool import tool_schemas
from envpool.tools import select_tools
from envpool.trajectories.trajectory_columns import read_texts

CHOICES = {"train": "curated.json", "heldout": "curated_heldout.json"}
"""Which of a run's curated trajectories, and the file that names them."""


class SFTExportError(ValueError):
    """A run without curation, or one whose curation names trajectories that are not there; one line."""


@dataclass
class ImportCounts:
    """What an import found; `rejected` holds one message per row that was left out."""

    samples: int = 0
    assistant_turns: int = 0
    rejected: list[str] = field(default_factory=list)


def export_sft(folder: RunFolder, to: Path, choice: str = "train") -> int:
    """Write the run's curated trajectories to `to` (.jsonl or .parquet), a row group in memory at a time; returns how many.

    Raises SFTExportError, and RowFileError, TrajectoryFileError for files that cannot be written or read.
    """
    chosen = chosen_pairs(folder.root, choice)
    config = load_config(folder.root / "config.yaml", [])
    count = write_samples(to, curated_samples(folder.root, chosen, config))
    if count < len(chosen):
        raise SFTExportError(f"{to} holds {count} of {len(chosen)} curated trajectories: shards are gone; curate the run again")
    return count


def chosen_pairs(root: Path, choice: str) -> set[tuple[str, int]]:
    """The (instance_id, sample_index) pairs of one side of the split. Raises SFTExportError."""
    path = root / CHOICES[choice]
    try:
        pairs = {(str(name), int(index)) for name, index in orjson.loads(path.read_bytes())}
    except FileNotFoundError as error:
        raise SFTExportError(f"{root} has no {path.name}: run swe-master curate --resume {root} first") from error
    except (TypeError, ValueError) as error:
        raise SFTExportError(f"{path} is damaged ({error}); curate the run again") from error
    if not pairs:
        raise SFTExportError(f"{path} names no trajectory" + ("; set curate.heldout_share" if choice == "heldout" else ""))
    return pairs


def curated_samples(root: Path, chosen: set[tuple[str, int]], config: RunConfig) -> Iterator[ChatSample]:
    """The chosen trajectories as samples, in the order stored."""
    tools = select_tools(config.rollout.episode.tools)
    specs, action = tool_schemas(tools), config.rollout.episode.action_format
    section = tool_section(tools, action_format(action))
    system = system_text(PROMPTS[config.rollout.episode.prompt].system, section)
    left, deletions = set(chosen), read_deletions(root)
    for _, shard in complete_shards(root / "trajectories" / "rollout"):
        for texts in read_texts(shard, lambda name, index: (name, index) in left):
            pair = (texts.instance_id, texts.sample_index)
            if pair in left:
                left.remove(pair)
                turns = tuple(turn for index, turn in enumerate(texts.turns) if index not in deletions.get(pair, ()))
                yield sample_of_trajectory(replace(texts, turns=turns), specs, system, action)


def system_text(template: str, section: str) -> str:
    """The system message of every episode; "" when there is none or it depends on the problem."""
    fields = {name for _, name, _, _ in Formatter().parse(template) if name}
    return template.format(tool_section=section) if fields <= {"tool_section"} else ""


def import_sft(path: Path, to: Path | None) -> ImportCounts:
    """Read a file of samples, check every row, and write the good ones to `to` when it is given. Raises RowFileError."""
    counts = ImportCounts()
    samples = _good_samples(path, counts)
    if to is None:
        for _ in samples:
            pass
    else:
        write_samples(to, samples)
    return counts


def _good_samples(path: Path, counts: ImportCounts) -> Iterator[ChatSample]:
    for row in read_samples(path):
        if isinstance(row, ChatSampleError):
            counts.rejected.append(str(row))
            continue
        counts.samples += 1
        counts.assistant_turns += row.num_assistant_turns
        yield row


def import_record(path: Path, counts: ImportCounts) -> dict[str, Any]:
    """For `--json`."""
    return {
        "file": str(path),
        "samples": counts.samples,
        "assistant_turns": counts.assistant_turns,
        "rejected": counts.rejected,
    }
