"""The learner's log-probs of the tokens it trained on, one Parquet file a step: what the engine's are compared with.

`logs/policy_logprobs/step_00001.parquet`: a row per trained trajectory with instance_id, sample_index and the float32 log-probs
of its sampled tokens in order, under the weights before the step.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from envpool.parquet_file import ParquetFileError, read_parquet, write_parquet
from trainers.train_sample import TrainSample

FOLDER = Path("logs") / "policy_logprobs"
SCHEMA = pa.schema(
    [
        pa.field("instance_id", pa.string(), nullable=False),
        pa.field("sample_index", pa.int32(), nullable=False),
        pa.field("logprobs", pa.list_(pa.field("item", pa.float32(), nullable=False)), nullable=False),
    ]
)
Key = tuple[str, int]


def step_file(root: Path, step: int) -> Path:
    """`step` counts from 1, as in metrics.jsonl."""
    return root / FOLDER / f"step_{step:05d}.parquet"


def trained_logprobs(sample: TrainSample, logprobs: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Those of the tokens whose mask is 1. Raises ValueError when the lengths differ."""
    if len(logprobs) != len(sample.loss_mask):
        raise ValueError(f"{sample.group}: {len(logprobs)} log-probs for a sample of {len(sample.loss_mask)} tokens")
    return logprobs[sample.loss_mask == 1]


def write_step(root: Path, step: int, keys: Sequence[Key], logprobs: Sequence[npt.NDArray[np.float32]]) -> None:
    """Replaces the step's file at once. `keys` are (instance_id, sample_index), as long as `logprobs`."""
    rows = (
        {"instance_id": name, "sample_index": index, "logprobs": values.tolist()}
        for (name, index), values in zip(keys, logprobs, strict=True)
    )
    write_parquet(step_file(root, step), rows, SCHEMA)


def read_step(root: Path, step: int, key: Key, num_tokens: int) -> Any:
    """The float32 log-probs of one trajectory; None when the step stored none for it, or for another number of tokens (a task
    that was played twice in the step). Raises ParquetFileError for a damaged file."""
    path = step_file(root, step)
    if not path.is_file():
        return None
    for row in read_parquet(path, SCHEMA)[0]:
        if (row["instance_id"], row["sample_index"]) == key and len(row["logprobs"]) == num_tokens:
            return np.array(row["logprobs"], np.float32)
    return None


__all__ = ["ParquetFileError", "read_step", "step_file", "trained_logprobs", "write_step"]
