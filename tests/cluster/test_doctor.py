"""Every check on this machine, and the findings that only other machines would give."""

import subprocess
import sys
from pathlib import Path

import pytest

from cluster.doctor import CHECKS
from cluster.machine_checks import check_clock, check_disk, check_packages, check_python, check_shared_memory, clock_skew_s
from cluster.service_checks import check_docker, check_gpu, check_wandb, gpu_finding
from configs.run_config import RunConfig
from configs.stage_loading import load_config


def test_every_check_gives_a_finding_with_advice() -> None:
    findings = [check(RunConfig()) for check in CHECKS]
    assert len({finding.name for finding in findings}) == len(CHECKS)
    assert all(finding.found and (finding.ok or finding.advice) for finding in findings)


def test_the_environment_of_the_tests_is_ready() -> None:
    assert check_python(RunConfig()).ok
    assert check_packages(RunConfig()).ok
    assert check_clock(RunConfig()).ok


def test_the_command_prints_a_table_and_exits_with_the_verdict() -> None:
    command = [sys.executable, "-m", "cluster.cli", "doctor", "cluster.object_store_mib=100000000"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=150, check=False)
    assert done.returncode == 1
    assert "not ready: " in done.stdout
    assert "/dev/shm" in done.stdout.rpartition("not ready: ")[2]


def test_the_configuration_decides_what_is_needed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))  # no nvidia-smi
    gpus = load_config(None, ["cluster.engine_gpus=1"])
    assert (check_gpu(RunConfig()).ok, check_gpu(gpus).ok, check_gpu(gpus).needed) == (True, False, True)
    nowhere = load_config(None, ["sandbox.backend=docker", "sandbox.docker_host=unix:///nowhere.sock"])
    finding = check_docker(nowhere)
    assert (finding.ok, finding.needed) == (False, True)
    assert not check_shared_memory(load_config(None, ["cluster.object_store_mib=100000000"])).ok


@pytest.mark.parametrize(
    ("listing", "wanted", "ok"),
    [
        ("NVIDIA H200, 580.65.06, 143771\n" * 8, 8.0, True),
        ("NVIDIA H200, 580.65.06, 143771\n", 2.0, False),
        ("NVIDIA A100-SXM4-40GB, 535.104.05, 40960\n", 1.0, False),
    ],
)
def test_gpus_and_their_driver(listing: str, wanted: float, ok: bool) -> None:
    assert gpu_finding(listing, wanted).ok is ok


def test_wandb_online_without_a_key_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    config = load_config(None, ["trackers=[wandb]"])
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("WANDB_MODE", "online")
    assert not check_wandb(config).ok
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert check_wandb(config).ok
    assert check_wandb(RunConfig()).ok


def test_a_disk_whose_clock_is_ahead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert abs(clock_skew_s(tmp_path)) < 1
    monkeypatch.setattr("time.time", lambda: 1_000_000_000.0)
    assert clock_skew_s(tmp_path) > 1e8
    assert not check_clock(load_config(None, [f"runs_dir={tmp_path / 'runs'}"])).ok


def test_runs_dir_need_not_exist(tmp_path: Path) -> None:
    assert "GiB free" in check_disk(load_config(None, [f"runs_dir={tmp_path / 'a' / 'b'}"])).found


@pytest.mark.docker
@pytest.mark.usefixtures("docker_engine")
def test_a_container_is_really_run_and_sees_no_network() -> None:
    finding = check_docker(load_config(None, ["sandbox.backend=docker"]))
    assert finding.ok, finding
    assert finding.found.endswith("a container sees lo")


@pytest.mark.docker
@pytest.mark.usefixtures("docker_engine")
def test_an_engine_without_the_base_image_is_said() -> None:
    finding = check_docker(load_config(None, ["sandbox.backend=docker", "sandbox.base_image=not-there-at-all"]))
    assert not finding.ok
    assert "no container runs" in finding.found
