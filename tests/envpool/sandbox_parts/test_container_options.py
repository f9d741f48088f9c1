from configs.sandbox_config import SandboxConfig
from envpool.sandbox_parts.container_options import host_options


def test_everything_is_bounded_and_nothing_granted() -> None:
    options = host_options(SandboxConfig(memory_mib=256, pids=64, cpus=0.5, max_file_mib=2))
    assert options == {
        "network_mode": "none",
        "mem_limit": "256m",
        "memswap_limit": "256m",
        "pids_limit": 64,
        "nano_cpus": 500_000_000,
        "shm_size": 67_108_864,
        "security_opt": ["no-new-privileges"],
        "cap_drop": ["ALL"],
        "oom_score_adj": 500,
        "log_config": {"type": "none"},
        "ulimits": [{"Name": "core", "Soft": 0, "Hard": 0}, {"Name": "fsize", "Soft": 2_097_152, "Hard": 2_097_152}],
    }


def test_runtime_is_named_only_when_configured() -> None:
    assert host_options(SandboxConfig(docker_runtime="runsc"))["runtime"] == "runsc"
