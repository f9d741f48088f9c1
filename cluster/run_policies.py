"""The policies of a run, and which of them GRPO begins with (grpo.initial_policy). Stages, evaluations and exports ask here."""

from collections.abc import Mapping
from typing import Any

from configs.run_config import RunConfig

AFTER_STAGE = {"base": "tasks", "sft": "sft", "grpo": "grpo"}
"""The stage whose record says that a policy can play; `base` is model.path and needs no more than tasks."""
POLICY_LABELS = {"base": "Base", "sft": "SFT", "grpo": "GRPO"}


def policies(config: RunConfig) -> tuple[str, str]:
    """The newest first: GRPO's, then the one it begins with."""
    return "grpo", config.grpo.initial_policy


def newest_policy(config: RunConfig, records: Mapping[str, Any]) -> str | None:
    """The newest policy that can play, by the finished stages."""
    return next((name for name in policies(config) if AFTER_STAGE[name] in records), None)


def newest_evaluation(config: RunConfig, records: Mapping[str, Any]) -> str | None:
    """The finished evaluation of the newest policy that has one."""
    return next((f"eval-{name}" for name in policies(config) if f"eval-{name}" in records), None)


def trained_from(records: Mapping[str, Any]) -> str:
    """The policy that the finished GRPO began with; runs of before this setting began with sft."""
    return str(records.get("grpo", {}).get("initial_policy", "sft"))
