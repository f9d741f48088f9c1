"""Patches as SWE-bench's evaluation reads them: one JSON line per task. `verifier.predictions` reads them back."""

from collections.abc import Iterable
from pathlib import Path

import orjson

from cluster.run_folder import write_atomically

PREDICTIONS = "predictions.jsonl"
"""The first episode of each task of the newest evaluation (pass@1, no selection)."""
CHOSEN_PREDICTIONS = "predictions_tts.jsonl"
"""What test-time scaling chose for each task."""


def write_predictions(path: Path, model: str, patches: Iterable[tuple[str, str]]) -> None:
    """(instance_id, diff) of every task, by the model of that name."""
    rows = [{"instance_id": name, "model_name_or_path": model, "model_patch": diff} for name, diff in patches]
    write_atomically(path, b"".join(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE) for row in rows))
