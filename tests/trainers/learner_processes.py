"""Learner ranks in processes of their own: run as a module, it prints what the rank saw as one JSON line."""

import json
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[2]
NUM_STEPS = 2
BUCKET_BYTES = 200_000
LENGTHS = (40, 12, 33, 8, 25, 19, 30)


@dataclass(frozen=True)
class Variant:
    """One way of sharing the same work. `resume` is a checkpoint that some other number of ranks wrote."""

    stage: int
    sequence_parallel: int = 1
    dtype: str = "float32"
    resume: str = ""
    lora_rank: int = 0

    @property
    def name(self) -> str:
        return f"{self.stage}_{self.sequence_parallel}_{self.dtype}_{self.lora_rank}"


def train(model: Path, work: Path, variant: Variant, rank: int, world_size: int, port: int) -> dict[str, Any]:
    """A few steps of both losses on this rank's share; then a checkpoint, another step, and the same step from the checkpoint."""
    from configs.optimizer_config import LearnerConfig, OptimizerConfig
    from tests.trainers.training_doubles import make_sample
    from trainers.deepspeed_learner import DeepSpeedLearner
    from trainers.loss_spec import LossSpec

    rng = np.random.default_rng(0)
    samples = [make_sample(rng, length) for length in LENGTHS]
    size = variant.sequence_parallel
    share = samples[rank // size :: world_size // size]  # uneven: some ranks have more micro-batches
    optimizer = OptimizerConfig(learning_rate=1e-3, warmup_steps=0, weight_decay=0.01, max_grad_norm=0.5)
    settings = LearnerConfig(
        num_ranks=world_size,
        zero_stage=variant.stage,
        sequence_parallel=size,
        tokens_per_micro_batch=64,
        num_threads=1,
        step_timeout_s=60,
        lora_rank=variant.lora_rank,
    )
    learner = DeepSpeedLearner(model, variant.dtype, optimizer, settings, 10, rank, world_size, port, seed=0)
    buckets = gathered_bytes(learner, BUCKET_BYTES)  # before the first step, from which on DeepSpeed keeps small ones whole
    policy, sft = LossSpec("clip_higher", max_response_tokens=50), LossSpec("cross_entropy", context_loss_weight=0.1)
    metrics = [learner.train_step(share, sft) for _ in range(NUM_STEPS)] + [learner.train_step(share, policy)]
    folder = work / f"checkpoint_{world_size}_{variant.name}" / "step_3"
    learner.save_checkpoint(folder, {"note": variant.stage})
    following = [learner.train_step(share, sft) for _ in range(2)]
    state = learner.load_checkpoint(folder)
    again = [learner.train_step(share, sft) for _ in range(2)]
    learner.export_hf(work / f"hf_{world_size}_{variant.name}")
    seen = {
        "buckets": buckets, "metrics": metrics, "following": following, "again": again, "state": state,
        "logprobs": [float(values.sum()) for values in learner.token_logprobs(share)],
        "names": [name for name, _ in learner.weights()],
        "debris": sorted(entry.name for entry in folder.parent.iterdir()),
    }  # fmt: skip
    if variant.resume:
        seen["resumed_state"] = learner.load_checkpoint(Path(variant.resume))
        seen["resumed"] = [learner.train_step(share, sft) for _ in range(2)]
    learner.close()
    return seen


def gathered_bytes(learner: Any, bucket_bytes: int) -> dict[str, Any]:
    """Bytes of parameters that this rank holds whole: before, within every bucket, and after; and the buckets' sizes."""

    def held() -> int:
        whole = [p for p in learner._module.lm.parameters() if getattr(p, "ds_status", None) in (None, ZeroParamStatus.AVAILABLE)]
        return sum(parameter.numel() * parameter.element_size() for parameter in whole)

    from deepspeed.runtime.zero.partition_parameters import ZeroParamStatus

    buckets = learner.weight_buckets(bucket_bytes)
    before, sizes, within, names = held(), [], [], []
    for index in range(len(buckets)):
        with buckets.gathered(index) as tensors:
            names += list(tensors)
            sizes.append(sum(values.numel() * values.element_size() for values in tensors.values()))
            within.append(held())
    shapes = [[name, list(shape)] for name, _, shape in buckets.shapes()]
    return {"before": before, "within": within, "after": held(), "sizes": sizes, "names": names, "shapes": shapes}


def run_ranks(model: Path, work: Path, variants: list[Variant], world_size: int) -> list[list[dict[str, Any]]]:
    """What every rank saw, by rank and variant. The processes are ended when one fails or takes longer than 600 s."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    arguments = [str(model), str(work), json.dumps([vars(variant) for variant in variants]), str(world_size), str(port)]
    command = [sys.executable, "-m", "tests.trainers.learner_processes"]
    ranks = [
        subprocess.Popen([*command, *arguments, str(rank)], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for rank in range(world_size)
    ]
    try:
        outputs = [rank.communicate(timeout=600) for rank in ranks]
    finally:
        for rank in ranks:
            rank.kill()
            rank.wait()
    for rank, (_, errors) in zip(ranks, outputs, strict=True):
        assert rank.returncode == 0, errors[-3000:]
    return [json.loads(output.strip().splitlines()[-1]) for output, _ in outputs]


def main() -> None:
    model, work, variants, world_size, port, rank = sys.argv[1:]
    chosen = [Variant(**variant) for variant in json.loads(variants)]
    seen = [train(Path(model), Path(work), variant, int(rank), int(world_size), int(port)) for variant in chosen]
    print(json.dumps(seen))


if __name__ == "__main__":
    main()
