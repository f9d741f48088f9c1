"""How fast a learner trains: tokens, model FLOPs and their share of the GPUs' peak. No torch here: the driver does the sums."""

from collections.abc import Sequence
from dataclasses import dataclass

PEAK_TFLOPS = {"H200": 989.0, "H100 PCIe": 756.0, "H100": 989.0, "H800": 989.0, "B200": 2250.0, "A100": 312.0, "A800": 312.0,
               "L40S": 362.0, "L40": 181.0, "L4": 121.0, "A10": 125.0, "RTX 4090": 165.2, "RTX A6000": 154.8}  # fmt: skip
"""Dense bf16 of one GPU by a part of its name, the first that fits; from NVIDIA's data sheets (without sparsity)."""


@dataclass(frozen=True)
class ModelSize:
    """What FLOPs depend on. `trained` and `frozen` count the parameters that a token is multiplied with: all but an input
    embedding that is not also the output's."""

    trained: int
    frozen: int
    layers: int
    width: int
    """Of all attention heads together."""


@dataclass(frozen=True)
class LearnerFacts:
    """What rank 0 says of itself: its model, the name of its device ("cpu" without a GPU) and the most memory so far."""

    size: ModelSize
    device: str
    peak_memory_gib: float


def training_flops(size: ModelSize, lengths: Sequence[int]) -> float:
    """Of forward and backward over sequences of these lengths; recomputation does not count.

    A parameter costs 6 a token (2 forward, 4 backward), a frozen one 4 (its own gradient is left out); causal attention
    6 * layers * width * T**2 a sequence (PaLM, appendix B, halved: half of the score matrix is masked).

    >>> training_flops(ModelSize(1000, 0, 0, 0), [10, 20])
    180000.0
    """
    tokens, squares = float(sum(lengths)), float(sum(length * length for length in lengths))
    return tokens * (6.0 * size.trained + 4.0 * size.frozen) + 6.0 * size.layers * size.width * squares


def peak_tflops(device_name: str) -> float | None:
    """Dense bf16 TFLOP/s of a GPU by its name, None for one that is not in the table.

    >>> peak_tflops("NVIDIA H100 80GB HBM3"), peak_tflops("cpu")
    (989.0, None)
    """
    return next((peak for name, peak in PEAK_TFLOPS.items() if name in device_name), None)


def speed_metrics(flops: float, tokens: float, seconds: float, num_devices: int, device_name: str) -> dict[str, float]:
    """`perf/...` of a step that took `seconds` on `num_devices`; `perf/mfu` where the peak is known.

    >>> speed_metrics(989e12, 1000.0, 2.0, 1, "NVIDIA H200")["perf/mfu"]
    0.5
    """
    tflops = flops / max(seconds, 1e-9) / 1e12
    metrics = {"perf/train_tokens_per_s": tokens / max(seconds, 1e-9), "perf/train_tflops": tflops}
    if (peak := peak_tflops(device_name)) is not None:
        metrics["perf/mfu"] = tflops / (peak * num_devices)
    return metrics
