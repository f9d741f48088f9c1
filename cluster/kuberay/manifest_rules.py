"""Rules for our manifests that no schema knows: KubeRay's and Kueue's own validation, and what we never allow.

After KubeRay v1.7's operator validation and Kueue v0.19's requirements for Ray jobs. Each rule yields one line per fault.
"""

import re
from collections.abc import Callable, Iterator
from typing import Any

from cluster.kuberay.pod_templates import SANDBOX_TAINT

Object = dict[str, Any]
MAX_CLUSTER_NAME, MAX_JOB_NAME, MAX_QUEUED_GROUPS = 53, 47, 17
QUEUE_LABEL = "kueue.x-k8s.io/queue-name"
PRIVILEGED_NAME = "docker"


def manifest_faults(document: Object) -> list[str]:
    """What is wrong with one object, each as `Kind name: fault`."""
    where = f"{document.get('kind', '?')} {document.get('metadata', {}).get('name', '?')}"
    return [f"{where}: {fault}" for rule in RULES for fault in rule(document)]


def names(document: Object) -> Iterator[str]:
    """DNS labels, short enough for the pods that KubeRay names after them."""
    name = document.get("metadata", {}).get("name", "")
    most = {"RayCluster": MAX_CLUSTER_NAME, "RayJob": MAX_JOB_NAME}.get(document.get("kind", ""), 63)
    if not re.fullmatch(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?", name) or len(name) > most:
        yield f"name {name!r} is no DNS label of at most {most} characters"


def sockets(document: Object) -> Iterator[str]:
    """Neither the node's container sockets nor an unauthenticated Docker port, anywhere."""
    text = repr(document)
    for pattern, what in (
        (r"/var/run/docker\.sock|/run/containerd/", "the node's container socket"),
        (r"tcp://|:2375\b", "a Docker port"),
    ):
        if re.search(pattern, text):
            yield f"names {what}"


def privileges(document: Object) -> Iterator[str]:
    """One privileged container only: the Docker engine beside sandboxes, on tainted nodes, without a service account."""
    for pod in pods(document):
        for container in [*pod.get("containers", []), *pod.get("initContainers", [])]:
            security = container.get("securityContext", {})
            if not security.get("privileged"):
                if security.get("allowPrivilegeEscalation", True) or security.get("capabilities", {}).get("drop") != ["ALL"]:
                    yield f"container {container.get('name')} may gain privileges"
                continue
            tolerated = any(toleration.get("key") == SANDBOX_TAINT for toleration in pod.get("tolerations", []))
            selected = SANDBOX_TAINT in pod.get("nodeSelector", {})
            if container.get("name") != PRIVILEGED_NAME or not (tolerated and selected):
                yield f"container {container.get('name')} is privileged outside the tainted sandbox nodes"
            if pod.get("automountServiceAccountToken") is not False:
                yield "a pod with a privileged container has a service account's token"


def secrets(document: Object) -> Iterator[str]:
    """Keys and passwords come from Secrets, never as values."""
    for pod in pods(document):
        for container in [*pod.get("containers", []), *pod.get("initContainers", [])]:
            for variable in container.get("env", []):
                if re.search(r"KEY|TOKEN|PASSWORD|SECRET", variable.get("name", "")) and variable.get("value"):
                    yield f"variable {variable['name']} holds a value instead of a reference to a Secret"


def ray_spec(document: Object) -> Iterator[str]:
    """What the operator refuses although the schema allows it."""
    spec = ray_cluster_spec(document)
    if spec is None:
        return
    scaling = spec.get("enableInTreeAutoscaling", False)
    version = spec.get("autoscalerOptions", {}).get("version", "v1")
    groups = spec.get("workerGroupSpecs", [])
    listed = [group.get("groupName") for group in groups]
    for name in {name for name in listed if listed.count(name) > 1}:
        yield f"two groups are called {name}"
    for group in groups:
        name = group.get("groupName")
        if not group.get("minReplicas", 0) <= group.get("replicas", 0) <= group.get("maxReplicas", 0):
            yield f"group {name}: minReplicas <= replicas <= maxReplicas does not hold"
        if "resources" in group and "resources" in group.get("rayStartParams", {}):
            yield f"group {name} gives resources twice"
        if "idleTimeoutSeconds" in group and not (scaling and version == "v2"):
            yield f"group {name}: idleTimeoutSeconds needs the v2 autoscaler"
    if scaling and version == "v2":
        for group in [spec.get("headGroupSpec", {}), *groups]:
            if group.get("template", {}).get("spec", {}).get("restartPolicy", "Never") != "Never":
                yield f"group {group.get('groupName', 'head')}: the v2 autoscaler needs restartPolicy Never"
    if spec.get("authOptions", {}).get("mode") != "token":
        yield "the Ray dashboard and job API need token authentication (authOptions.mode: token)"


def ray_job(document: Object) -> Iterator[str]:
    """Ends of a job, and what Kueue asks of one."""
    if document.get("kind") != "RayJob":
        return
    spec = document.get("spec", {})
    if "deletionStrategy" in spec and spec.get("shutdownAfterJobFinishes"):
        yield "deletionStrategy and shutdownAfterJobFinishes exclude each other"
    if "ttlSecondsAfterFinished" in spec and not spec.get("shutdownAfterJobFinishes"):
        yield "ttlSecondsAfterFinished needs shutdownAfterJobFinishes"
    if QUEUE_LABEL in document.get("metadata", {}).get("labels", {}):
        cluster = spec.get("rayClusterSpec", {})
        if not spec.get("shutdownAfterJobFinishes") or "clusterSelector" in spec:
            yield "a queued job needs a cluster of its own that is shut down after it"
        if cluster.get("enableInTreeAutoscaling"):
            yield "a queued job cannot scale: Kueue admits the whole cluster"
        if len(cluster.get("workerGroupSpecs", [])) > MAX_QUEUED_GROUPS:
            yield f"Kueue takes at most {MAX_QUEUED_GROUPS} worker groups"


RULES: tuple[Callable[[Object], Iterator[str]], ...] = (names, sockets, privileges, secrets, ray_spec, ray_job)


def ray_cluster_spec(document: Object) -> Object | None:
    """The cluster in a RayCluster or RayJob."""
    spec: Object = document.get("spec", {})
    return {"RayCluster": spec, "RayJob": spec.get("rayClusterSpec")}.get(document.get("kind", ""))


def pods(document: Object) -> Iterator[Object]:
    """Every pod spec in an object."""
    cluster = ray_cluster_spec(document)
    if cluster is not None:
        for group in [cluster.get("headGroupSpec", {}), *cluster.get("workerGroupSpecs", [])]:
            yield group.get("template", {}).get("spec", {})
    elif document.get("kind") in ("Deployment", "Job"):
        yield document.get("spec", {}).get("template", {}).get("spec", {})
