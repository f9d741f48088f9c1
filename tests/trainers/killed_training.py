"""A small SFT run in a process of its own that can kill itself in the middle of a backward pass. Run as a module."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[2]
NUM_STEPS = 6
CHECKPOINT_EVERY = 2


class LocalLearner:
    """What the SFT loop calls, over one rank in this process."""

    def __init__(self, learner: Any, root: Path) -> None:
        self._learner, self._root = learner, root

    async def train_step(self, samples: list[Any], loss: Any) -> dict[str, float]:
        metrics: dict[str, float] = self._learner.train_step(samples, loss)
        return metrics

    async def save(self, step: int, score: float | None = None) -> None:
        from trainers.checkpoint import keep_best_and_last, step_folder

        self._learner.save_checkpoint(step_folder(self._root, step), {"step": step})
        keep_best_and_last(self._root, 2)


def run(model: Path, root: Path, out: Path, kill_at: int) -> None:
    """Train from the newest checkpoint in `root`, or die in micro-batch `kill_at` (0: never). Writes the weights to `out`."""
    from configs.optimizer_config import LearnerConfig, OptimizerConfig
    from configs.sft_config import SFTConfig
    from tests.trainers.training_doubles import make_sample
    from trainers.checkpoint import latest_checkpoint
    from trainers.deepspeed_learner import DeepSpeedLearner
    from trainers.sft_loop import run_sft

    optimizer = OptimizerConfig(learning_rate=1e-3, warmup_steps=2)
    settings = LearnerConfig(tokens_per_micro_batch=40, num_threads=1)
    config = SFTConfig(optimizer, settings, num_steps=NUM_STEPS, batch_size=4, checkpoint_every=CHECKPOINT_EVERY)
    learner = DeepSpeedLearner(model, "float32", optimizer, settings, NUM_STEPS, 0, 1, 0, seed=0)
    found = latest_checkpoint(root)
    if found is not None:
        learner.load_checkpoint(found[1])
    passes = 0

    def count(*_: object) -> None:
        nonlocal passes
        passes += 1
        if passes == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    learner._module.register_full_backward_hook(count)
    samples = [make_sample(np.random.default_rng(index), 15 + index) for index in range(10)]
    losses: list[float] = []
    asyncio.run(
        run_sft(
            config,
            samples,
            LocalLearner(learner, root),
            learner.steps_done,
            0,
            lambda step, metrics: losses.append(metrics["loss"]),
        )
    )
    np.savez(out, losses=losses, **dict(learner.weights()))


def run_process(model: Path, root: Path, out: Path, kill_at: int, max_file_bytes: int = 0) -> tuple[int, str]:
    """Exit code and stderr of such a run. `max_file_bytes` makes writing more fail, as a full disk does."""
    arguments = [str(model), str(root), str(out), str(kill_at), str(max_file_bytes)]
    done = subprocess.run(
        [sys.executable, "-m", "tests.trainers.killed_training", *arguments],
        cwd=ROOT, capture_output=True, text=True, timeout=170, check=False,
    )  # fmt: skip
    return done.returncode, done.stderr


def main() -> None:
    model, root, out, kill_at, max_file_bytes = sys.argv[1:]
    if int(max_file_bytes):
        import resource

        resource.setrlimit(resource.RLIMIT_FSIZE, (int(max_file_bytes), int(max_file_bytes)))
    run(Path(model), Path(root), Path(out), int(kill_at))


if __name__ == "__main__":
    main()
