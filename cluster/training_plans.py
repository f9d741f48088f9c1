"""The memory and time plan of a run's SFT learner, for `--plan`."""

from pathlib import Path

from configs.run_config import RunConfig
from trainers.memory_plan import plan_training, read_shape, render_training_plan, require_fit
from trainers.model_paths import TINY_BASE, resolve_model_path
from trainers.sft_loop import steps_of


def sft_plan_text(config: RunConfig) -> str:
    """The plan as text. Raises PlanError when the model's shape is unknown or, on GPUs, when it cannot fit."""
    sft = config.sft
    path = config.model.path
    folder = resolve_model_path(path) if path == TINY_BASE else Path(path).expanduser()
    num_steps = steps_of(sft, sft.expected_samples)
    mean_tokens = min(sft.expected_tokens, sft.max_tokens) if sft.epochs > 0 else sft.max_tokens
    plan = plan_training(
        read_shape(folder), sft.learner, config.model.dtype, sft.max_tokens, mean_tokens, sft.batch_size, num_steps
    )
    if config.cluster.learner_gpus > 0:
        require_fit(f"sft of {folder.name}", plan)
    return render_training_plan(f"sft of {folder.name}", plan, config.model.dtype, config.cluster.learner_gpus > 0)
