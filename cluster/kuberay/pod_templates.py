"""Pods of a Ray cluster: head, GPU workers, sandbox workers. Plain dictionaries, as YAML holds them."""

from typing import Any

from configs.kuberay_config import KubeRayConfig

Object = dict[str, Any]

RUNS = "/runs"
DOCKER_SOCKET = "/run/swe-master/docker.sock"
"""In a volume that the two containers of one pod share; the node's own socket is never mounted."""
SANDBOX_TAINT = "swe-master/sandbox"
MIRROR = "registry-mirror"
NO_PRIVILEGES: Object = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
METRICS = ("metrics", 8080)
"""Where Ray's agents export; KubeRay starts them there."""


def head_pod(config: KubeRayConfig, env: list[Object]) -> Object:
    """Head: control services and the driver's entry point; no GPU, no sandboxes."""
    ports = [("gcs", 6379), ("dashboard", 8265), ("client", 10001), METRICS]
    container = _container("ray-head", config.gpu_image, cpu="4", memory="16Gi", env=env)
    container["ports"] = [{"name": name, "containerPort": port} for name, port in ports]
    return _pod(config, [container], [])


def gpu_pod(config: KubeRayConfig, gpus: int, env: list[Object]) -> Object:
    """An engine's or a learner rank's pod: GPUs, shared memory for NCCL and the object store."""
    container = _container("ray-worker", config.gpu_image, cpu="8", memory=f"{config.gpu_memory_gib}Gi", env=env)
    for kind in ("requests", "limits"):
        container["resources"][kind]["nvidia.com/gpu"] = str(gpus)
    container["volumeMounts"].append({"name": "shared-memory", "mountPath": "/dev/shm"})
    memory = {"medium": "Memory", "sizeLimit": f"{config.shared_memory_gib}Gi"}
    pod = _pod(config, [container], [{"name": "shared-memory", "emptyDir": memory}])
    pod["spec"]["tolerations"] = [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
    if config.gpu_node_selector:
        pod["spec"]["nodeSelector"] = dict(pair.split("=", 1) for pair in config.gpu_node_selector)
    return pod


def sandbox_pod(config: KubeRayConfig, env: list[Object]) -> Object:
    """A rollout worker with its containers: beside a Docker engine (dind), or with runsc in the pod itself (gvisor)."""
    env = [*env, {"name": "DOCKER_HOST", "value": f"unix://{DOCKER_SOCKET}"}] if config.sandbox_runtime == "dind" else env
    container = _container(
        "ray-worker", config.cpu_image, cpu=str(config.sandbox_cpus), memory=f"{config.sandbox_memory_gib}Gi", env=env
    )
    pod = _dind_pod(config, container) if config.sandbox_runtime == "dind" else _gvisor_pod(config, container)
    pod["spec"]["automountServiceAccountToken"] = False
    pod["spec"]["tolerations"] = [{"key": SANDBOX_TAINT, "operator": "Exists", "effect": "NoSchedule"}]
    pod["spec"]["nodeSelector"] = {SANDBOX_TAINT: "true"}
    return pod


def _dind_pod(config: KubeRayConfig, container: Object) -> Object:
    socket = {"name": "docker-socket", "mountPath": DOCKER_SOCKET.rpartition("/")[0]}
    container["volumeMounts"].append(socket)
    engine = {
        "name": "docker",
        "image": "docker:28-dind",
        "restartPolicy": "Always",  # a native side-car: up before the worker, ended after it
        "args": [f"--host=unix://{DOCKER_SOCKET}", f"--registry-mirror=http://{MIRROR}:5000", "--group=1000"],
        "securityContext": {"privileged": True},
        "env": [{"name": "DOCKER_TLS_CERTDIR", "value": ""}],
        "startupProbe": {
            "exec": {"command": ["docker", "-H", f"unix://{DOCKER_SOCKET}", "info"]},
            "failureThreshold": 60,
            "periodSeconds": 2,
        },
        "resources": {"requests": {"cpu": "1", "memory": "2Gi"}, "limits": {"memory": f"{config.sandbox_memory_gib}Gi"}},
        "volumeMounts": [socket, {"name": "docker-data", "mountPath": "/var/lib/docker"}],
    }
    data = {"name": "docker-data", "hostPath": {"path": config.sandbox_disk, "type": "DirectoryOrCreate"}}
    pod = _pod(config, [container], [{"name": "docker-socket", "emptyDir": {}}, data])
    pod["spec"]["initContainers"] = [engine]
    return pod


def _gvisor_pod(config: KubeRayConfig, container: Object) -> Object:
    container["env"] += [
        {"name": "RAY_SANDBOX_REGISTRY_MIRROR", "value": f"{MIRROR}:5000"},
        {"name": "RAY_SANDBOX_IMAGE_CACHE_MAX_BYTES", "value": str(200 << 30)},
    ]
    container["securityContext"] = {
        **NO_PRIVILEGES,
        "seccompProfile": {"type": "Unconfined"},
        "appArmorProfile": {"type": "Unconfined"},
    }
    container["volumeMounts"].append({"name": "sandbox-images", "mountPath": "/var/lib/ray-sandbox"})
    return _pod(config, [container], [{"name": "sandbox-images", "emptyDir": {}}])


def _container(name: str, image: str, *, cpu: str, memory: str, env: list[Object]) -> Object:
    return {
        "name": name,
        "image": image,
        "ports": [{"name": METRICS[0], "containerPort": METRICS[1]}],
        "env": list(env),
        "resources": {"requests": {"cpu": cpu, "memory": memory}, "limits": {"memory": memory}},
        "securityContext": dict(NO_PRIVILEGES),
        "volumeMounts": [{"name": "runs", "mountPath": RUNS}],
    }


def _pod(config: KubeRayConfig, containers: list[Object], volumes: list[Object]) -> Object:
    runs = {"name": "runs", "persistentVolumeClaim": {"claimName": config.runs_claim}}
    spec: Object = {"containers": containers, "volumes": [runs, *volumes], "securityContext": {"fsGroup": 1000}}
    if config.registry_secret:
        spec["imagePullSecrets"] = [{"name": config.registry_secret}]
    return {"metadata": {"labels": {"app.kubernetes.io/name": "swe-master"}}, "spec": spec}
