"""The stages of the pipeline. To add one: a file with a `Stage`, a line here, settings in configs/, a verb in cluster/cli.py."""

from cluster.stage import Stage
from cluster.stages import (
    curate_stage,
    eval_stage,
    grpo_stage,
    rollout_stage,
    sft_stage,
    tasks_stage,
    tts_stage,
    world_model_stage,
)
from configs.run_config import RunConfig

STAGES: dict[str, Stage] = {
    stage.name: stage
    for stage in (
        tasks_stage.STAGE,
        rollout_stage.STAGE,
        curate_stage.STAGE,
        sft_stage.STAGE,
        eval_stage.BASE,
        eval_stage.SFT,
        grpo_stage.STAGE,
        eval_stage.GRPO,
        world_model_stage.STAGE,
        tts_stage.STAGE,
    )
}


def demo_stages(config: RunConfig) -> tuple[str, ...]:
    """All stages in order; without curation and SFT where GRPO begins with the base model."""
    initial = config.grpo.initial_policy
    made = ("curate", "sft") if initial == "sft" else ()
    return ("tasks", "rollout", *made, f"eval-{initial}", "grpo", "eval-grpo", "world-model", "tts")
