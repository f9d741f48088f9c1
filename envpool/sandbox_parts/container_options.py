"""What a container may do, as the Engine API wants it: no network, bounded everything, no privilege to gain."""

from typing import Any

from configs.sandbox_config import SandboxConfig

TASK = "swe-master.task"  # the image, which is what tasks share or not
SHM_BYTES = 64 << 20
ENVIRONMENT = {"PYTHONDONTWRITEBYTECODE": "1"}
# Pid 1: an init that reaps whatever is left to it and that no command inside can kill (`kill -9 -1` spares pid 1). The
# engine's own init would end with its child, and the container with it. It ends after half a day, if nobody ended it.
KEEPER = "trap 'exit 0' TERM; turns=0; while [ $turns -lt 720 ]; do sleep 60 & wait $!; turns=$((turns + 1)); done"
OOM_SCORE = 500  # when the machine runs out of memory, sandboxes go before what drives them


def host_options(config: SandboxConfig) -> dict[str, Any]:
    """Arguments of docker's `create_host_config`.

    Swap is not given on top of memory; pid 1 is `KEEPER`, which reaps; /dev/shm is a tmpfs that counts as memory. There
    is no other tmpfs: what lies in one is lost in a snapshot. Seccomp, AppArmor and the masked paths of /proc are the engine's
    defaults.
    """
    memory = f"{config.memory_mib}m"
    options: dict[str, Any] = {
        "network_mode": "none",
        "mem_limit": memory,
        "memswap_limit": memory,
        "pids_limit": config.pids,
        "nano_cpus": int(config.cpus * 1e9),
        "shm_size": SHM_BYTES,
        "security_opt": ["no-new-privileges"],
        "cap_drop": ["ALL"],
        "oom_score_adj": OOM_SCORE,
        "log_config": {"type": "none"},
        "ulimits": [
            {"Name": "core", "Soft": 0, "Hard": 0},
            {"Name": "fsize", "Soft": config.max_file_mib << 20, "Hard": config.max_file_mib << 20},
        ],
    }
    return options | ({"runtime": config.docker_runtime} if config.docker_runtime else {})
