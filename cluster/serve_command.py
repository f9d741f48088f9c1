"""`swe-master serve`: a run's newest policy, or any model folder, behind an OpenAI-compatible endpoint."""

from pathlib import Path
from typing import Annotated

import typer

from cluster.cli_errors import fail

POLICIES = ("grpo", "sft")
"""A run's policies, the newest first."""


def serve_verb(
    source: Annotated[str, typer.Argument(help="A run folder, or a Hugging Face model folder.")],
    settings: Annotated[list[str] | None, typer.Argument(help="engine.KEY=VALUE overrides", show_default=False)] = None,
    host: Annotated[
        str, typer.Option(help="Address to listen on; one that other machines reach needs VLLM_API_KEY.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535)] = 8000,
    served_model_name: Annotated[str, typer.Option(help="What clients ask for; empty: the folder's name.")] = "",
    policy: Annotated[str, typer.Option(help="Which model of the run: sft, grpo, ...; empty: its newest policy.")] = "",
    tool_call_parser: Annotated[str, typer.Option(help="vLLM's parser of tool calls; empty: calls stay in the text.")] = "hermes",
) -> None:
    """The newest policy of a run behind an OpenAI-compatible endpoint (vLLM's own server), until Ctrl-C.

    swe-master serve runs/demo --port 8000 --served-model-name policy engine.max_model_len=4096
    """
    from actors.openai_server import KEY_VARIABLE, ServedModel, ServeError, serve_model
    from configs.stage_loading import ConfigError, load_config
    from trainers.model_paths import ModelPathError

    own_config = Path(source) / "config.yaml"
    try:
        config = load_config(own_config if own_config.is_file() else None, settings or [])
        folder = model_to_serve(source, policy)
        served = ServedModel(folder, served_model_name or folder.name, host, port, tool_call_parser)
        print(f"serving {folder} as {served.name!r} at http://{host}:{port}/v1 (key: ${KEY_VARIABLE}, if set)", flush=True)
        serve_model(served, config.engine, config.model.dtype)
    except (ConfigError, ModelPathError, ServeError) as error:
        fail(str(error))
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


def model_to_serve(source: str, policy: str = "") -> Path:
    """The model folder of a run (its newest policy, or the one named), or `source` itself. Raises ServeError, ModelPathError."""
    from actors.openai_server import ServeError
    from cluster.run_folder import RunFolder
    from trainers.model_paths import resolve_model_path

    root = Path(source)
    if not (root / "config.yaml").is_file():
        if policy:
            raise ServeError(f"--policy belongs to a run folder, and {source} is none: it has no config.yaml")
        return resolve_model_path(source)
    run = RunFolder.open(root)
    wanted = (policy,) if policy else POLICIES
    for name in wanted:
        if (run.hf(name) / "config.json").is_file():
            return run.hf(name)
    have = sorted(path.parent.name for path in (run.root / "hf").glob("*/config.json"))
    raise ServeError(f"{source} holds no model {' or '.join(wanted)}; it has {', '.join(have) or 'none'}")
