"""Weights by vLLM's own transfers, between GPUs: NCCL broadcast (engines on other GPUs) or CUDA IPC (engines on the learner's).

vLLM's trainer side runs in the learner's ranks and drives the engines through `EngineControl`. The weights come a bucket at a
time, gathered under ZeRO-3. There is no checksum on the way: the comparison of log-probs after each sync is what notices a
transfer that went wrong. Import it in a learner rank only: it imports vllm and torch.
"""

import base64
import pickle
from collections.abc import Iterator
from typing import Any

import ray
import torch
from vllm.distributed.weight_transfer.base import ParamMeta, TrainerInitInfo, WeightSource
from vllm.distributed.weight_transfer.factory import WeightTransferTrainerFactory
from vllm.distributed.weight_transfer.ipc_engine import IPCTrainerInitInfo
from vllm.distributed.weight_transfer.nccl_engine import NCCLTrainerInitInfo

from trainers.weight_buckets import WeightBuckets

BACKENDS = ("nccl", "ipc")


class BucketSource(WeightSource):
    """A learner's weights as vLLM's trainer side wants them: what is to come, and then (name, tensor) in that order."""

    def __init__(self, buckets: WeightBuckets, device: torch.device) -> None:
        self._buckets, self._device = buckets, device

    def metadata(self) -> list[ParamMeta]:
        return [ParamMeta(name, dtype, shape) for name, dtype, shape in self._buckets.shapes()]

    def __iter__(self) -> Iterator[tuple[str, torch.Tensor]]:
        for index in range(len(self._buckets)):
            with self._buckets.gathered(index) as tensors:
                for name, values in tensors.items():
                    yield name, values.to(self._device)


class EngineControl:
    """vLLM's VLLMWeightSyncClient over engine actors; the transfer's control messages, one after the other."""

    def __init__(self, handles: list[Any], workers_per_engine: int, timeout_s: float) -> None:
        self._handles, self._workers, self._timeout_s = handles, workers_per_engine, timeout_s
        self.version = 0
        """What the next weights will be called."""

    def init_weight_transfer_engine(self, init_info: dict[str, Any]) -> None:
        infos = [init_info_of(index, init_info, self._workers) for index in range(len(self._handles))]
        self._all("init", infos)

    def start_weight_update(self) -> None:
        self._all("start", [{}] * len(self._handles))

    def update_weights(self, update_info: Any) -> None:
        self._all("update", [plain_update(update_info)] * len(self._handles))

    def finish_weight_update(self, weight_version: str | None = None) -> None:
        self._all("finish", [{}] * len(self._handles))

    def _all(self, step: str, payloads: list[dict[str, Any]]) -> None:
        pairs = zip(self._handles, payloads, strict=True)
        calls = [handle.native_transfer.remote(step, payload, self.version) for handle, payload in pairs]
        ray.get(calls, timeout=self._timeout_s)


def init_info_of(engine: int, init_info: dict[str, Any], workers_per_engine: int) -> dict[str, Any]:
    """vLLM counts the workers of one engine; with several, each engine's ranks in the NCCL group begin after the others'.

    >>> init_info_of(2, {"rank_offset": 1, "world_size": 13}, workers_per_engine=4)
    {'rank_offset': 9, 'world_size': 13}
    """
    if "rank_offset" not in init_info:
        return init_info
    return {**init_info, "rank_offset": init_info["rank_offset"] + engine * workers_per_engine}


def plain_update(update_info: dict[str, Any]) -> dict[str, Any]:
    """IPC handles hold types that vLLM's message layer does not carry: they travel pickled, as vLLM's HTTP client sends them."""
    handles = update_info.get("ipc_handles")
    if handles is None:
        return {key: value for key, value in update_info.items() if value is not None}
    rest = {key: value for key, value in update_info.items() if key != "ipc_handles" and value is not None}
    return {**rest, "ipc_handles_pickled": base64.b64encode(pickle.dumps(handles)).decode()}


def trainer_info(backend: str, rank: int, num_workers: int, meeting_point: tuple[str, int], bucket_bytes: int) -> TrainerInitInfo:
    """What vLLM's trainer side of a rank is made from. `num_workers` are the engines' GPUs in all; rank 0 sends."""
    if backend == "nccl":
        address, port = meeting_point
        return NCCLTrainerInitInfo(
            rank=rank,
            master_address=address,
            master_port=port,
            world_size=1 + num_workers,
            packed=True,
            packed_buffer_size_bytes=bucket_bytes,
        )
    if backend == "ipc":
        return IPCTrainerInitInfo(rank=rank, packed=True, packed_buffer_size_bytes=bucket_bytes)
    raise ValueError(f"no native weight transfer {backend!r}; there are {', '.join(BACKENDS)}")


class NativeSender:
    """One learner rank's side of native transfers to a fixed set of engines. Collective over the ranks."""

    def __init__(self, info: TrainerInitInfo, control: EngineControl, source: BucketSource) -> None:
        self._control = control
        self._engine = WeightTransferTrainerFactory.trainer_init(info, client=control, source=source)

    def send(self, version: int) -> None:
        """Give the engines the present weights as `version`; they are paused meanwhile."""
        self._control.version = version
        self._engine.send_weights()

    def close(self) -> None:
        """Leave the transfer group."""
        self._engine.shutdown()
