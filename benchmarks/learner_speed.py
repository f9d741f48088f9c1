"""Tokens per second of the learner on CPU: packed samples against rows under a block mask, plain torch against DeepSpeed.

    OMP_NUM_THREADS=1 python -m benchmarks.learner_speed            # a random Qwen2 of about 1 M parameters
    OMP_NUM_THREADS=2 python -m benchmarks.learner_speed --model trainers/tiny_base --threads 2

Both wall and CPU seconds are given: on a busy machine only the second says something.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional
from transformers import Qwen2Config, Qwen2ForCausalLM

from configs.optimizer_config import LearnerConfig, OptimizerConfig
from trainers.deepspeed_learner import DeepSpeedLearner
from trainers.loss_spec import LossSpec
from trainers.losses import LOSSES
from trainers.packing import MicroBatch, pack
from trainers.pretrained_lm import PretrainedLM, load_pretrained_lm
from trainers.train_sample import TrainSample

SPEC = LossSpec("cross_entropy", context_loss_weight=0.1)
LOSS = LOSSES[SPEC.name](SPEC)


def random_samples(count: int, vocab_size: int) -> list[TrainSample]:
    """Samples of 100 to 300 tokens, the second half of each trained."""
    rng = np.random.default_rng(0)
    samples = []
    for length in rng.integers(100, 300, count):
        mask = (np.arange(length) >= length // 2).astype(np.int8)
        zeros = np.zeros(length, np.float32)
        ids = rng.integers(0, vocab_size, length).astype(np.int32)
        samples.append(TrainSample(ids, mask, zeros, mask.astype(np.float32), mask.astype(np.int32), "benchmark"))
    return samples


def packed_pass(model: PretrainedLM, batches: list[MicroBatch]) -> None:
    """Forward and backward of packed rows, attention inside each sample."""
    for batch in batches:
        (-model(batch) * batch.weights).sum().backward()


def block_mask_pass(model: PretrainedLM, samples: list[TrainSample], row_tokens: int) -> None:
    """Forward and backward of packed rows, attention under a block-diagonal causal mask."""
    rows: list[list[TrainSample]] = [[]]
    for sample in sorted(samples, key=lambda one: -len(one.token_ids)):
        if rows[-1] and sum(len(one.token_ids) for one in rows[-1]) + len(sample.token_ids) > row_tokens:
            rows.append([])
        rows[-1].append(sample)
    for row in rows:
        ids = torch.from_numpy(np.concatenate([one.token_ids for one in row]).astype(np.int64))[None]
        positions = torch.from_numpy(np.concatenate([np.arange(len(one.token_ids)) for one in row]))[None]
        owner = torch.from_numpy(np.repeat(np.arange(len(row)), [len(one.token_ids) for one in row]))
        mask = (owner[:, None] == owner[None]) & torch.ones(len(owner), len(owner), dtype=torch.bool).tril()
        weights = torch.from_numpy(np.concatenate([LOSS.weights(one) for one in row]))
        hidden = model.lm.base_model(
            input_ids=ids, position_ids=positions, attention_mask=mask[None, None], use_cache=False
        ).last_hidden_state[0]
        where = torch.nonzero(weights)[:, 0]
        losses = functional.cross_entropy(model.lm.lm_head(hidden[where - 1]), ids[0, where], reduction="none")
        (losses * weights[where]).sum().backward()


def report(what: str, tokens: int, work: Callable[[], object], repeats: int = 3) -> None:
    """Print the best of a few runs after one that warms up."""
    work()
    wall, cpu = [], []
    for _ in range(repeats):
        began, began_cpu = time.perf_counter(), time.process_time()
        work()
        wall.append(time.perf_counter() - began)
        cpu.append(time.process_time() - began_cpu)
    print(
        f"{what:45s} {tokens / min(wall):9,.0f} tokens/s   {tokens / min(cpu):9,.0f} tokens/CPU-s   {min(cpu):.3f} CPU-s",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=None)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--samples", type=int, default=32)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    with tempfile.TemporaryDirectory() as folder:
        model_path = arguments.model or Path(folder)
        if arguments.model is None:
            shape = {"hidden_size": 128, "intermediate_size": 384, "num_hidden_layers": 4, "num_attention_heads": 4}
            Qwen2ForCausalLM(
                Qwen2Config(vocab_size=1024, num_key_value_heads=2, tie_word_embeddings=True, **shape)
            ).save_pretrained(folder)
        model = load_pretrained_lm(model_path, "float32")
        masked = load_pretrained_lm(model_path, "float32")
        masked.lm.set_attn_implementation("sdpa")
        samples = random_samples(arguments.samples, model.lm.config.vocab_size)
        tokens = sum(len(sample.token_ids) for sample in samples)
        print(f"{sum(p.numel() for p in model.parameters()):,} parameters, {tokens:,} tokens a step, {arguments.threads} threads")
        for budget in (1024, 2048, 4096, 8192):
            batches = pack(samples, budget, LOSS.weights)
            report(f"packed samples, {budget} tokens", tokens, lambda b=batches: packed_pass(model, b))
        for budget in (1024, 4096):
            report(f"rows under a block mask, {budget} tokens", tokens, lambda b=budget: block_mask_pass(masked, samples, b), 1)
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)

        def plain_step() -> None:
            optimizer.zero_grad(set_to_none=True)
            packed_pass(model, pack(samples, 2048, LOSS.weights))
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()

        report("whole step, plain torch", tokens, plain_step)
        for stage in (1, 3):
            settings = LearnerConfig(zero_stage=stage, tokens_per_micro_batch=2048, num_threads=arguments.threads)
            learner = DeepSpeedLearner(model_path, "float32", OptimizerConfig(), settings, 100, 0, 1, 0, seed=0)
            report(f"whole step, DeepSpeed ZeRO-{stage}", tokens, lambda one=learner: one.train_step(samples, SPEC))


if __name__ == "__main__":
    main()
