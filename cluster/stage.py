"""What a stage is: a named piece of the pipeline that reads a run folder, works, and records what it found."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from cluster.fleet import Fleet
from cluster.metric_sinks import MetricSinks
from cluster.progress_view import ProgressView
from cluster.run_folder import RunFolder
from configs.run_config import RunConfig


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
    """`run` returns the record that stages.json keeps. `needs` are records that must exist before."""

    name: str
    needs: tuple[str, ...]
    run: Callable[[StageContext], Awaitable[dict[str, Any]]]
