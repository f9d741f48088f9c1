"""Too little memory, an absent cluster and an impossible placement are one-line errors; a private head leaves no files."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray

from cluster.machine_memory import free_memory_mib, free_shared_memory_mib
from cluster.placement import GroupPlan, Plan
from cluster.ray_session import ClusterError, check_memory, create_placement_groups, missing_text, placed_groups, ray_session
from configs.cluster_config import ClusterConfig
from tests.cluster.open_ports import ListeningPort, answer, listening_ports

CONFIG = ClusterConfig(num_cpus=1, object_store_mib=100, min_free_memory_mib=1000)


def test_enough_memory_passes() -> None:
    check_memory(CONFIG, free_mib=1000, shared_mib=164)


def test_too_little_memory_is_named() -> None:
    with pytest.raises(ClusterError, match=r"only 999 MiB of memory are free, a run needs 1000 \(cluster.min_free_memory_mib\)"):
        check_memory(CONFIG, free_mib=999, shared_mib=164)


def test_too_small_shared_memory_is_named() -> None:
    with pytest.raises(ClusterError, match=r"/dev/shm has 64 MiB free, the object store and weights need 164"):
        check_memory(CONFIG, free_mib=1000, shared_mib=64)


def _machine(root: Path, limit: str) -> Path:
    (root / "proc").mkdir()
    (root / "proc/meminfo").write_text("MemTotal: 8388608 kB\nMemAvailable:    4194304 kB\n")
    group = root / "sys/fs/cgroup"
    group.mkdir(parents=True)
    (group / "memory.max").write_text(f"{limit}\n")
    (group / "memory.current").write_text(f"{900 << 20}\n")
    (group / "memory.stat").write_text(f"anon 1\ninactive_file {100 << 20}\nactive_file 5\n")
    return root


def test_free_memory_heeds_the_containers_limit(tmp_path: Path) -> None:
    assert free_memory_mib(_machine(tmp_path, str(1000 << 20))) == 200


def test_free_memory_without_a_limit(tmp_path: Path) -> None:
    assert free_memory_mib(_machine(tmp_path, "max")) == 4096


def test_no_shared_memory_folder_counts_as_none(tmp_path: Path) -> None:
    assert free_shared_memory_mib(tmp_path / "absent") == 0


PLAN = Plan(
    (GroupPlan("engines", "PACK", ({"CPU": 0.5}, {"CPU": 0.5, "GPU": 1.0})), GroupPlan("rollout", "SPREAD", ({"CPU": 0.5},))), ()
)


def test_missing_resources_are_named() -> None:
    assert missing_text([PLAN.groups[0]], PLAN, {"CPU": 2.0}, 5.0) == (
        "placement of engines not ready within 5 s: the run needs 1.5 CPU, 1 GPU, the cluster has 2 CPU, 0 GPU (see --plan)"
    )


def test_enough_in_sum_but_not_in_one_place() -> None:
    assert missing_text(list(PLAN.groups), PLAN, {"CPU": 2.0, "GPU": 1.0}, 5.0).endswith(
        "the cluster has 2 CPU, 1 GPU; enough in sum, but in use or on nodes that do not hold a whole bundle (see --plan)"
    )


def test_an_unreachable_cluster_is_one_line() -> None:
    with (
        pytest.raises(ClusterError, match=r"cannot join the Ray cluster at 127.0.0.1:1: "),
        ray_session(ClusterConfig(address="127.0.0.1:1")),
    ):
        pass


@pytest.fixture
def short_temp_dir() -> Iterator[Path]:
    """Sockets need short paths; pytest's own temp folders are too deep."""
    folder = Path(tempfile.mkdtemp(prefix="t", dir="/tmp"))
    yield folder
    shutil.rmtree(folder)


@pytest.mark.ray
def test_a_private_head_places_groups_and_leaves_nothing(short_temp_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(short_temp_dir))
    with ray_session(CONFIG) as session:
        assert session.private
        assert list(short_temp_dir.iterdir()) != []
        with placed_groups(Plan(PLAN.groups[1:], ()), timeout_s=30) as groups:
            assert list(groups) == ["rollout"]
        with pytest.raises(ClusterError, match=r"placement of engines.* not ready within 1 s: .* the cluster has 1 CPU, 0 GPU"):
            create_placement_groups(PLAN, timeout_s=1)
    assert not ray.is_initialized()
    assert list(short_temp_dir.iterdir()) == []


def own_token() -> str:
    """As Ray finds it; the one that it made itself is the owner's alone."""
    if "RAY_AUTH_TOKEN" in os.environ:
        return os.environ["RAY_AUTH_TOKEN"]
    path = Path(os.environ.get("RAY_AUTH_TOKEN_PATH", Path.home() / ".ray" / "auth_token"))
    assert path.stat().st_mode & 0o077 == 0
    return path.read_text()


@pytest.mark.ray
def test_a_private_head_opens_no_port_without_authentication(short_temp_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(short_temp_dir))
    others = listening_ports()
    with ray_session(CONFIG):
        open_to_all = [port for port in listening_ports() if not port.loopback and port not in others]
        assert open_to_all, "Ray listens beyond loopback: if it no longer does, this test can go"
        answers = {port: answer(port) for port in open_to_all}
        assert set(answers.values()) == {"401", "UNAUTHENTICATED"}, answers
        head = ray.get_runtime_context().gcs_address.rpartition(":")
        port = ListeningPort(head[0], int(head[2]), loopback=False)
        assert (answer(port, "0" * 64), answer(port, own_token())) == ("UNAUTHENTICATED", "OK")
