"""Predictions in SWE-bench's format: JSONL, a JSON list, or a JSON object by instance id."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from envpool.dataset_rows.dataset_row import RowError, row_id, text
from envpool.dataset_rows.row_file import RowFileError, read_rows
from envpool.patch import Patch


@dataclass(frozen=True)
class Prediction:
    """One model patch; the empty patch where the row has null or ""."""

    instance_id: str
    model: str
    patch: Patch


def read_predictions(path: Path) -> Iterator[Prediction | RowError]:
    """Every prediction of a file; broken rows come as RowError in their place. Raises RowFileError."""
    for _, row in _rows(path):
        if isinstance(row, RowError):
            yield row
            continue
        try:
            yield _prediction(row)
        except RowError as error:
            yield error


def _rows(path: Path) -> Iterator[tuple[int, dict[str, Any] | RowError]]:
    if path.suffix.lower() != ".json":
        yield from read_rows(path)
        return
    try:
        items = json.loads(path.read_bytes())
    except OSError as error:
        raise RowFileError(f"{path}: cannot be read ({error.strerror or error})") from error
    except (ValueError, RecursionError) as error:
        raise RowFileError(f"{path}: not valid JSON (is the file truncated?)") from error
    if isinstance(items, dict):  # SWE-agent's and mini-swe-agent's preds.json
        items = [{"instance_id": key, **item} if isinstance(item, dict) else item for key, item in items.items()]
    if not isinstance(items, list):
        raise RowFileError(f"{path}: holds one {type(items).__name__}, not predictions")
    for index, item in enumerate(items):
        yield index, item if isinstance(item, dict) else RowError(f"number {index}", "(row)", "is not an object")


def _prediction(row: dict[str, Any]) -> Prediction:
    instance_id = text(row, "instance_id")
    if "/" in instance_id or instance_id in (".", ".."):
        raise RowError(row_id(row), "instance_id", "cannot name a folder")
    model = text(row, "model_name_or_path", default="model")
    if ".." in model.split("/"):
        raise RowError(row_id(row), "model_name_or_path", "cannot name a folder")
    return Prediction(instance_id, model, Patch(text(row, "model_patch", default="")))
