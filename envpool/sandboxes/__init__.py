"""Where commands run. To add a backend: write `<name>_sandbox.py` with a class whose constructor takes the configuration, the
image store and an owner's name, and whose `start` and `close` are those of envpool.sandbox.SandboxBackend; then add its
line below. `owner` names whoever started it (a run, a worker); what an earlier process of the same owner left behind may be
removed. `sandbox.backend=simulated` names none of these: see SandboxConfig.real_backend."""

from collections.abc import Callable

from configs.sandbox_config import SandboxConfig
from envpool.sandbox import SandboxBackend
from envpool.sandbox_parts.image_cache import FolderImages
from envpool.sandboxes.docker_sandbox import DockerBackend
from envpool.sandboxes.process_sandbox import ProcessBackend
from envpool.sandboxes.scripted_sandbox import ScriptedBackend

SANDBOXES: dict[str, Callable[[SandboxConfig, FolderImages, str], SandboxBackend]] = {
    "docker": DockerBackend,
    "process": ProcessBackend,
    "scripted": ScriptedBackend,
}
