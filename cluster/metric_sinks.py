"""Where metrics go: metrics.jsonl always, W&B and TensorBoard when asked."""

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import orjson

from configs.run_config import RunConfig


class MetricSink(Protocol):
    """One destination of metrics."""

    def log(self, stage: str, step: int, metrics: Mapping[str, float]) -> None: ...

    def close(self) -> None: ...


class JSONLSink:
    """One JSON object a line: stage, step, time (seconds since the epoch), then the metrics. Flushed per line."""

    def __init__(self, path: Path) -> None:
        self._file = open(path, "ab", buffering=0)  # noqa: SIM115

    def log(self, stage: str, step: int, metrics: Mapping[str, float]) -> None:
        row = {"stage": stage, "step": step, "time": round(time.time(), 3), **metrics}
        self._file.write(orjson.dumps(row, option=orjson.OPT_SERIALIZE_NUMPY) + b"\n")

    def close(self) -> None:
        self._file.close()


class WandbSink:
    """Weights & Biases; offline unless WANDB_MODE or WANDB_API_KEY say otherwise."""

    def __init__(self, config: RunConfig, root: Path) -> None:
        import wandb
        from omegaconf import OmegaConf

        mode = os.environ.get("WANDB_MODE") or ("online" if os.environ.get("WANDB_API_KEY") else "offline")
        settings = OmegaConf.to_container(OmegaConf.structured(config))
        assert isinstance(settings, dict)
        self._run = wandb.init(project="swe-master-ray", name=root.name, dir=str(root), config=settings, mode=mode)  # type: ignore[arg-type]

    def log(self, stage: str, step: int, metrics: Mapping[str, float]) -> None:
        self._run.log({f"{stage}/{name}": value for name, value in metrics.items()} | {f"{stage}/step": step})

    def close(self) -> None:
        self._run.finish()


class TensorBoardSink:
    """TensorBoard event files under logs/tensorboard."""

    def __init__(self, root: Path) -> None:
        from tensorboardX import SummaryWriter

        self._writer: Any = SummaryWriter(str(root / "logs" / "tensorboard"))

    def log(self, stage: str, step: int, metrics: Mapping[str, float]) -> None:
        for name, value in metrics.items():
            self._writer.add_scalar(f"{stage}/{name}", value, step)

    def close(self) -> None:
        self._writer.close()


class MetricSinks:
    """All sinks of a run as one. Raises ValueError for an unknown tracker name."""

    def __init__(self, config: RunConfig, root: Path) -> None:
        unknown = set(config.trackers) - {"wandb", "tensorboard"}
        if unknown:
            raise ValueError(f"unknown trackers {sorted(unknown)}; known: tensorboard, wandb")
        self._sinks: list[MetricSink] = [JSONLSink(root / "metrics.jsonl")]
        if "wandb" in config.trackers:
            self._sinks.append(WandbSink(config, root))
        if "tensorboard" in config.trackers:
            self._sinks.append(TensorBoardSink(root))

    def log(self, stage: str, step: int, metrics: Mapping[str, float]) -> None:
        for sink in self._sinks:
            sink.log(stage, step, metrics)

    def close(self) -> None:
        for sink in self._sinks:
            sink.close()


def read_metrics(root: Path, stage: str) -> list[dict[str, Any]]:
    """Rows of one stage from metrics.jsonl, the last of each step (a resumed run repeats steps); torn lines are skipped."""
    by_step: dict[int, dict[str, Any]] = {}
    try:
        lines = (root / "metrics.jsonl").read_bytes().splitlines()
    except FileNotFoundError:
        return []
    for line in lines:
        try:
            row = orjson.loads(line)
        except orjson.JSONDecodeError:
            continue
        if row.get("stage") == stage:
            by_step[row["step"]] = row
    return [by_step[step] for step in sorted(by_step)]
