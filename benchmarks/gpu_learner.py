"""Full fine-tuning of Qwen3 shapes with random weights on one GPU: tokens/s, model-FLOP utilisation, peak memory, roofline.

    python -m benchmarks.gpu_learner --json                                       # 0.6B and 4B, 16K and 64K tokens
    python -m benchmarks.gpu_learner --shape 4B --tokens 65536 --optimizer-offload
    python -m benchmarks.gpu_learner --shape tiny --device cpu --tokens 512       # the same code, to test it

Needs torch, transformers and deepspeed, and no files: the model is made here. It runs this project's learner: each sample
attends to itself in one fused call (FlashAttention on a GPU), layers are checkpointed, log-probs are computed in chunks, AdamW is
torch's fused one. A step is one sample of --tokens tokens, all of them trained; the first --warmup steps are not timed.

Model-FLOP utilisation = FLOPs a token x tokens/s / peak, with
    FLOPs a token = 6 x (weights of the layers' matrices + output layer) + 6 x layers x heads x head_dim x tokens
(forward 2, backward 4 a weight; attention counts the causal half; recomputation of checkpointed layers is not counted). The
convention that counts all of attention, 12 instead of 6, with head_dim = hidden / heads, is printed beside it: published
figures of peers use it.
"""

import argparse
import gc
import json
import os
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from configs.optimizer_config import LearnerConfig, OptimizerConfig
from trainers.memory_plan import GIB, KNOWN_SHAPES, ModelShape, flops_per_token, plan_training
from trainers.train_sample import TrainSample

SHAPES = {
    "0.6B": KNOWN_SHAPES["Qwen3-0.6B"],
    "4B": KNOWN_SHAPES["Qwen3-4B"],
    "tiny": ModelShape(64, 2, 4, 2, 32, 128, 512, tied=True),
}
PEAK_TFLOPS = {"H100": 989.0, "H200": 989.0, "A100": 312.0, "B200": 2250.0}
"""Dense bfloat16 peaks, by a part of the device's name (SXM boards)."""
BANDWIDTH_TB_S = {"H100": 3.35, "H200": 4.8, "A100": 2.0, "B200": 8.0}
"""Memory bandwidth of the same boards."""


@dataclass(frozen=True)
class Roofline:
    """Lower bounds of a step's seconds: arithmetic at the peak (layers computed twice), and memory traffic at full bandwidth."""

    matrix_s: float
    attention_s: float
    traffic_s: float

    @property
    def largest_mfu(self) -> float:
        """Utilisation if compute and traffic never overlapped and ran at their peaks; checkpointing's second forward included."""
        useful = (self.matrix_s + self.attention_s) * 3 / 4
        return useful / (self.matrix_s + self.attention_s + self.traffic_s)


def mfu(shape: ModelShape, tokens: int, tokens_per_s: float, peak_tflops: float) -> float:
    """Share of the peak that the model's own FLOPs take.

    >>> round(mfu(SHAPES["0.6B"], 65_536, 10_150, 989.0), 3)
    0.268
    """
    return flops_per_token(shape, tokens) * tokens_per_s / (peak_tflops * 1e12)


def peers_mfu(shape: ModelShape, tokens: int, tokens_per_s: float, peak_tflops: float) -> float:
    """The same with all of attention counted and head_dim = hidden / heads.

    >>> round(peers_mfu(SHAPES["4B"], 65_536, 4_160, 989.0), 3)
    0.406
    """
    matrices = shape.layers * shape.layer_parameters + shape.vocabulary * shape.hidden
    return (6 * matrices + 12 * shape.layers * shape.hidden * tokens) * tokens_per_s / (peak_tflops * 1e12)


def roofline(shape: ModelShape, tokens: int, peak_tflops: float, bandwidth_tb_s: float) -> Roofline:
    """Bounds for one step of one sample.

    Traffic of unfused elementwise work: about 40 reads and writes of a (tokens, hidden) bfloat16 tensor a layer and pass (norms,
    rotary embedding, residuals, SwiGLU on 3 x intermediate), over two forward passes and a backward of twice one; and 28 bytes
    a parameter for AdamW (float32 weight, two moments, gradient; read and written).
    """
    forward_matrices = 2 * tokens * (shape.layers * shape.layer_parameters + shape.vocabulary * shape.hidden)
    forward_attention = 2 * tokens * tokens * shape.layers * shape.heads * shape.head_dim
    elementwise = shape.layers * tokens * 2 * (40 * shape.hidden + 9 * shape.intermediate) * 4
    traffic = elementwise + 28 * shape.num_parameters
    peak = peak_tflops * 1e12
    return Roofline(4 * forward_matrices / peak, 4 * forward_attention / peak, traffic / (bandwidth_tb_s * 1e12))


def write_model(shape: ModelShape, folder: Path) -> None:
    """A random Qwen3 of this shape in bfloat16, written a layer's worth of memory at a time by transformers."""
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=shape.vocabulary, hidden_size=shape.hidden, intermediate_size=shape.intermediate,
        num_hidden_layers=shape.layers, num_attention_heads=shape.heads, num_key_value_heads=shape.key_heads,
        head_dim=shape.head_dim, tie_word_embeddings=shape.tied, max_position_embeddings=131_072, rope_theta=1e6,
        dtype=torch.bfloat16,
    )  # fmt: skip
    Qwen3ForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)


def whole_sample(shape: ModelShape, tokens: int, seed: int) -> TrainSample:
    """Random ids, every token trained."""
    ids = np.random.default_rng(seed).integers(0, shape.vocabulary, tokens).astype(np.int32)
    on, zeros = np.ones(tokens, np.int8), np.zeros(tokens, np.float32)
    return TrainSample(ids, on, zeros, on.astype(np.float32), on.astype(np.int32), "benchmark")


def measure(name: str, tokens: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """One shape and length."""
    import torch

    from trainers.deepspeed_learner import DeepSpeedLearner
    from trainers.loss_spec import LossSpec

    shape = SHAPES[name]
    settings = LearnerConfig(
        zero_stage=3 if arguments.optimizer_offload else 1, tokens_per_micro_batch=tokens, activation_checkpointing=True,
        activation_offload=arguments.activation_offload, optimizer_offload=arguments.optimizer_offload,
        compile_layers=arguments.compile, num_threads=arguments.threads, step_timeout_s=3600.0,
        gpu_memory_gib=arguments.memory_gib,
    )  # fmt: skip
    plan = plan_training(shape, settings, "bfloat16", tokens, tokens, 1, 1)
    on_gpu = torch.cuda.is_available()
    with tempfile.TemporaryDirectory() as folder:
        write_model(shape, Path(folder))
        learner = DeepSpeedLearner(Path(folder), "bfloat16", OptimizerConfig(learning_rate=1e-5), settings, 100, 0, 1, 0, seed=0)
        if on_gpu:
            torch.cuda.reset_peak_memory_stats()
        seconds = []
        for step in range(arguments.warmup + arguments.steps):
            began = time.perf_counter()
            metrics = learner.train_step([whole_sample(shape, tokens, step)], LossSpec("cross_entropy"))  # ends with a sync
            seconds.append(time.perf_counter() - began)
        learner.close()
    peak_gib = torch.cuda.max_memory_allocated() / GIB if on_gpu else None
    del learner
    gc.collect()
    if on_gpu:
        torch.cuda.empty_cache()
    timed = float(np.median(seconds[arguments.warmup :]))
    return {
        "shape": name, "tokens": tokens, "loss": metrics["loss"], "skipped": metrics["skipped_total"], "step_s": timed,
        "peak_gib": peak_gib, "planned_gib": sum(plan.gpu_bytes.values()) / GIB,
    } | figures(shape, tokens, tokens / timed, arguments.peak_tflops, arguments.bandwidth_tb_s)  # fmt: skip


def figures(shape: ModelShape, tokens: int, tokens_per_s: float, peak_tflops: float, bandwidth_tb_s: float) -> dict[str, Any]:
    """What follows from the speed."""
    bound = roofline(shape, tokens, peak_tflops, bandwidth_tb_s)
    return {
        "tokens_per_s": tokens_per_s,
        "flops_per_token": flops_per_token(shape, tokens),
        "mfu": mfu(shape, tokens, tokens_per_s, peak_tflops),
        "mfu_all_of_attention": peers_mfu(shape, tokens, tokens_per_s, peak_tflops),
        "roofline": vars(bound) | {"largest_mfu": bound.largest_mfu},
    }


def of_device(table: dict[str, float], device: str) -> float:
    """The entry whose name is part of the device's. Raises SystemExit for an unknown device."""
    for name, value in table.items():
        if name in device:
            return value
    raise SystemExit(f"unknown device {device!r}: give --peak-tflops and --bandwidth-tb-s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=SHAPES, action="append", help="again for several; default 0.6B and 4B")
    parser.add_argument("--tokens", type=int, action="append", help="again for several; default 16384 and 65536")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--warmup", type=int, default=2)
    parser.add_argument("--activation-offload", action="store_true", help="checkpoints wait in host memory")
    parser.add_argument("--optimizer-offload", action="store_true", help="master weights and moments in host memory (ZeRO-3)")
    parser.add_argument("--compile", action="store_true", help="compile norms and MLPs (learner.compile_layers)")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--peak-tflops", type=float, default=0.0, help="dense bfloat16 peak; default: by the device's name")
    parser.add_argument("--bandwidth-tb-s", type=float, default=0.0)
    parser.add_argument("--memory-gib", type=float, default=141.0)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    if arguments.device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    import torch

    if arguments.device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("no GPU here: use --device cpu --shape tiny --tokens 512 to try the script")
    device = torch.cuda.get_device_name() if arguments.device == "cuda" else "cpu"
    if arguments.device == "cpu":  # made-up peaks: CPU figures only show that the script works
        arguments.peak_tflops, arguments.bandwidth_tb_s = arguments.peak_tflops or 1.0, arguments.bandwidth_tb_s or 0.1
    arguments.peak_tflops = arguments.peak_tflops or of_device(PEAK_TFLOPS, device)
    arguments.bandwidth_tb_s = arguments.bandwidth_tb_s or of_device(BANDWIDTH_TB_S, device)
    rows = []
    for name in arguments.shape or ("0.6B", "4B"):
        for tokens in arguments.tokens or (16_384, 65_536):
            row = measure(name, tokens, arguments)
            rows.append(row)
            peak = "" if row["peak_gib"] is None else f", peak {row['peak_gib']:.1f} GiB"
            print(
                f"{name} {tokens} tokens: {row['step_s']:.3f} s, {row['tokens_per_s']:,.0f} tokens/s, MFU {row['mfu']:.1%} "
                f"(all of attention counted: {row['mfu_all_of_attention']:.1%}; at most {row['roofline']['largest_mfu']:.1%})"
                f"{peak} (planned {row['planned_gib']:.1f})",
                flush=True,
            )
    result = {"device": device, "torch": torch.__version__, "peak_tflops": arguments.peak_tflops, "rows": rows}
    if arguments.json:
        print(json.dumps(result))


if __name__ == "__main__":
    main()
