"""What a stage is: a named piece of the pipeline that reads a run folder, works, and records what it found."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster.fleet import Fleet
from cluster.metric_sinks import MetricSinks
from cluster.progress_view import ProgressView
from cluster.run_folder import RunFolder
from cluster.run_policies import AFTER_STAGE
from configs.run_config import RunConfig
from configs.simulation_check import endpoint_advice, uses_world_model

JUDGING = ("world-model", "tts")
"""Stages that ask the world model whatever decides the rewards."""


class StageError(RuntimeError):
    """A stage cannot run or gave nothing to go on with; says why and what to do."""


@dataclass(frozen=True)
class StageContext:
    """What every stage is handed."""

    config: RunConfig
    folder: RunFolder
    sinks: MetricSinks
    fleet: Fleet
    progress: ProgressView


@dataclass(frozen=True)
class Stage:
    """`run` returns the record that stages.json keeps. `needs` are records that must exist before. `trains_initial_policy`: it
    begins with grpo.initial_policy and needs that. `asks_world_model`: where the configuration simulates executions or rewards,
    that happens in this stage's episodes, so it needs the world model as well."""

    name: str
    needs: tuple[str, ...]
    run: Callable[[StageContext], Awaitable[dict[str, Any]]]
    trains_initial_policy: bool = False
    asks_world_model: bool = False

    def missing(self, config: RunConfig, records: Mapping[str, Any]) -> str:
        """The first stage whose record this one still lacks, empty when it can run. An endpoint's world model needs no stage."""
        needs = [*self.needs]
        if self.trains_initial_policy:
            needs.append(AFTER_STAGE[config.grpo.initial_policy])
        if self.asks_world_model and uses_world_model(config) and not config.world_model.endpoint.base_url:
            needs.append("world-model")
        return next((name for name in needs if name not in records), "")

    def refusal(self, verb: str, config: RunConfig, records: Mapping[str, Any], run: Path | str) -> str:
        """Why `verb` cannot run in the folder `run` yet, and what to do; empty when it can."""
        missing = self.missing(config, records)
        if not missing:
            return ""
        text = f"{verb} needs {missing} first: swe-master {missing} --resume {run}"
        begins = self.trains_initial_policy and missing == "sft"
        return f"{text}, or grpo.initial_policy=base to begin with model.path" if begins else text

    def advice(self, config: RunConfig) -> list[str]:
        """Lines to say before it runs: settings of an endpoint's world model that rarely do what is meant, where it is asked."""
        asked = self.name in JUDGING or (self.asks_world_model and uses_world_model(config))
        return endpoint_advice(config) if asked else []
