"""`swe-master cluster render|check`: Kubernetes manifests for KubeRay."""

from pathlib import Path
from typing import Annotated

import typer

from cluster.cli_errors import fail

kuberay_app = typer.Typer(no_args_is_help=True, help="Kubernetes manifests for KubeRay, from the run's own configuration.")


@kuberay_app.command()
def render(
    settings: Annotated[list[str] | None, typer.Argument(help="CONFIG.yaml and key=value overrides", show_default=False)] = None,
    verb: Annotated[str, typer.Option(help="What the job runs.")] = "grpo",
    images: Annotated[Path | None, typer.Option(help="Docker images to pull ahead, one a line.")] = None,
    to: Annotated[Path, typer.Option(help="Folder for the manifests.")] = Path("manifests"),
) -> None:
    """RayCluster, RayJob and what they need, as YAML files.

    swe-master cluster render configs/yaml/swe_master_32b.yaml kuberay.queue=team --to manifests
    """
    from cluster.kuberay.rendering import write_manifests
    from cluster.placement import PlacementError
    from configs.stage_loading import ConfigError, load_config

    words = settings or []
    paths = [Path(word) for word in words if "=" not in word]
    try:
        config = load_config(paths[0] if paths else None, [word for word in words if "=" in word])
        listed = images.read_text(encoding="utf-8").split() if images is not None else []
        for path in write_manifests(config, verb, listed, to):
            print(path)
    except (ConfigError, PlacementError, OSError) as error:
        fail(str(error))


@kuberay_app.command()
def check(files: Annotated[list[Path], typer.Argument(help="Manifests")]) -> None:
    """Rules that KubeRay's operator and Kueue apply and no schema knows, and what we never allow; exit code 1 on a fault."""
    import yaml

    from cluster.kuberay.rendering import check_files

    try:
        faults = check_files(files)
    except (OSError, yaml.YAMLError) as error:
        fail(" ".join(str(error).split()))
    print("\n".join(faults) or f"{len(files)} files without a fault")
    raise typer.Exit(bool(faults))
