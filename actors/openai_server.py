"""vLLM's own OpenAI-compatible server over a model folder: how a trained policy is used by other programs.

serve_model(ServedModel(Path("runs/demo/hf/grpo"), name="grpo", port=8000), EngineConfig(max_model_len=4096), "float32")

The `vllm` command itself cannot be used: it looks for a distribution of that name, and the CPU build has another one.
"""

import asyncio
import ipaddress
import os
import shutil
import signal
import socket
from dataclasses import dataclass
from pathlib import Path

from actors.engines.vllm_start import scratch_folder, set_engine_environment
from configs.model_config import EngineConfig

KEY_VARIABLE = "VLLM_API_KEY"
"""Clients must send this environment variable's value as their key; unset: none is asked for. It is in no argument or file."""
MODEL_FILES = ("config.json", "tokenizer.json")


class ServeError(ValueError):
    """A model that cannot be served like this; one line that says what to do."""


@dataclass(frozen=True)
class ServedModel:
    """`name` is what clients ask for. `tool_call_parser` is vLLM's (hermes reads Qwen's <tool_call> blocks); "" leaves tool calls
    in the text."""

    folder: Path
    name: str
    host: str = "127.0.0.1"
    port: int = 8000
    tool_call_parser: str = "hermes"

    def __post_init__(self) -> None:
        missing = [name for name in MODEL_FILES if not (self.folder / name).is_file()]
        if missing:
            raise ServeError(
                f"{self.folder} has no {', '.join(missing)}: give a run with a trained policy, or a Hugging Face folder"
            )
        if not has_chat_template(self.folder):
            raise ServeError(
                f"{self.folder} has no chat template, so the server could not render messages; export the model again"
            )
        if not is_loopback(self.host) and not os.environ.get(KEY_VARIABLE):
            raise ServeError(
                f"--host {self.host} is reached from other machines: set {KEY_VARIABLE} to the key clients must send"
            )


def serve_model(served: ServedModel, engine: EngineConfig, dtype: str) -> None:
    """Serve until SIGINT or SIGTERM. Raises ServeError when the port is taken or vLLM does not start."""
    check_port(served.host, served.port)
    scratch = scratch_folder()
    try:
        on_gpu = set_engine_environment()
        os.environ["VLLM_LOGGING_LEVEL"] = "WARNING"
        from vllm.entrypoints.launchers.api_server.entry import run_server
        from vllm.entrypoints.launchers.cli_args import make_arg_parser, validate_parsed_serve_args
        from vllm.entrypoints.serve.utils.api_utils import cli_env_setup
        from vllm.utils.argparse_utils import FlexibleArgumentParser

        cli_env_setup()
        arguments = make_arg_parser(FlexibleArgumentParser()).parse_args(server_arguments(served, engine, dtype, on_gpu))
        validate_parsed_serve_args(arguments)
        signal.signal(signal.SIGINT, _interrupt)
        asyncio.run(run_server(arguments))
    except Exception as error:  # whatever vLLM raised ends the start with one line
        reason = " ".join(str(error).split())[:400]
        raise ServeError(f"the server of {served.folder} ended: {type(error).__name__}: {reason}") from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _interrupt(*_: object) -> None:
    """Also while vLLM starts: asyncio's own handler waits for the event loop, which the start blocks."""
    raise KeyboardInterrupt


def server_arguments(served: ServedModel, engine: EngineConfig, dtype: str, on_gpu: bool) -> list[str]:
    """`vllm serve`'s arguments. The key is never among them: vLLM reads it from the environment."""
    arguments = [
        *("--model", str(served.folder), "--served-model-name", served.name),
        *("--host", served.host, "--port", str(served.port), "--dtype", dtype, "--seed", "0"),
        *("--max-model-len", str(engine.max_model_len), "--max-num-seqs", str(engine.max_num_seqs)),
        # Sampling as the client asks, not as the folder's generation_config.json suggests.
        *("--generation-config", "vllm", "--disable-log-stats", "--disable-uvicorn-access-log"),
    ]
    if served.tool_call_parser:
        arguments += ["--enable-auto-tool-choice", "--tool-call-parser", served.tool_call_parser]
    if on_gpu:
        share = str(engine.gpu_memory_utilization)
        return [*arguments, "--tensor-parallel-size", str(engine.tensor_parallel), "--gpu-memory-utilization", share]
    return [
        *arguments,
        *("--enforce-eager", "--block-size", "32", "--kv-cache-memory-bytes", str(int(engine.kv_cache_gib * 2**30))),
        # A seeded request whose prompt is split over steps kills vLLM 0.32 on CPU.
        *("--no-enable-chunked-prefill", "--max-num-batched-tokens", str(max(engine.max_model_len, 4096))),
    ]


def has_chat_template(folder: Path) -> bool:
    """Whether the folder's tokenizer can render messages."""
    settings = folder / "tokenizer_config.json"
    inside = settings.is_file() and '"chat_template"' in settings.read_text(encoding="utf-8")
    return inside or (folder / "chat_template.jinja").is_file()


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches that address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def check_port(host: str, port: int) -> None:
    """Raises ServeError when nobody can listen there; vLLM would say so with a traceback."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise ServeError(f"cannot listen on {host}:{port}: {error.strerror or error}; choose another --port") from error
