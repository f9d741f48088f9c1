"""Where metrics go: metrics.jsonl always, the trackers that were asked for besides. Names are those of docs/metrics.md."""

import logging
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson

from cluster.metric_catalogue import metric_named
from cluster.trackers import TRACKERS, Say, Tracker, TrackerError
from configs.run_config import RunConfig

logger = logging.getLogger(__name__)

STRICT = "SWE_MASTER_STRICT_METRICS"
"""Environment variable; with 1 a metric that is not in the catalogue raises. The tests set it."""


class UnknownMetricError(KeyError):
    """A metric that docs/metrics.md does not describe."""


class JSONLSink:
    """One JSON object a line: stage, step, time (seconds since the epoch), then the metrics. Flushed per line."""

    def __init__(self, path: Path) -> None:
        self._file = open(path, "ab", buffering=0)  # noqa: SIM115

    def log(self, stage: str, step: int, metrics: Mapping[str, float]) -> None:
        head = {"stage": stage, "step": step, "time": round(time.time(), 3)}
        row = {**head, **metrics, **head}  # the learner's own `step` counts updates, of which a step of the loop may take several
        self._file.write(orjson.dumps(row, option=orjson.OPT_SERIALIZE_NUMPY) + b"\n")

    def close(self) -> None:
        self._file.close()


class MetricSinks:
    """All sinks of a run as one. A tracker that fails is dropped with one line through `say`; the run goes on.

    Raises TrackerError for an unknown tracker, or one that cannot be used here.
    """

    def __init__(self, config: RunConfig, root: Path, say: Say = logger.warning) -> None:
        unknown = set(config.trackers) - TRACKERS.keys()
        if unknown:
            raise TrackerError(f"unknown trackers {sorted(unknown)}; known: {', '.join(sorted(TRACKERS))}")
        self._say = say
        self._unknown: set[str] = set()
        self._trackers: dict[str, Tracker] = {name: TRACKERS[name](config, root, say) for name in dict.fromkeys(config.trackers)}
        self._jsonl = JSONLSink(root / "metrics.jsonl")

    def log(self, stage: str, step: int, metrics: Mapping[str, float]) -> None:
        """Raises UnknownMetricError under SWE_MASTER_STRICT_METRICS=1; else says once that a name is unknown and writes it."""
        self._check_names(metrics)
        self._jsonl.log(stage, step, metrics)
        for name, tracker in list(self._trackers.items()):
            try:
                tracker.log(stage, step, metrics)
            except Exception as error:  # whatever a tracker's library raises, training is worth more
                del self._trackers[name]
                self._say(f"tracker {name} failed and is left out from here on, metrics.jsonl has everything: {error!r}"[:300])

    def close(self) -> None:
        for name, tracker in self._trackers.items():
            try:
                tracker.close()
            except Exception as error:
                self._say(f"tracker {name} could not be closed, metrics.jsonl has everything: {error!r}"[:300])
        self._jsonl.close()

    def _check_names(self, metrics: Mapping[str, float]) -> None:
        unknown = {name for name in metrics if metric_named(name) is None} - self._unknown
        if unknown:
            text = f"metrics that cluster/metric_tables.py does not describe: {', '.join(sorted(unknown))}"
            if os.environ.get(STRICT) == "1":
                raise UnknownMetricError(text)
            self._unknown |= unknown
            logger.warning(text)


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
