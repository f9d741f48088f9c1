"""The learner's log-probs of the tokens it trained on, one Parquet file a step: what the engine's are compared with.

`logs/policy_logprobs/step_00001.parquet`: a row per trained trajectory with instance_id, sample_index and the float32 log-probs
of its sampled tokens in order, under the weights before the step; with ratio_to=rollout and several updates per batch: under
those before its own update.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from envpool.parquet_file import read_parquet, write_parquet
from envpool.trajectory import Trajectory
from trainers.grpo_loop import Learner
from trainers.loss_spec import LossSpec
from trainers.train_sample import TrainSample
from verifier.reward import Group

FOLDER = Path("logs") / "policy_logprobs"
SCHEMA = pa.schema(
    [
        pa.field("instance_id", pa.string(), nullable=False),
        pa.field("sample_index", pa.int32(), nullable=False),
        pa.field("logprobs", pa.list_(pa.field("item", pa.float32(), nullable=False)), nullable=False),
    ]
)
Key = tuple[str, int]
Logprobs = list[npt.NDArray[np.float32]]


class LogprobRecorder:
    """A learner for trainers.grpo_loop that keeps the log-probs which `learner` computes until a step is written.

    `always` asks for them before every optimizer step where the objective itself does not: one more forward pass.
    """

    def __init__(self, learner: Learner, always: bool) -> None:
        self._learner, self._always = learner, always
        self._kept: list[tuple[TrainSample, npt.NDArray[np.float32]]] = []
        self._asked = False

    async def token_logprobs(self, samples: list[TrainSample]) -> Logprobs:
        logprobs = await self._learner.token_logprobs(samples)
        self._kept += zip(samples, logprobs, strict=True)
        self._asked = True
        return logprobs

    async def train_step(self, samples: list[TrainSample], loss: LossSpec) -> dict[str, float]:
        if self._always and not self._asked and samples:
            self._kept += zip(samples, await self._learner.token_logprobs(samples), strict=True)
        return await self._learner.train_step(samples, loss)

    async def reference_logprobs(self, samples: list[TrainSample]) -> Logprobs:
        return await self._learner.reference_logprobs(samples)

    async def sync_weights(self, version: int) -> float:
        return await self._learner.sync_weights(version)

    async def save(self, step: int) -> None:
        await self._learner.save(step)

    def write(self, root: Path, step: int, groups: Sequence[Group]) -> None:
        """Write what was kept as `step`'s file and forget it. Samples are told by their tokens; strangers are left out."""
        members: dict[tuple[str, bytes], list[int]] = {}
        for group in groups:
            for member in group.members:
                key = (group.instance_id, trajectory_ids(member.trajectory).tobytes())
                members.setdefault(key, []).append(member.trajectory.sample_index)
        keys, values = [], []
        for sample, logprobs in self._kept:
            if waiting := members.get((sample.group, sample.token_ids.astype(np.int32).tobytes())):
                keys.append((sample.group, waiting.pop(0)))
                values.append(trained_logprobs(sample, logprobs))
        self._kept, self._asked = [], False
        if keys:
            write_step(root, step, keys, values)


def trajectory_ids(trajectory: Trajectory) -> npt.NDArray[np.int32]:
    """All its tokens in order."""
    parts = [part for turn in trajectory.turns for part in (turn.context_ids, turn.completion_ids)]
    return np.asarray(np.concatenate([np.zeros(0, np.int32), *parts]), np.int32)


def step_file(root: Path, step: int) -> Path:
    """`step` counts from 1, as in metrics.jsonl."""
    return root / FOLDER / f"step_{step:05d}.parquet"


def trained_logprobs(sample: TrainSample, logprobs: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Those of the tokens whose mask is 1. Raises ValueError when the lengths differ."""
    if len(logprobs) != len(sample.loss_mask):
        raise ValueError(f"{sample.group}: {len(logprobs)} log-probs for a sample of {len(sample.loss_mask)} tokens")
    return np.compress(sample.loss_mask == 1, logprobs)


def write_step(root: Path, step: int, keys: Sequence[Key], logprobs: Logprobs) -> None:
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
