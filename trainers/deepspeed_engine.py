"""DeepSpeed started so that nothing is compiled at run time.

Its own Adam and its shared-memory collectives would start a C++ compiler for more than a minute on a CPU machine; torch's AdamW
and gloo do the same work (checked against plain torch in every ZeRO stage).
"""

import logging
import math
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
from torch.distributed import HashStore  # type: ignore[attr-defined]

from configs.optimizer_config import LearnerConfig, OptimizerConfig
from trainers.pretrained_lm import PretrainedLM


def join_process_group(rank: int, world_size: int, address: str, port: int, config: LearnerConfig) -> torch.device:
    """Process group of all ranks (gloo on CPU, nccl on GPUs), known to DeepSpeed; returns this rank's device."""
    on_gpu = torch.cuda.is_available()
    backend = "nccl" if on_gpu else "gloo"
    os.environ.update({"RANK": str(rank), "WORLD_SIZE": str(world_size), "LOCAL_RANK": "0"})
    if not on_gpu:
        os.environ["DS_ACCELERATOR"] = "cpu"  # read when deepspeed is imported
        torch.set_num_threads(config.num_threads)
    import deepspeed

    logging.getLogger("DeepSpeed").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", message=".*is deprecated", category=FutureWarning, module="torch.distributed")
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False  # else it compiles for 77 s
    if not torch.distributed.is_initialized():
        alone = world_size == 1
        torch.distributed.init_process_group(
            backend,
            rank=rank,
            world_size=world_size,
            timeout=timedelta(seconds=config.step_timeout_s),
            init_method=None if alone else f"tcp://{address}:{port}",
            store=HashStore() if alone else None,  # one rank needs no port
        )
    deepspeed.init_distributed(dist_backend=backend, verbose=False)
    return torch.device("cuda", 0) if on_gpu else torch.device("cpu")


def start_engine(module: PretrainedLM, dtype: str, optimizer: OptimizerConfig, config: LearnerConfig) -> Any:
    """DeepSpeed's engine around the module. Gradients accumulate until `step`, however many backward passes that takes.

    With bfloat16 weights, gradients are summed and the optimizer keeps its own weights in float32. Raises ValueError for
    settings that cannot act together.
    """
    import deepspeed

    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    adamw = torch.optim.AdamW(
        trained,
        lr=optimizer.learning_rate,
        betas=optimizer.betas,
        weight_decay=optimizer.weight_decay,
        fused=torch.cuda.is_available(),
    )
    settings = engine_settings(dtype, optimizer, config)
    engine, *_ = deepspeed.initialize(model=module, optimizer=adamw, config=settings)
    return engine


def engine_settings(dtype: str, optimizer: OptimizerConfig, config: LearnerConfig) -> dict[str, Any]:
    """DeepSpeed's configuration. Raises ValueError for settings that cannot act together."""
    if config.zero_stage not in (1, 2, 3):
        raise ValueError(f"learner.zero_stage={config.zero_stage} is not supported; 1, 2 or 3")
    if config.parameter_offload and config.zero_stage != 3:
        raise ValueError(f"learner.parameter_offload needs learner.zero_stage=3, it is {config.zero_stage}")
    if config.optimizer_offload and dtype == "bfloat16" and config.zero_stage != 3:
        # Stages 1 and 2 then sum gradients in bfloat16, and keep part of those of a skipped step (DeepSpeed 0.19.8).
        raise ValueError(f"learner.optimizer_offload with bfloat16 needs learner.zero_stage=3, it is {config.zero_stage}")
    zero: dict[str, Any] = {"stage": config.zero_stage, "overlap_comm": False}
    pinned = torch.cuda.is_available()
    if config.optimizer_offload:
        zero["offload_optimizer"] = {"device": "cpu", "pin_memory": pinned}
    if config.parameter_offload:
        zero["offload_param"] = {"device": "cpu", "pin_memory": pinned}
    return {
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 1,
        "managed_gradient_accumulation": False,
        "gradient_clipping": optimizer.max_grad_norm,
        "bf16": {"enabled": dtype == "bfloat16", "check_grad_overflow": True},
        "data_types": {"grad_accum_dtype": "fp32"},
        "zero_optimization": zero,
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        "steps_per_print": 1 << 60,
    }


def take_step(engine: Any, zero_stage: int, skip_norm: float) -> tuple[bool, float]:
    """Clip and apply the accumulated gradients. Returns whether that was done, and their norm before clipping.

    When one is not finite (norm infinite), or the norm is at or above `skip_norm` (0: no bound), they are dropped and nothing
    changes.
    """
    if zero_stage == 3:
        # DeepSpeed looks for overflow in stage 3 with float16 only: a NaN would reach the weights.
        engine.optimizer.check_overflow()
        if engine.optimizer.overflow:
            engine.optimizer._loss_scale_update_and_overflow_cleanup()
            engine.skipped_steps += 1
            return False, math.inf
    with _norm_bound(engine.optimizer, skip_norm or math.inf) as measured:
        engine.step()
    applied = bool(engine.was_step_applied())
    return applied, float(engine.get_global_grad_norm()) if applied else measured[-1]


@contextmanager
def _norm_bound(optimizer: Any, bound: float) -> Iterator[list[float]]:
    """The optimizer takes a gradient norm at or above `bound` for one that is not finite, and so drops the gradients. Yields the
    norms that it measured, after an infinite one (when it found out otherwise that a gradient is not finite)."""
    module = sys.modules[type(optimizer).__module__]
    is_invalid, measured = module.is_invalid_grad_norm, [math.inf]  # type: ignore[attr-defined]

    def too_large(norm: Any) -> bool:
        invalid = bool(is_invalid(norm))
        measured.append(math.inf if invalid else float(norm))
        return invalid or measured[-1] >= bound

    module.is_invalid_grad_norm = too_large  # type: ignore[attr-defined]
    try:
        yield measured
    finally:
        module.is_invalid_grad_norm = is_invalid  # type: ignore[attr-defined]
