"""The learner's side of vLLM's GPU transfers, as far as a machine without GPUs can check it: what is promised is what comes, and
vLLM's own classes accept what is sent. The transfers themselves need GPUs."""

import base64
import pickle
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("vllm")

from vllm.distributed.weight_transfer.ipc_engine import IPCWeightTransferUpdateInfo
from vllm.distributed.weight_transfer.nccl_common import NCCLWeightTransferInitInfo, worker_init_payload
from vllm.distributed.weight_transfer.nccl_engine import NCCLTrainerWeightTransferEngine, NCCLWeightTransferUpdateInfo

from actors.engine_failure import EngineUnavailableError
from actors.engines.vllm_engine import VLLMEngine
from actors.native_transfer import BucketSource, init_info_of, plain_update, trainer_info
from tests.actors.random_qwen import write_random_qwen
from trainers.pretrained_lm import load_pretrained_lm
from trainers.weight_buckets import WeightBuckets

pytestmark = pytest.mark.engine


class ScriptedLLM:
    """vLLM's AsyncLLM as far as a native transfer needs it; `broken` is the method that fails."""

    errored = False

    def __init__(self, broken: str = "") -> None:
        self.broken, self.calls = broken, list[str]()

    def __getattr__(self, method: str) -> Any:
        async def call(*arguments: Any, **options: Any) -> None:
            self.calls.append(method)
            if method == self.broken:
                raise RuntimeError("a link is down")

        return call


def engine_with_a_waiting_request(llm: ScriptedLLM) -> VLLMEngine:
    engine = VLLMEngine()
    engine._llm, engine._broken = llm, ""
    engine._num_running, engine._last_began = 1, time.monotonic() - 1000.0
    return engine


async def test_a_native_transfer_is_no_stall() -> None:
    """However long it takes: the pool would kill an engine that stalls, in the middle of its weights."""
    engine = engine_with_a_waiting_request(llm := ScriptedLLM())
    assert (await engine.stats())["stalled_s"] > 900
    for step in ("start", "update", "update"):
        await engine.native_transfer(step, {}, 3)
        assert (await engine.stats())["stalled_s"] == 0.0
    await engine.native_transfer("finish", {}, 3)
    assert llm.calls[-1] == "resume_generation"
    assert (await engine.stats())["stalled_s"] < 900  # counted from the end of the transfer
    engine._last_began -= 1000.0
    assert (await engine.stats())["stalled_s"] > 900


async def test_a_native_transfer_that_fails_leaves_no_usable_engine() -> None:
    engine = engine_with_a_waiting_request(ScriptedLLM(broken="update_weights"))
    await engine.native_transfer("start", {}, 3)
    with pytest.raises(EngineUnavailableError, match="version 3 failed at update: a link is down"):
        await engine.native_transfer("update", {}, 3)
    with pytest.raises(EngineUnavailableError):
        await engine.stats()


async def test_waking_up_after_a_long_sleep_is_no_stall() -> None:
    engine = engine_with_a_waiting_request(ScriptedLLM())
    await engine.sleep()
    assert (await engine.stats())["stalled_s"] == 0.0
    await engine.wake()
    assert (await engine.stats())["stalled_s"] < 900


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> BucketSource:
    lm = load_pretrained_lm(write_random_qwen(tmp_path_factory.mktemp("model") / "m", seed=0), "bfloat16").lm
    return BucketSource(WeightBuckets(lm, gather=False, bucket_bytes=20_000), torch.device("cpu"))


def test_vllm_finds_the_stream_to_be_what_was_declared(source: BucketSource) -> None:
    meta = source.metadata()
    for _ in range(2):  # every round is a fresh pass
        sent = list(NCCLTrainerWeightTransferEngine._checked_iter(source, meta))
        assert [name for name, _ in sent] == [entry.name for entry in meta]
    assert len({id(entry) for entry in meta}) == len(meta) > 20
    assert {entry.dtype for entry in meta} == {torch.bfloat16}
    NCCLWeightTransferUpdateInfo([m.name for m in meta], ["bfloat16"] * len(meta), [list(m.shape) for m in meta])


def test_workers_of_several_engines_get_ranks_of_their_own() -> None:
    info = trainer_info("nccl", rank=0, num_workers=4, meeting_point=("10.0.0.1", 2345), bucket_bytes=1 << 20)
    assert (info.world_size, info.is_sender, info.packed_buffer_size_bytes) == (5, True, 1 << 20)
    worker = NCCLWeightTransferInitInfo(
        master_address=info.master_address, master_port=info.master_port, rank_offset=1, world_size=5, packed=True
    )
    payloads = [init_info_of(engine, worker_init_payload(worker), workers_per_engine=2) for engine in range(2)]
    assert [NCCLWeightTransferInitInfo(**payload).rank_offset for payload in payloads] == [1, 3]


def test_ranks_other_than_0_do_not_send() -> None:
    assert [trainer_info("ipc", rank, 1, ("", 0), 1).is_sender for rank in range(3)] == [True, False, False]


def test_an_unknown_backend_is_refused() -> None:
    with pytest.raises(ValueError, match="no native weight transfer 'rdma'; there are nccl, ipc"):
        trainer_info("rdma", 0, 1, ("", 0), 1)


def test_ipc_handles_travel_as_text(monkeypatch: pytest.MonkeyPatch) -> None:
    handles = {"GPU-1": (torch.bfloat16, (2, 3), 0)}
    update = IPCWeightTransferUpdateInfo(["w"], ["bfloat16"], [[2, 3]], ipc_handles=handles, tensor_sizes=[12])
    sent = plain_update(asdict(update))
    assert sorted(sent) == ["dtype_names", "ipc_handles_pickled", "names", "shapes", "tensor_sizes"]
    assert pickle.loads(base64.b64decode(sent["ipc_handles_pickled"])) == handles
    monkeypatch.setenv("VLLM_ALLOW_INSECURE_SERIALIZATION", "1")  # as actors.engines.vllm_start sets it for ipc
    assert IPCWeightTransferUpdateInfo(**sent).ipc_handles == handles


def test_what_is_to_come_is_declared_without_values(tmp_path: Path) -> None:
    folder = write_random_qwen(tmp_path / "m", seed=0)
    lm = load_pretrained_lm(folder, "float32").lm.to("meta")
    shapes = list(WeightBuckets(lm, gather=False, bucket_bytes=1).shapes())
    assert ("model.norm.weight", torch.float32, (64,)) in shapes
