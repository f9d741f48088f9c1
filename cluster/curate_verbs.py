"""The sub-verbs of `swe-master curate` that are no stage: each takes the words after its name and the options."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import orjson
from rich.console import Console

from cluster.difficulty_table import print_difficulty
from cluster.funnel_table import funnel_markdown, funnel_table
from cluster.run_folder import RunFolder
from cluster.sft_export import CHOICES, export_sft, import_record, import_sft
from envpool.curation.funnel import funnel_from_dict


class CurateVerbError(ValueError):
    """A sub-verb without the words or options it needs; one line."""


@dataclass(frozen=True)
class CurateOptions:
    """Options shared by the sub-verbs."""

    as_json: bool = False
    total: bool = False
    markdown: bool = False
    to: Path | None = None
    split: str = "train"


def show_difficulty(words: list[str], options: CurateOptions) -> None:
    if not words:
        raise CurateVerbError("curate difficulty needs at least one JSONL file with a reward_mean per line")
    print_difficulty([Path(word) for word in words], options.as_json, options.total)


def show_funnel(words: list[str], options: CurateOptions) -> None:
    record = RunFolder.open(_one(words, "funnel", "a run folder")).stage_records().get("curate")
    if record is None or "funnels" not in record:
        raise CurateVerbError(f"{words[0]} has no curation yet: swe-master curate --resume {words[0]}")
    funnels = [funnel_from_dict(row) for row in record["funnels"]]
    if options.as_json:
        print(orjson.dumps(record["funnels"]).decode())
    elif options.markdown:
        print(funnel_markdown(funnels, record["fails_by_itself"]))
    else:
        Console().print(funnel_table(funnels, record["fails_by_itself"]))


def export_samples(words: list[str], options: CurateOptions) -> None:
    run = _one(words, "export-sft", "a run folder")
    if options.to is None:
        raise CurateVerbError("curate export-sft needs --to FILE.jsonl or FILE.parquet")
    if options.split not in CHOICES:
        raise CurateVerbError(f"--split {options.split!r}: choose from {', '.join(CHOICES)}")
    count = export_sft(RunFolder.open(run), options.to, options.split)
    print(
        orjson.dumps({"file": str(options.to), "samples": count}).decode()
        if options.as_json
        else f"{options.to}: {count} samples"
    )


def import_samples(words: list[str], options: CurateOptions) -> None:
    path = _one(words, "import-sft", "a file")
    counts = import_sft(path, options.to)
    if options.as_json:
        print(orjson.dumps(import_record(path, counts)).decode())
    else:
        print(f"{path}: {counts.samples} samples, {counts.assistant_turns} assistant turns, {len(counts.rejected)} rejected")
        for message in counts.rejected[:20]:
            print(f"left out: {message}")
    if not counts.samples:
        raise CurateVerbError(f"{path} holds no sample that can be read")


def _one(words: list[str], verb: str, what: str) -> Path:
    if len(words) != 1:
        raise CurateVerbError(f"curate {verb} takes {what}, got {len(words)} words")
    return Path(words[0])


CURATE_VERBS: dict[str, Callable[[list[str], CurateOptions], None]] = {
    "difficulty": show_difficulty,
    "funnel": show_funnel,
    "export-sft": export_samples,
    "import-sft": import_samples,
}
