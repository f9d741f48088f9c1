"""What a Ray cluster needs beside it: namespace, disk for runs, network policy, registry mirror, image pre-pull."""

from collections.abc import Sequence

from cluster.kuberay.pod_templates import METRICS, MIRROR, NO_PRIVILEGES, SANDBOX_TAINT, Object
from configs.kuberay_config import KubeRayConfig

APP = {"app.kubernetes.io/name": "swe-master"}
PULLS_AT_ONCE = 4


def support_objects(config: KubeRayConfig) -> list[Object]:
    """Namespace, claims, policy and mirror, in the order to apply them."""
    return [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": config.namespace, "labels": dict(APP)}},
        claim(config, config.runs_claim, "ReadWriteMany", config.runs_size),
        *network_policies(config),
        *(monitoring(config) if config.monitoring_namespace else []),
        *mirror(config),
    ]


def claim(config: KubeRayConfig, name: str, mode: str, size: str) -> Object:
    """A PersistentVolumeClaim."""
    spec: Object = {"accessModes": [mode], "resources": {"requests": {"storage": size}}}
    if config.storage_class:
        spec["storageClassName"] = config.storage_class
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": _metadata(config, name), "spec": spec}


def network_policies(config: KubeRayConfig) -> list[Object]:
    """Into the cluster's pods: only from each other, and from KubeRay's operator and job submitters by label. Out of sandbox
    pods: only to each other, to the mirror and to name lookup; containers of tasks have no network at all."""
    own = {"podSelector": {"matchLabels": dict(APP)}}
    operator = {"namespaceSelector": {}, "podSelector": {"matchLabels": {"app.kubernetes.io/name": "kuberay-operator"}}}
    submitter = {"podSelector": {"matchExpressions": [{"key": "batch.kubernetes.io/job-name", "operator": "Exists"}]}}
    inside = {
        "podSelector": {"matchLabels": dict(APP)},
        "policyTypes": ["Ingress"],
        "ingress": [{"from": [own, operator, submitter]}],
    }
    lookup = {"ports": [{"protocol": protocol, "port": 53} for protocol in ("UDP", "TCP")]}
    sandbox = {
        "podSelector": {"matchLabels": {"ray.io/group": "sandbox"}},
        "policyTypes": ["Egress"],
        "egress": [{"to": [own]}, {"to": [{"podSelector": {"matchLabels": {"app": MIRROR}}}]}, lookup],
    }
    kind = {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy"}
    return [
        {**kind, "metadata": _metadata(config, "swe-master-inside"), "spec": inside},
        {**kind, "metadata": _metadata(config, "swe-master-sandboxes"), "spec": sandbox},
    ]


def monitoring(config: KubeRayConfig) -> list[Object]:
    """What lets a Prometheus of another namespace read every Ray pod's metrics port and nothing else, and the PodMonitor that
    tells the Prometheus operator of them; cluster/grafana/dashboard.json shows what it reads."""
    prometheus = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": config.monitoring_namespace}}}
    spec = {
        "podSelector": {"matchLabels": dict(APP)},
        "policyTypes": ["Ingress"],
        "ingress": [{"from": [prometheus], "ports": [{"protocol": "TCP", "port": METRICS[1]}]}],
    }
    from_label = {"sourceLabels": ["__meta_kubernetes_pod_label_ray_io_cluster"], "targetLabel": "ray_io_cluster"}
    monitor = {
        "selector": {"matchLabels": dict(APP)},
        "podMetricsEndpoints": [{"port": METRICS[0], "relabelings": [from_label]}],
    }
    name = "swe-master-metrics"
    return [
        {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": _metadata(config, name), "spec": spec},
        {"apiVersion": "monitoring.coreos.com/v1", "kind": "PodMonitor", "metadata": _metadata(config, name), "spec": monitor},
    ]


def mirror(config: KubeRayConfig) -> list[Object]:
    """A pull-through cache of Docker Hub: every node pulls an image from it, it pulls it once."""
    labels = {"app": MIRROR}
    container: Object = {
        "name": "registry",
        "image": "registry:3",
        "env": [
            {"name": "REGISTRY_PROXY_REMOTEURL", "value": "https://registry-1.docker.io"},
            {"name": "REGISTRY_STORAGE_DELETE_ENABLED", "value": "true"},
        ],
        "ports": [{"containerPort": 5000}],
        "resources": {"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"memory": "4Gi"}},
        "securityContext": dict(NO_PRIVILEGES),
        "volumeMounts": [{"name": "data", "mountPath": "/var/lib/registry"}],
    }
    if config.mirror_secret:
        container["envFrom"] = [{"secretRef": {"name": config.mirror_secret}}]
    pod = {
        "metadata": {"labels": labels},
        "spec": {
            "automountServiceAccountToken": False,
            "containers": [container],
            "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": MIRROR}}],
        },
    }
    deployment = {"replicas": 1, "strategy": {"type": "Recreate"}, "selector": {"matchLabels": labels}, "template": pod}
    return [
        claim(config, MIRROR, "ReadWriteOnce", config.mirror_size),
        {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": _metadata(config, MIRROR), "spec": deployment},
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": _metadata(config, MIRROR),
            "spec": {"selector": labels, "ports": [{"port": 5000, "targetPort": 5000}]},
        },
    ]


def prepull_job(config: KubeRayConfig, images: Sequence[str]) -> list[Object]:
    """A job that makes the mirror fetch images before a run asks for them, and the list it reads."""
    pull = f"skopeo copy --quiet --src-tls-verify=false docker://{MIRROR}:5000/$1 dir:$to && echo pulled $1 || echo FAILED $1"
    script = f"xargs -P {PULLS_AT_ONCE} -n 1 sh -c 'to=$(mktemp -d); {pull}; rm -rf $to' sh < /images/images.txt"
    container = {
        "name": "prepull",
        "image": "quay.io/skopeo/stable:v1.20",
        "command": ["sh", "-c", script],
        "resources": {"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"memory": "4Gi"}},
        "securityContext": dict(NO_PRIVILEGES),
        "volumeMounts": [{"name": "images", "mountPath": "/images"}, {"name": "scratch", "mountPath": "/tmp"}],
    }
    spec = {
        "backoffLimit": 3,
        "ttlSecondsAfterFinished": 3600,
        "template": {
            "metadata": {"labels": dict(APP)},
            "spec": {
                "restartPolicy": "Never",
                "automountServiceAccountToken": False,
                "tolerations": [{"key": SANDBOX_TAINT, "operator": "Exists", "effect": "NoSchedule"}],
                "containers": [container],
                "volumes": [{"name": "images", "configMap": {"name": "prepull-images"}}, {"name": "scratch", "emptyDir": {}}],
            },
        },
    }
    listed = "".join(f"{image}\n" for image in dict.fromkeys(images))
    return [
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": _metadata(config, "prepull-images"),
            "data": {"images.txt": listed},
        },
        {"apiVersion": "batch/v1", "kind": "Job", "metadata": _metadata(config, "prepull"), "spec": spec},
    ]


def _metadata(config: KubeRayConfig, name: str) -> Object:
    return {"name": name, "namespace": config.namespace, "labels": dict(APP)}
