"""What `swe-master cluster render` needs to know about a Kubernetes cluster."""

from dataclasses import dataclass


@dataclass(frozen=True)
class KubeRayConfig:
    namespace: str = "swe-master"
    """Namespace of every object."""
    gpu_image: str = "swe-master-gpu:0.1.0"
    """Image of head, engine and learner pods (cluster/images/gpu.Dockerfile)."""
    cpu_image: str = "swe-master-cpu:0.1.0"
    """Image of sandbox pods (cluster/images/cpu.Dockerfile)."""
    sandbox_runtime: str = "dind"
    """How sandbox pods run containers: dind (privileged side-car on tainted nodes) or gvisor (runsc in the pod, no privilege)."""
    queue: str = ""
    """Kueue LocalQueue; empty: no queueing. A queued job has a cluster of its own that ends with it, and no autoscaling."""
    runs_claim: str = "swe-master-runs"
    """PersistentVolumeClaim (ReadWriteMany) mounted at /runs; rendered too."""
    runs_size: str = "500Gi"
    """Its size."""
    storage_class: str = ""
    """Its storage class; empty: the cluster's default."""
    wandb_secret: str = ""
    """Secret whose key WANDB_API_KEY goes into the job's environment; empty: none."""
    registry_secret: str = ""
    """Image pull secret; empty: none."""
    mirror_secret: str = ""
    """Secret with REGISTRY_PROXY_USERNAME and REGISTRY_PROXY_PASSWORD for the mirror's pulls; empty: anonymous."""
    mirror_size: str = "2Ti"
    """Disk of the registry mirror."""
    gpu_node_selector: tuple[str, ...] = ()
    """`label=value` that GPU nodes carry, for example nvidia.com/gpu.product=NVIDIA-H100-80GB-HBM3."""
    max_engines: int = 0
    """Engine pods that the autoscaler may start; 0: as many as the run's engines, a served world model's among them."""
    max_sandbox_nodes: int = 16
    """Sandbox pods that the autoscaler may start."""
    sandbox_cpus: int = 16
    """CPUs of one sandbox pod."""
    sandbox_memory_gib: int = 64
    """Memory of one sandbox pod."""
    sandbox_disk: str = "/var/lib/swe-master/docker"
    """Folder of the node for Docker's images (dind); a fast local disk."""
    gpu_memory_gib: int = 200
    """Memory of a GPU pod."""
    shared_memory_gib: int = 64
    """/dev/shm of a GPU pod."""
    redis_address: str = ""
    """host:port of a Redis for the head's fault tolerance; empty: none."""
    redis_secret: str = ""
    """Secret whose key `password` is the Redis password; empty: none."""
    monitoring_namespace: str = ""
    """Namespace of the Prometheus that may scrape Ray's metrics port; brings a PodMonitor for its operator. Empty: none."""
    resume: str = ""
    """Name of a run folder below the runs claim in which the job works; empty: every try of the job begins a new folder."""
    backoff_limit: int = 2
    """Times a failed job is submitted again: with kuberay.resume each try goes on from the newest checkpoint, without it each
    begins a new run folder."""
