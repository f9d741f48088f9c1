"""Where commands run."""

from dataclasses import dataclass


@dataclass(frozen=True)
class SandboxConfig:
    backend: str = "process"
    """One of envpool.sandboxes.SANDBOXES (process, docker, scripted), or simulated: a model executes code in training."""
    files_in: str = "process"
    """Simulated backend: where files, edits, audits and evaluations really are: process or docker."""
    isolation: str = "auto"
    """Process backend: auto (bubblewrap where installed, else none with a warning), bubblewrap, none."""
    num_sandboxes: int = 16
    """Sandboxes leased at once on one node; more wait."""
    num_warm: int = 4
    """Sandboxes started ahead for the tasks that come next, beside the leased ones; 0: none."""
    start_timeout_s: float = 60.0
    """Deadline for starting one sandbox."""
    memory_mib: int = 1024
    """Memory limit of one sandbox (process backend: by control group where it may make one, else of each process)."""
    pids: int = 256
    """Process limit of one sandbox (process backend: where it may make control groups)."""
    cpus: float = 1.0
    """CPU limit of one sandbox (Docker; process backend where it may make control groups)."""
    max_file_mib: int = 4096
    """Largest file that a command can write."""
    flood_mib: int = 64
    """A command that prints more than this is stopped (exit code 137, output marked as truncated)."""
    docker_runtime: str = ""
    """OCI runtime of the Docker engine, e.g. runsc for gVisor; empty means the engine's default."""
    docker_host: str = ""
    """Engine address; empty means DOCKER_HOST, the default socket, or .docker-local."""
    pull_images: bool = False
    """Pull `docker:` images that the engine does not have; a pull counts towards start_timeout_s."""
    registry_mirror: str = ""
    """Where pulls go first, host:port or host:port/path; the image's own registry comes after it. Empty: only that."""
    image_budget_gib: float = 0.0
    """Disk that all image layers of a node may take; pulled images used longest ago are removed. 0: no limit."""
    base_image: str = "swe-master-base"
    """Docker image that `folder:` trees are unpacked into."""

    @property
    def real_backend(self) -> str:
        """The backend that starts the sandboxes: with backend=simulated the one that holds the files, where audits, evaluations
        and everything else that is no training episode really run."""
        return self.files_in if self.backend == "simulated" else self.backend
