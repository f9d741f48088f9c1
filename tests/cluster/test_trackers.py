"""Trackers write what they were given, need no network, and never end a run."""

import contextlib
import re
import socket
import struct
import time
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from cluster import trackers
from cluster.metric_sinks import MetricSinks, read_metrics
from cluster.trackers import TRACKERS, Say, TrackerError
from configs.cluster_config import ClusterConfig
from configs.run_config import RunConfig

BLOCK = 32_768
CHUNK_HEAD = 7


def wandb_chunks(data: bytes) -> Iterator[bytes]:
    """Records of a W&B file: LevelDB's log format (blocks of 32 KiB; checksum, length, kind 1 whole, 2 to 4 parts)."""
    at, parts = CHUNK_HEAD, b""  # the first block begins with the file's own head
    while at + CHUNK_HEAD <= len(data):
        if BLOCK - at % BLOCK < CHUNK_HEAD:
            at += BLOCK - at % BLOCK
            continue
        _, length, kind = struct.unpack("<IHB", data[at : at + CHUNK_HEAD])
        at += CHUNK_HEAD + length
        parts += data[at - length : at]
        if kind in (1, 4):
            yield parts
            parts = b""


def tensorboard_scalars(path: Path) -> list[tuple[str, int, float]]:
    """(name, step, value) of an event file: TFRecords (length, checksum, event, checksum)."""
    from tensorboardX.proto.event_pb2 import Event

    data, at, found = path.read_bytes(), 0, []
    while at < len(data):
        (length,) = struct.unpack("<Q", data[at : at + 8])
        event = Event.FromString(data[at + 12 : at + 12 + length])
        found += [(value.tag, event.step, value.simple_value) for value in event.summary.value]
        at += length + 16
    return found


@pytest.mark.timeout(180)
def test_wandb_without_a_key_writes_offline_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from wandb.proto.wandb_internal_pb2 import Record

    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")  # nothing answers there
    said: list[str] = []
    sinks = MetricSinks(RunConfig(trackers=("wandb",)), tmp_path, said.append)
    sinks.log("sft", 1, {"loss": 2.5})
    sinks.log("sft", 2, {"loss": 1.25, "lr": 0.001})
    sinks.close()
    (path,) = tmp_path.glob("wandb/offline-run-*/*.wandb")
    records = [Record.FromString(chunk) for chunk in wandb_chunks(path.read_bytes())]
    rows = [
        {"/".join(item.nested_key) or item.key: item.value_json for item in record.history.item}
        for record in records
        if record.HasField("history")
    ]
    assert [(row["sft/step"], row["sft/loss"], row.get("sft/lr")) for row in rows] == [("1", "2.5", None), ("2", "1.25", "0.001")]
    assert len(said) == 1
    assert "no WANDB_API_KEY, written offline" in said[0]
    assert "wandb sync" in said[0]


@pytest.mark.timeout(180)
def test_a_wandb_server_that_does_not_answer_means_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = "0123456789" * 4
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setenv("WANDB_API_KEY", key)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setattr(trackers, "WANDB_S", 2.0)
    said: list[str] = []
    sinks = MetricSinks(RunConfig(trackers=("wandb",)), tmp_path, said.append)
    sinks.log("sft", 1, {"loss": 2.5})
    sinks.close()
    assert len(said) == 1
    assert "W&B does not answer" in said[0]
    assert key not in said[0]
    (path,) = tmp_path.glob("wandb/offline-run-*/*.wandb")
    assert b"sft/loss" in path.read_bytes()


def test_tensorboard_files_hold_the_scalars(tmp_path: Path) -> None:
    sinks = MetricSinks(RunConfig(trackers=("tensorboard",)), tmp_path)
    sinks.log("sft", 1, {"loss": 2.5})
    sinks.log("grpo", 7, {"reward/mean": 0.25})
    sinks.close()
    (path,) = (tmp_path / "logs" / "tensorboard").iterdir()
    assert tensorboard_scalars(path) == [("sft/loss", 1, 2.5), ("grpo/reward/mean", 7, 0.25)]


class FullDisk:
    """A tracker that breaks at its second row, and again when it is closed."""

    def __init__(self, config: RunConfig, root: Path, say: Say) -> None:
        self.rows = 0

    def log(self, stage: str, step: int, metrics: Mapping[str, float]) -> None:
        self.rows += 1
        if self.rows > 1:
            raise OSError(28, "No space left on device")

    def close(self) -> None:
        raise RuntimeError("closed badly")


def test_a_tracker_that_fails_is_left_out_and_the_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TRACKERS, "full-disk", FullDisk)
    said: list[str] = []
    sinks = MetricSinks(RunConfig(trackers=("full-disk",)), tmp_path, said.append)
    for step in (1, 2, 3):
        sinks.log("sft", step, {"loss": float(step)})
    sinks.close()
    assert [row["loss"] for row in read_metrics(tmp_path, "sft")] == [1.0, 2.0, 3.0]
    assert len(said) == 1
    assert "tracker full-disk failed" in said[0]
    assert "No space left" in said[0]


def test_a_tracker_that_cannot_be_closed_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TRACKERS, "full-disk", FullDisk)
    said: list[str] = []
    sinks = MetricSinks(RunConfig(trackers=("full-disk",)), tmp_path, said.append)
    sinks.log("sft", 1, {"loss": 1.0})
    sinks.close()
    assert len(said) == 1
    assert "could not be closed" in said[0]


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@pytest.mark.ray
@pytest.mark.timeout(240)
def test_prometheus_reads_gauges_from_rays_agent(tmp_path: Path) -> None:
    import ray

    port = free_port()
    ray.init(
        address="local",
        num_cpus=1,
        include_dashboard=False,
        object_store_memory=80 << 20,
        _node_ip_address="127.0.0.1",
        _metrics_export_port=port,
        log_to_driver=False,
        _system_config={"metrics_report_interval_ms": 500, "worker_niceness": 0},
    )
    try:
        joined = ClusterConfig(address="auto")
        sinks = MetricSinks(RunConfig(trackers=("prometheus",), cluster=joined), tmp_path)
        sinks.log("grpo", 3, {"reward/mean": 0.625, "loss": 1.5})
        found: dict[str, float] = {}
        deadline = time.monotonic() + 120
        while len(found) < 2 and time.monotonic() < deadline:
            time.sleep(0.5)
            with contextlib.suppress(OSError):
                text = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10).read().decode()
                rows = re.findall(r'^(ray_swe_master_\w+)\{.*run="([^"]+)",stage="grpo"\} (\S+)$', text, re.MULTILINE)
                found = {name: float(value) for name, run, value in rows if run == tmp_path.name}
        sinks.close()
    finally:
        ray.shutdown()
    assert found == {"ray_swe_master_reward_mean": 0.625, "ray_swe_master_train_loss": 1.5}


def test_prometheus_is_refused_on_a_private_head(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with pytest.raises(TrackerError, match=r"needs a Ray cluster to join \(cluster\.address"):
        MetricSinks(RunConfig(trackers=("prometheus",)), tmp_path)
