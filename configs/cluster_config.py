"""What of a Ray cluster a run asks for."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ClusterConfig:
    address: str = ""
    """Ray address; empty: RAY_ADDRESS (set inside a submitted job), else a private head on this machine."""
    num_cpus: int = 0
    """CPUs of the private head; 0: all of the machine."""
    roles: str = "auto"
    """Whether actors go to nodes that offer the resource of their role (engine, learner, sandbox): auto (when any node of the
    cluster offers one, or `driver`), required, ignored."""
    placement: str = "split"
    """split: engines and learner have bundles of their own; colocated: each engine shares its bundle, and GPU, with a learner
    rank, and sleeps while the learner trains (synchronous training only)."""
    num_rollout_workers: int = 1
    """Rollout workers, one per sandbox node."""
    engine_gpus: float = 0.0
    """GPUs of one engine bundle; 0 on a CPU machine."""
    learner_gpus: float = 0.0
    """GPUs of one learner rank; 0 on a CPU machine."""
    placement_timeout_s: float = 120.0
    """Placement groups not ready by then are an error that names what is missing."""
    object_store_mib: int = 256
    """Object store of the private head."""
    cpus_per_actor: float = 0.25
    """CPUs that an actor without a GPU reserves; a share, not a limit, so that all of them fit on a laptop."""
    gpus_per_node: int = 8
    """GPUs of one machine, for the count of nodes that --plan prints."""
    min_free_memory_mib: int = 4096
    """Memory that must be free before a private head starts."""
