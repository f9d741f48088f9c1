"""Placement and weight transfer: what auto means, and combinations that are refused with the keys to change."""

import pytest

from configs.engine_check import weight_transfer_of
from configs.stage_loading import ConfigError, load_config

ON_GPUS = ["cluster.engine_gpus=1", "cluster.learner_gpus=1"]
SHARED = ["cluster.placement=colocated", "cluster.engine_gpus=0.5", "cluster.learner_gpus=0.5"]
OFFLOADED = [f"{stage}.learner.optimizer_offload=true" for stage in ("sft", "grpo", "world_model")]
COLOCATED = [*SHARED, "grpo.max_staleness=0", *OFFLOADED]


@pytest.mark.parametrize(
    ("overrides", "transfer"),
    [
        ([], "shm"),
        (["cluster.engine_gpus=1"], "shm"),
        (ON_GPUS, "nccl"),
        (COLOCATED, "ipc"),
        ([*ON_GPUS, "engine.weight_transfer=shm"], "shm"),
        (["cluster.placement=colocated", "grpo.max_staleness=0"], "shm"),
    ],
)
def test_auto_takes_what_fits_the_placement(overrides: list[str], transfer: str) -> None:
    assert weight_transfer_of(load_config(None, overrides)) == transfer


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["cluster.placement=together"], "cluster.placement=together is not known; one of split, colocated"),
        (["engine.weight_transfer=rdma"], "engine.weight_transfer=rdma is not known; one of auto, shm, nccl, ipc"),
        (["engine.weight_transfer=nccl"], "engine.weight_transfer=nccl needs GPUs on both sides: cluster.engine_gpus=0"),
        ([*ON_GPUS, "engine.weight_transfer=ipc"], "engine.weight_transfer=ipc shares memory of one GPU"),
        ([*COLOCATED, "engine.weight_transfer=nccl"], "engine.weight_transfer=nccl does not work between processes on one GPU"),
        ([*COLOCATED, "grpo.max_staleness=2"], "rollouts cannot run ahead; grpo.max_staleness=2 must be 0"),
        ([*COLOCATED, "engine.num_engines=2"], "engine.num_engines=2 is more than grpo.learner.num_ranks=1"),
        ([*COLOCATED, "engine.tensor_parallel=2"], "cluster.placement=colocated needs engine.tensor_parallel=1"),
        ([*COLOCATED, "cluster.learner_gpus=0"], "set both cluster.engine_gpus and cluster.learner_gpus, or neither"),
        ([*COLOCATED, "cluster.learner_gpus=0.6"], "are shares of one GPU, together at most 1"),
        ([*SHARED, "grpo.max_staleness=0"], f"beside the engine that plays after a step or a stage; set {' '.join(OFFLOADED)}"),
        ([*SHARED, "grpo.max_staleness=0", *OFFLOADED[1:]], f"after a step or a stage; set {OFFLOADED[0]}"),
        ([*COLOCATED, "engine.sleep_level=3"], "engine.sleep_level=3 must be 1 or 2"),
    ],
)
def test_what_cannot_work_is_refused(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        load_config(None, overrides)
    assert message in str(error.value)
