"""Ray nodes emulated on one machine: actors go to nodes of their role, what does not fit is named, a lost node loses nothing."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import ray
from ray.cluster_utils import Cluster
from ray.util import placement_group_table

from cluster.cluster_fit import unplaced
from cluster.group_store import read_groups
from cluster.placement import plan_placement
from cluster.ray_session import ClusterError, cluster_nodes, create_placement_groups, placed_groups, ray_session
from cluster.run_folder import RunFolder
from configs.cluster_config import ClusterConfig
from configs.stage_loading import load_config
from envpool.sandbox_parts.process_tree import descendants, live_processes

pytestmark = [pytest.mark.ray, pytest.mark.timeout(1800)]
COMMAND = [str(Path(sys.executable).parent / "swe-master")]
NUM_TASKS = 60
NODES = ({"engine": 1, "learner": 1}, {"sandbox": 1}, {"sandbox": 1})
STORE = 80 * 1024 * 1024


@pytest.fixture(scope="module")
def cluster() -> Iterator[tuple[Cluster, list[object]]]:
    """A head that only drives, a node for engine and learner, two for sandboxes."""
    before = {process.pid for process in descendants(os.getpid(), live_processes())}
    emulated = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 1, "resources": {"driver": 1}, "object_store_memory": STORE, "include_dashboard": False},
    )
    nodes: list[object] = [emulated.add_node(num_cpus=1, resources=role, object_store_memory=STORE) for role in NODES]
    emulated.wait_for_nodes(timeout=360)
    yield emulated, nodes
    emulated.shutdown()
    for process in descendants(os.getpid(), live_processes()):  # a killed node's agents outlive it
        if process.pid not in before:
            with suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)


def settings(cluster: tuple[Cluster, list[object]], *more: str) -> list[str]:
    return [f"cluster.address={cluster[0].address}", "cluster.num_rollout_workers=2", *more]


def test_every_actor_goes_to_a_node_of_its_role(cluster: tuple[Cluster, list[object]]) -> None:
    plan = plan_placement(load_config(None, settings(cluster)))
    with ray_session(ClusterConfig(address=cluster[0].address)):
        roles = {node["NodeID"]: set(node["Resources"]) & {"driver", "engine", "learner", "sandbox"} for node in ray.nodes()}
        with placed_groups(plan, timeout_s=180) as groups:
            homes = {name: placement_group_table(group)["bundles_to_node_id"] for name, group in groups.items()}
        assert {name: len(set(nodes.values())) for name, nodes in homes.items()} == {"engines": 1, "learner": 1, "rollout": 2}
        for name, role in (("engines", "engine"), ("learner", "learner"), ("rollout", "sandbox")):
            assert all(role in roles[node] for node in homes[name].values())


def test_what_does_not_fit_is_named_before_and_after(cluster: tuple[Cluster, list[object]]) -> None:
    config = load_config(None, settings(cluster, "engine.num_engines=2", "cluster.num_rollout_workers=3"))
    plan, nodes = plan_placement(config), cluster_nodes(config.cluster) or []
    assert len(nodes) == 4
    assert [name for name, _ in unplaced(plan, nodes)] == ["engines", "rollout"]
    with ray_session(config.cluster), pytest.raises(ClusterError, match=r"2 engine.* 3 sandbox, the cluster has .*1 engine"):
        create_placement_groups(plan, timeout_s=3)
    shown = subprocess.run(
        [*COMMAND, "rollout", "--plan", *settings(cluster, "engine.num_engines=2")],
        capture_output=True, text=True, timeout=360, check=False,
    )  # fmt: skip
    assert "lacks room for:\n  1 x engines (0.25 CPU, 1 engine)" in shown.stdout, shown.stdout + shown.stderr


def test_a_node_lost_during_a_run_loses_nothing(cluster: tuple[Cluster, list[object]], tmp_path: Path) -> None:
    emulated, nodes = cluster
    tasks = [f"runs_dir={tmp_path}", f"tasks.micro.num_train={NUM_TASKS}", "tasks.micro.num_heldout=1"]
    more = ["sandbox.isolation=none", "rollout.concurrency=4", "cluster.placement_timeout_s=180"]
    made = subprocess.run([*COMMAND, "tasks", *tasks, *settings(cluster, *more)], capture_output=True, timeout=600, check=False)
    assert made.returncode == 0, made.stderr
    run = next(tmp_path.iterdir())
    environment = {**os.environ, "RAY_health_check_period_ms": "1000"}
    rollout = subprocess.Popen(
        [*COMMAND, "rollout", "--resume", str(run)], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    shards = run / "trajectories" / "rollout"
    deadline = time.monotonic() + 600
    while not list(shards.glob("lost_*.jsonl")):
        assert rollout.poll() is None, rollout.communicate()[0]
        assert time.monotonic() < deadline, "no shard was written"
        time.sleep(0.05)
    emulated.remove_node(nodes[-1], allow_graceful=False)
    output, _ = rollout.communicate(timeout=1000)
    assert rollout.returncode == 0, output
    played = [group.instance_id for group in read_groups(shards)]
    assert len(played) == len(set(played)) == NUM_TASKS
    record = RunFolder.open(run).stage_records()["rollout"]
    assert record["episodes"] == 4 * NUM_TASKS
