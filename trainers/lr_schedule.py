"""Learning rate by optimizer step: linear warm-up, then cosine, linear or constant. Pure."""

import math

from configs.optimizer_config import OptimizerConfig

SCHEDULES = ("cosine", "linear", "constant")


def learning_rate_at(step: int, num_steps: int, config: OptimizerConfig) -> float:
    """Learning rate of optimizer step `step` (0 is the first of `num_steps`); steps past the end keep the last rate.

    Warm-up: step s of w trains with (s + 1) / w of the peak. The decay would reach `min_learning_rate` one step after the
    last, so that no step trains with it (with 0, it would be wasted).

    >>> config = OptimizerConfig(learning_rate=1.0, warmup_steps=2, schedule="linear")
    >>> [round(learning_rate_at(step, 5, config), 3) for step in range(5)]
    [0.5, 1.0, 0.75, 0.5, 0.25]
    """
    if config.schedule not in SCHEDULES:
        raise ValueError(f"unknown schedule {config.schedule!r}; one of {', '.join(SCHEDULES)}")
    peak, low = config.learning_rate, config.min_learning_rate
    warmup_steps = math.ceil(config.warmup_ratio * num_steps - 1e-9) if config.warmup_ratio > 0 else config.warmup_steps
    if step < warmup_steps:
        return peak * (step + 1) / warmup_steps
    if config.schedule == "constant":
        return peak
    first = max(warmup_steps - 1, 0)
    progress = min((step - first) / max(num_steps - first, 1), 1.0)
    if config.schedule == "linear":
        return peak + (low - peak) * progress
    return low + (peak - low) * (1 + math.cos(math.pi * progress)) / 2
