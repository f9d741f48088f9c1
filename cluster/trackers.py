"""Destinations of metrics besides metrics.jsonl: W&B, TensorBoard, Prometheus through Ray. A class each, a line in TRACKERS."""

import os
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from cluster.metric_catalogue import metric_named, prometheus_name
from configs.run_config import RunConfig

WANDB_S = 60.0
"""W&B's service has this long to start, or its server to answer."""
Say = Callable[[str], None]


class TrackerError(ValueError):
    """A tracker that cannot be used here; one line with what to do."""


class Tracker(Protocol):
    """One destination of metrics."""

    def log(self, stage: str, step: int, metrics: Mapping[str, float]) -> None: ...

    def close(self) -> None: ...


class WandbTracker:
    """Weights & Biases; the run's folder is `root/wandb`. Online with WANDB_API_KEY, offline without one, when WANDB_MODE says
    so, and when its server does not answer."""

    def __init__(self, config: RunConfig, root: Path, say: Say) -> None:
        _require("wandb")
        import wandb
        from omegaconf import OmegaConf

        has_key = bool(os.environ.get("WANDB_API_KEY"))
        mode = os.environ.get("WANDB_MODE") or ("online" if has_key else "offline")
        if not has_key and mode == "offline":
            say(f"W&B: no WANDB_API_KEY, written offline; send it later with: wandb sync {root}/wandb/offline-run-*")
        settings = OmegaConf.to_container(OmegaConf.structured(config))

        def begin(mode: str) -> Any:
            return wandb.init(
                project="swe-master-ray",
                name=root.name,
                job_type=config.name,
                dir=str(root),
                config=settings,  # type: ignore[arg-type]
                mode=mode,  # type: ignore[arg-type]
                settings=wandb.Settings(init_timeout=WANDB_S, silent=True, disable_git=True, save_code=False),
            )

        try:
            self._run = begin(mode)
        except wandb.errors.Error as error:
            if mode != "online":
                raise TrackerError(f"trackers=[wandb]: {_one_line(error)}") from error
            say(f"W&B does not answer ({_one_line(error)}): written offline, send it later with wandb sync")
            self._run = begin("offline")

    def log(self, stage: str, step: int, metrics: Mapping[str, float]) -> None:
        self._run.log({f"{stage}/{name}": value for name, value in metrics.items()} | {f"{stage}/step": step})

    def close(self) -> None:
        import wandb

        self._run.finish()
        wandb.teardown()  # waits for W&B's own process: `finish` alone may return before its file is whole


class TensorBoardTracker:
    """TensorBoard event files under logs/tensorboard."""

    def __init__(self, config: RunConfig, root: Path, say: Say) -> None:
        _require("tensorboardX")
        from tensorboardX import SummaryWriter

        self._writer: Any = SummaryWriter(str(root / "logs" / "tensorboard"), flush_secs=10)

    def log(self, stage: str, step: int, metrics: Mapping[str, float]) -> None:
        for name, value in metrics.items():
            self._writer.add_scalar(f"{stage}/{name}", value, step)

    def close(self) -> None:
        self._writer.close()


class PrometheusTracker:
    """The newest values as gauges of ray.util.metrics, tagged with run and stage; each node's Ray agent exports them.

    Raises TrackerError on a private head: it opens no port, so nobody could read them.
    """

    def __init__(self, config: RunConfig, root: Path, say: Say) -> None:
        if not (config.cluster.address or os.environ.get("RAY_ADDRESS")):
            raise TrackerError(
                "trackers=[prometheus] needs a Ray cluster to join (cluster.address or RAY_ADDRESS): a private head opens no port"
            )
        self._run = root.name
        self._gauges: dict[str, Any] = {}

    def log(self, stage: str, step: int, metrics: Mapping[str, float]) -> None:
        for name, value in metrics.items():
            self._gauge(name).set(float(value), tags={"run": self._run, "stage": stage})

    def _gauge(self, name: str) -> Any:
        if name not in self._gauges:
            from ray.util.metrics import Gauge

            found = metric_named(name)
            meaning = f"{found.meaning} ({found.unit})" if found else name
            self._gauges[name] = Gauge(prometheus_name(name), description=meaning, tag_keys=("run", "stage"))
        return self._gauges[name]

    def close(self) -> None:
        self._gauges.clear()


TRACKERS: dict[str, Callable[[RunConfig, Path, Say], Tracker]] = {
    "wandb": WandbTracker,
    "tensorboard": TensorBoardTracker,
    "prometheus": PrometheusTracker,
}
"""By the name in `trackers`."""


def _require(package: str) -> None:
    if find_spec(package) is None:
        raise TrackerError(f"{package} is not installed: pip install {package}, or take its tracker out of `trackers`")


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
