"""Two learner ranks in processes of their own: run as a module, it prints what the rank saw as one JSON line."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[2]
NUM_STEPS = 3
LENGTHS = (40, 12, 33, 8, 25, 19, 30)
FIRST_RANK_SAMPLES = 5
"""Rank 0 gets more samples than rank 1, and so more micro-batches."""


def train(model: Path, work: Path, stage: int, rank: int, world_size: int, port: int) -> dict[str, Any]:
    """A few steps of both losses on this rank's share; then a checkpoint, another step, and the same step from the checkpoint."""
    from configs.optimizer_config import LearnerConfig, OptimizerConfig
    from tests.trainers.training_doubles import make_sample
    from trainers.deepspeed_learner import DeepSpeedLearner
    from trainers.loss_spec import LossSpec

    rng = np.random.default_rng(0)
    samples = [make_sample(rng, length) for length in LENGTHS]
    share = samples if world_size == 1 else (samples[:FIRST_RANK_SAMPLES], samples[FIRST_RANK_SAMPLES:])[rank]
    optimizer = OptimizerConfig(learning_rate=1e-3, warmup_steps=0, weight_decay=0.01, max_grad_norm=0.5)
    settings = LearnerConfig(zero_stage=stage, tokens_per_micro_batch=64, num_threads=1, step_timeout_s=60)
    learner = DeepSpeedLearner(model, "float32", optimizer, settings, 10, rank, world_size, port, seed=0)
    policy, sft = LossSpec("clip_higher", max_response_tokens=50), LossSpec("cross_entropy", context_loss_weight=0.1)
    metrics = [learner.train_step(share, sft) for _ in range(NUM_STEPS)] + [learner.train_step(share, policy)]
    folder = work / f"checkpoint_{world_size}_{stage}" / "step_4"
    learner.save_checkpoint(folder, {"note": stage})
    following = learner.train_step(share, sft)
    state = learner.load_checkpoint(folder)
    again = learner.train_step(share, sft)
    learner.export_hf(work / f"hf_{world_size}_{stage}")
    logprobs = [float(values.sum()) for values in learner.token_logprobs(share)]
    names = [name for name, _ in learner.weights()]
    return {
        "metrics": metrics, "following": following, "again": again, "state": state, "logprobs": logprobs, "names": names,
        "debris": sorted(entry.name for entry in folder.parent.iterdir()),
    }  # fmt: skip


def run_ranks(model: Path, work: Path, stages: list[int], port: int, world_size: int) -> list[list[dict[str, Any]]]:
    """What every rank saw, by rank and stage. The processes are ended when one fails or takes longer than 150 s."""
    arguments = [str(model), str(work), ",".join(map(str, stages)), str(world_size), str(port)]
    command = [sys.executable, "-m", "tests.trainers.learner_processes"]
    ranks = [
        subprocess.Popen([*command, *arguments, str(rank)], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for rank in range(world_size)
    ]
    try:
        outputs = [rank.communicate(timeout=150) for rank in ranks]
    finally:
        for rank in ranks:
            rank.kill()
            rank.wait()
    for rank, (_, errors) in zip(ranks, outputs, strict=True):
        assert rank.returncode == 0, errors[-3000:]
    return [json.loads(output.strip().splitlines()[-1]) for output, _ in outputs]


def main() -> None:
    model, work, stages, world_size, port, rank = sys.argv[1:]
    seen = [train(Path(model), Path(work), int(stage), int(rank), int(world_size), int(port)) for stage in stages.split(",")]
    print(json.dumps(seen))


if __name__ == "__main__":
    main()
