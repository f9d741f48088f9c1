"""All manifests of a run as files, and their check."""

from collections.abc import Sequence
from pathlib import Path

import yaml

from cluster.kuberay.manifest_rules import manifest_faults
from cluster.kuberay.pod_templates import RUNS, Object
from cluster.kuberay.ray_objects import ray_cluster, ray_job
from cluster.kuberay.support_objects import prepull_job, support_objects
from cluster.placement import PlacementError, plan_placement
from configs.run_config import RunConfig
from configs.stage_loading import config_as_yaml

JOB_VERBS = ("demo", "rollout", "sft", "grpo", "world-model", "eval", "tts")
CONFIG_FILE = f"{RUNS}/configs/run.yaml"


def render_manifests(config: RunConfig, verb: str, images: Sequence[str]) -> dict[str, list[Object]]:
    """File name -> objects, in the order to apply them. `images` are pulled ahead by a job of their own.

    Raises PlacementError: the placement cannot be, an unknown verb, sandboxes without an engine for containers.
    """
    if verb not in JOB_VERBS:
        raise PlacementError(f"no job runs {verb!r}; choose from {', '.join(JOB_VERBS)}")
    if config.kuberay.sandbox_runtime not in ("dind", "gvisor"):
        raise PlacementError(f"kuberay.sandbox_runtime={config.kuberay.sandbox_runtime!r}: use dind or gvisor")
    if not any("GPU" in bundle for group in plan_placement(config).groups for bundle in group.bundles):
        raise PlacementError("no GPU is asked for (cluster.engine_gpus, cluster.learner_gpus): nothing to put on a cluster")
    files = {
        "00-support.yaml": support_objects(config.kuberay),
        "10-raycluster.yaml": [ray_cluster(config)],
        "20-rayjob.yaml": [ray_job(config, verb, CONFIG_FILE)],
    }
    if images:
        files["05-prepull.yaml"] = prepull_job(config.kuberay, images)
    return dict(sorted(files.items()))


def write_manifests(config: RunConfig, verb: str, images: Sequence[str], to: Path) -> list[Path]:
    """Write the files and the run's configuration to `to`; returns the paths. Raises PlacementError, OSError."""
    files = render_manifests(config, verb, images)
    faults = [fault for objects in files.values() for document in objects for fault in manifest_faults(document)]
    if faults:
        raise PlacementError(f"the manifests would be refused: {'; '.join(faults)}")
    to.mkdir(parents=True, exist_ok=True)
    written = []
    for name, objects in files.items():
        (to / name).write_text(yaml.safe_dump_all(objects, sort_keys=False, width=120), encoding="utf-8")
        written.append(to / name)
    (to / "run.yaml").write_text(config_as_yaml(config), encoding="utf-8")
    return [*written, to / "run.yaml"]


def check_files(paths: Sequence[Path]) -> list[str]:
    """Faults of manifest files, each with its file. Raises OSError, yaml.YAMLError."""
    faults = []
    for path in paths:
        for document in yaml.safe_load_all(path.read_text(encoding="utf-8")):
            if document is not None:
                faults += [f"{path.name}: {fault}" for fault in manifest_faults(document)]
    return faults
