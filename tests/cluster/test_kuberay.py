"""Manifests: what is in them, that KubeRay's schemas and rules accept them, and that faults are found."""

import copy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from cluster.cli import app
from cluster.kuberay.manifest_rules import manifest_faults
from cluster.kuberay.rendering import render_manifests, write_manifests
from cluster.placement import PlacementError
from configs.run_config import RunConfig
from configs.stage_loading import load_config

TOOLS = Path(__file__).parents[2].parent / "shared" / "tools"
GPUS = ["cluster.engine_gpus=2", "engine.tensor_parallel=2", "cluster.learner_gpus=1", "grpo.learner.num_ranks=16"]
SIZES = ["engine.num_engines=4", "cluster.num_rollout_workers=3", "name=Grpo_32B run"]
VARIANTS = {
    "dind": [],
    "gvisor": ["kuberay.sandbox_runtime=gvisor"],
    "queue": ["kuberay.queue=team"],
    "all": [
        "kuberay.redis_address=redis:6379", "kuberay.redis_secret=redis", "kuberay.wandb_secret=wandb",
        "kuberay.registry_secret=pull", "kuberay.mirror_secret=hub", "kuberay.storage_class=fast",
        "kuberay.gpu_node_selector=[nvidia.com/gpu.product=H100]", "kuberay.monitoring_namespace=monitoring",
    ],
}  # fmt: skip
Object = dict[str, Any]


def config(variant: str = "dind", *more: str) -> RunConfig:
    return load_config(None, [*GPUS, *SIZES, *VARIANTS[variant], *more])


def objects(variant: str = "dind") -> dict[str, Object]:
    rendered = render_manifests(config(variant), "grpo", ["a/b:1"]).values()
    return {f"{document['kind']}/{document['metadata']['name']}": document for file in rendered for document in file}


def group(cluster: Object, name: str) -> Object:
    return next(found for found in cluster["workerGroupSpecs"] if found["groupName"] == name)


def test_groups_follow_the_plan() -> None:
    cluster = objects()["RayCluster/grpo-32b-run"]["spec"]
    sizes = {found["groupName"]: (found["minReplicas"], found["maxReplicas"]) for found in cluster["workerGroupSpecs"]}
    assert sizes == {"engine": (4, 4), "learner": (2, 2), "sandbox": (3, 16)}
    assert group(cluster, "learner")["rayStartParams"] == {"resources": "'{\"learner\": 8}'"}
    limits = group(cluster, "engine")["template"]["spec"]["containers"][0]["resources"]["limits"]
    assert limits["nvidia.com/gpu"] == "2"
    assert "idleTimeoutSeconds" not in group(cluster, "learner")
    assert group(cluster, "sandbox")["idleTimeoutSeconds"] == 900


def test_a_job_runs_the_verb_on_the_mounted_configuration() -> None:
    job = objects()["RayJob/grpo-32b-run-grpo"]["spec"]
    assert job["entrypoint"] == "swe-master grpo /runs/configs/run.yaml runs_dir=/runs"
    assert (job["entrypointResources"], job["backoffLimit"]) == ('{"driver": 1}', 2)


def test_a_job_in_a_run_folder_goes_on_there_when_it_is_tried_again() -> None:
    job = render_manifests(config("dind", "kuberay.resume=grpo-20260101-120000"), "grpo", [])["20-rayjob.yaml"][0]
    assert job["spec"]["entrypoint"] == "swe-master grpo --resume /runs/grpo-20260101-120000 /runs/configs/run.yaml"
    assert manifest_faults(job) == []
    for name in ("/runs/a", "..", "a b", "a;b", "-a", "$(a)"):
        with pytest.raises(PlacementError, match="is not the name of a run folder"):
            render_manifests(config("dind", f"kuberay.resume={name}"), "grpo", [])


def test_engines_of_a_served_world_model_have_pods() -> None:
    simulated = ["sandbox.backend=simulated", "verifier.grader=hybrid", "world_model.roles=[reward,transition]"]
    rendered = render_manifests(config("dind", *simulated, "world_model.num_engines=2"), "grpo", [])
    cluster = rendered["10-raycluster.yaml"][0]["spec"]
    assert {key: group(cluster, "engine")[key] for key in ("replicas", "minReplicas", "maxReplicas")} == {
        "replicas": 6,
        "minReplicas": 6,
        "maxReplicas": 6,
    }
    assert [fault for file in rendered.values() for document in file for fault in manifest_faults(document)] == []
    endpoint = config("dind", *simulated, "world_model.num_engines=2", "world_model.endpoint.base_url=http://w:1/v1")
    served = render_manifests(endpoint, "grpo", [])["10-raycluster.yaml"][0]["spec"]
    assert group(served, "engine")["replicas"] == 4


def test_docker_is_a_side_car_on_tainted_nodes_and_gvisor_needs_no_privilege() -> None:
    pod = group(objects()["RayCluster/grpo-32b-run"]["spec"], "sandbox")["template"]["spec"]
    (engine,) = pod["initContainers"]
    assert engine["securityContext"] == {"privileged": True}
    assert "--registry-mirror=http://registry-mirror:5000" in engine["args"]
    assert pod["nodeSelector"] == {"swe-master/sandbox": "true"}
    assert "privileged" not in repr(objects("gvisor"))
    assert "docker-data" not in repr(objects("gvisor"))


def test_a_queued_job_asks_for_all_at_once() -> None:
    job = objects("queue")["RayJob/grpo-32b-run-grpo"]
    assert job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "team"
    assert "enableInTreeAutoscaling" not in job["spec"]["rayClusterSpec"]
    assert {(g["minReplicas"], g["maxReplicas"]) for g in job["spec"]["rayClusterSpec"]["workerGroupSpecs"]} == {
        (4, 4),
        (2, 2),
        (3, 3),
    }


def test_secrets_are_references() -> None:
    text = yaml.safe_dump_all(objects("all").values())
    for reference in (
        "name: wandb",
        "name: redis",
        "name: pull",
        "name: hub",
        "nvidia.com/gpu.product: H100",
        "storageClassName: fast",
    ):
        assert reference in text


def test_prometheus_reads_the_metrics_port_and_nothing_else() -> None:
    found = objects("all")
    rule = found["NetworkPolicy/swe-master-metrics"]["spec"]["ingress"]
    namespace = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}
    assert rule == [{"from": [namespace], "ports": [{"protocol": "TCP", "port": 8080}]}]
    monitor = found["PodMonitor/swe-master-metrics"]["spec"]
    cluster = found["RayCluster/grpo-32b-run"]["spec"]
    for part in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        pod = part["template"]
        assert monitor["selector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()
        ports = {port["name"]: port["containerPort"] for port in pod["spec"]["containers"][0]["ports"]}
        assert ports[monitor["podMetricsEndpoints"][0]["port"]] == 8080
    assert not [name for name in objects("dind") if "PodMonitor" in name or name.endswith("-metrics")]


@pytest.mark.parametrize("variant", sorted(VARIANTS))
def test_every_variant_is_written_with_its_configuration(variant: str, tmp_path: Path) -> None:
    paths = write_manifests(config(variant), "grpo", ["a/b:1", "a/b:1", "c/d:2"], tmp_path)
    assert [path.name for path in paths] == [
        "00-support.yaml",
        "05-prepull.yaml",
        "10-raycluster.yaml",
        "20-rayjob.yaml",
        "run.yaml",
    ]
    assert load_config(tmp_path / "run.yaml", []) == config(variant)


def test_kuberays_schemas_accept_every_variant(tmp_path: Path) -> None:
    written = [write_manifests(config(name), "grpo", ["a/b:1"], tmp_path / name)[:-1] for name in VARIANTS]
    done = crd_check(*(path for paths in written for path in paths))
    *others, last = done.stdout.strip().splitlines()
    assert (done.returncode, last) == (0, f"files {4 * len(VARIANTS)} documents with errors 0"), done.stderr
    assert [line for line in others if not line.endswith("monitoring.coreos.com/v1/PodMonitor [unknown kind]")] == []


def crd_check(*paths: Path) -> subprocess.CompletedProcess[str]:
    if not (TOOLS / "crd_check.py").is_file():
        pytest.skip("KubeRay's schemas are not here")
    command = [sys.executable, str(TOOLS / "crd_check.py"), str(TOOLS / "kuberay-crds"), *map(str, paths)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def misspell(job: Object) -> None:
    job["spec"]["rayClusterSpec"]["workerGroupSpecs"][0]["replica"] = 1


def number_for_string(job: Object) -> None:
    job["spec"]["entrypointResources"] = {"driver": 1}


def long_name(job: Object) -> None:
    job["metadata"]["name"] = "a" * 48


def more_than_most(job: Object) -> None:
    job["spec"]["rayClusterSpec"]["workerGroupSpecs"][0]["minReplicas"] = 9


def deleted_twice(job: Object) -> None:
    job["spec"]["deletionStrategy"] = {
        "deletionRules": [{"policy": "DeleteSelf", "condition": {"jobStatus": "SUCCEEDED", "ttlSeconds": 1}}]
    }


def host_socket(job: Object) -> None:
    pod = job["spec"]["rayClusterSpec"]["workerGroupSpecs"][-1]["template"]["spec"]
    pod["volumes"].append({"name": "docker", "hostPath": {"path": "/var/run/docker.sock"}})


def open_port(job: Object) -> None:
    pod = job["spec"]["rayClusterSpec"]["workerGroupSpecs"][-1]["template"]["spec"]
    pod["containers"][0]["env"].append({"name": "DOCKER_HOST", "value": "tcp://10.0.0.1:2375"})


def untainted(job: Object) -> None:
    del job["spec"]["rayClusterSpec"]["workerGroupSpecs"][-1]["template"]["spec"]["tolerations"]


def plain_secret(job: Object) -> None:
    job["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]["containers"][0]["env"] = [
        {"name": "WANDB_API_KEY", "value": "x"}
    ]


def no_token(job: Object) -> None:
    del job["spec"]["rayClusterSpec"]["authOptions"]


def queued_and_scaling(job: Object) -> None:
    job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] = "team"


def test_seeded_faults_are_found_by_the_schemas(tmp_path: Path) -> None:
    faults = [misspell, number_for_string, long_name, more_than_most, deleted_twice]
    for fault in faults:
        job = copy.deepcopy(objects()["RayJob/grpo-32b-run-grpo"])
        fault(job)
        (tmp_path / f"{fault.__name__}.yaml").write_text(yaml.safe_dump(job))
    done = crd_check(*sorted(tmp_path.iterdir()))
    assert f"documents with errors {len(faults)}" in done.stdout, done.stdout


@pytest.mark.parametrize(
    ("fault", "word"),
    [
        (long_name, "at most 47"),
        (more_than_most, "group engine"),
        (deleted_twice, "exclude each other"),
        (host_socket, "container socket"),
        (open_port, "a Docker port"),
        (untainted, "privileged outside the tainted"),
        (plain_secret, "WANDB_API_KEY holds a value"),
        (no_token, "token authentication"),
        (queued_and_scaling, "cannot scale"),
    ],
)
def test_seeded_faults_are_found_by_our_rules(fault: Callable[[Object], None], word: str) -> None:
    job = copy.deepcopy(objects()["RayJob/grpo-32b-run-grpo"])
    assert manifest_faults(job) == []
    fault(job)
    assert any(word in found for found in manifest_faults(job))


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["name=x"], "no GPU is asked for"),
        ([*GPUS, "kuberay.sandbox_runtime=host"], "use dind or gvisor"),
        (["kuberay.que=x"], "Did you mean"),
    ],
)
def test_what_cannot_be_rendered(words: list[str], reason: str, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["cluster", "render", *words, "--to", str(tmp_path)])
    assert (result.exit_code, reason in result.output) == (2, True)
    with pytest.raises(PlacementError, match="no job runs 'view'"):
        render_manifests(config(), "view", [])


def test_the_command_line_renders_and_checks(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["cluster", "render", *GPUS, "--to", str(tmp_path), "--verb", "sft"])
    assert result.exit_code == 0
    files = [str(path) for path in sorted(tmp_path.glob("[0-9]*.yaml"))]
    result = CliRunner().invoke(app, ["cluster", "check", *files])
    assert (result.exit_code, result.output) == (0, "3 files without a fault\n")
    text = (tmp_path / "20-rayjob.yaml").read_text().replace("mode: token", "mode: none")
    (tmp_path / "20-rayjob.yaml").write_text(text)
    assert CliRunner().invoke(app, ["cluster", "check", *files]).exit_code == 1
