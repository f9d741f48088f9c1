"""RayCluster and RayJob of KubeRay (ray.io/v1) for one run."""

import json
import re
from typing import Any

from cluster.kuberay.pod_templates import RUNS, Object, gpu_pod, head_pod, sandbox_pod
from cluster.placement import ROLES, PlacementError, Plan, plan_placement
from configs.run_config import RunConfig

API = "ray.io/v1"
RAY_VERSION = "2.60.0"
MAX_JOB_NAME = 47
FOLDER_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")
IDLE_ENGINE_S = 300
IDLE_SANDBOX_S = 900
"""Longer than the gap between two GRPO steps: sandbox pods hold the images."""


def ray_cluster(config: RunConfig) -> Object:
    """A cluster that stays, for `ray job submit` and several runs."""
    return {"apiVersion": API, "kind": "RayCluster", "metadata": _metadata(config, config.name), "spec": cluster_spec(config)}


def ray_job(config: RunConfig, verb: str, config_file: str) -> Object:
    """One stage, or a demo, on a cluster of its own, which ends with it."""
    kuberay = config.kuberay
    metadata = _metadata(config, f"{config.name}-{verb}")
    spec: dict[str, Any] = {
        "entrypoint": entrypoint(verb, config_file, kuberay.resume),
        "entrypointResources": json.dumps({"driver": 1}),
        "metadata": {"run": config.name, "verb": verb},
        "submissionMode": "K8sJobMode",
        "shutdownAfterJobFinishes": True,
        "ttlSecondsAfterFinished": 600,
        "backoffLimit": kuberay.backoff_limit,
        "activeDeadlineSeconds": 14 * 24 * 3600,
        "rayClusterSpec": cluster_spec(config),
    }
    if kuberay.queue:
        metadata["labels"]["kueue.x-k8s.io/queue-name"] = kuberay.queue
        spec |= {"suspend": True, "backoffLimit": 0}  # Kueue starts it, and starts it again
    return {"apiVersion": API, "kind": "RayJob", "metadata": metadata, "spec": spec}


def entrypoint(verb: str, config_file: str, resume: str) -> str:
    """The job's shell command: a new run folder, or the one named `resume`, so that a job that is tried again goes on. Raises
    PlacementError for a name that is none."""
    if not resume:
        return f"swe-master {verb} {config_file} runs_dir={RUNS}"
    if not FOLDER_NAME.fullmatch(resume):
        raise PlacementError(f"kuberay.resume={resume!r} is not the name of a run folder below the runs claim")
    return f"swe-master {verb} --resume {RUNS}/{resume} {config_file}"


def cluster_spec(config: RunConfig) -> Object:
    """Head and the worker groups that the plan needs; each group scales by itself unless a queue admits the whole."""
    plan, kuberay = plan_placement(config), config.kuberay
    if config.cluster.placement != "split":
        raise PlacementError(
            "KubeRay manifests are for cluster.placement=split: their engines and learner have nodes of their own"
        )
    env = _environment(config)
    engines = sum(len(group.bundles) for group in plan.groups if ROLES[group.name] == "engine")
    groups = [*_engine_group(config, plan, engines, env), *_learner_group(config, plan, env)]
    workers = len(plan.group("rollout").bundles)
    sandbox = _group("sandbox", workers, max(workers, kuberay.max_sandbox_nodes), sandbox_pod(kuberay, env), IDLE_SANDBOX_S)
    sandbox["rayStartParams"] = _resources(sandbox=1)
    spec: Object = {
        "rayVersion": RAY_VERSION,
        "headGroupSpec": {
            "rayStartParams": {"num-cpus": "0", "dashboard-host": "0.0.0.0", **_resources(driver=1)},
            "template": head_pod(kuberay, env),
        },
        "workerGroupSpecs": [*groups, sandbox],
        "authOptions": {"mode": "token"},
    }
    if kuberay.queue:
        for group in spec["workerGroupSpecs"]:
            group.pop("idleTimeoutSeconds", None)
            group["minReplicas"] = group["maxReplicas"] = group["replicas"]
    else:
        spec |= {"enableInTreeAutoscaling": True, "autoscalerOptions": {"version": "v2", "idleTimeoutSeconds": IDLE_ENGINE_S}}
    if kuberay.redis_address:
        spec["gcsFaultToleranceOptions"] = _fault_tolerance(config)
    return _restart_never(spec)


def _engine_group(config: RunConfig, plan: Plan, engines: int, env: list[Object]) -> list[Object]:
    """A pod for each of the `engines`, the policy's and those of a world model that is served beside it."""
    gpus = plan.group("engines").bundles[0].get("GPU", 0.0)
    if not gpus:
        return []
    most = max(engines, config.kuberay.max_engines)
    group = _group("engine", engines, most, gpu_pod(config.kuberay, int(gpus), env), IDLE_ENGINE_S)
    group["rayStartParams"] = _resources(engine=1)
    return [group]


def _learner_group(config: RunConfig, plan: Plan, env: list[Object]) -> list[Object]:
    """Ranks share a node where they fit; the group never scales."""
    bundles = plan.group("learner").bundles
    gpus = bundles[0].get("GPU", 0.0)
    if not gpus:
        return []
    per_node = max(1, int(config.cluster.gpus_per_node // gpus))
    nodes = -(-len(bundles) // per_node)
    pod = gpu_pod(config.kuberay, int(gpus * min(per_node, len(bundles))), env)
    group = _group("learner", nodes, nodes, pod, None)
    group["rayStartParams"] = _resources(learner=per_node)
    return [group]


def _group(name: str, replicas: int, most: int, template: Object, idle_s: int | None) -> Object:
    group: Object = {"groupName": name, "replicas": replicas, "minReplicas": replicas, "maxReplicas": most, "template": template}
    return group if idle_s is None else {**group, "idleTimeoutSeconds": idle_s}


def _resources(**amounts: int) -> dict[str, str]:
    """Ray's custom resources, as its start parameter wants them: JSON in single quotes."""
    return {"resources": f"'{json.dumps(amounts)}'"}


def _environment(config: RunConfig) -> list[Object]:
    secret = config.kuberay.wandb_secret
    if not secret:
        return []
    key = {"secretKeyRef": {"name": secret, "key": "WANDB_API_KEY"}}
    return [{"name": "WANDB_API_KEY", "valueFrom": key}]


def _fault_tolerance(config: RunConfig) -> Object:
    kuberay = config.kuberay
    options: Object = {"redisAddress": kuberay.redis_address}
    if kuberay.redis_secret:
        key = {"secretKeyRef": {"name": kuberay.redis_secret, "key": "password"}}
        options["redisPassword"] = {"valueFrom": key}
    return options


def _restart_never(spec: Object) -> Object:
    """The v2 autoscaler replaces pods; the kubelet must not restart them in place."""
    for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"]):
        group["template"]["spec"]["restartPolicy"] = "Never"
    return spec


def _metadata(config: RunConfig, name: str) -> Object:
    safe = "".join(char if char.isalnum() else "-" for char in name.lower()).strip("-")[:MAX_JOB_NAME].rstrip("-")
    return {"name": safe, "namespace": config.kuberay.namespace, "labels": {"app.kubernetes.io/name": "swe-master"}}
