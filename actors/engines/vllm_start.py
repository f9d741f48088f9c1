"""How vLLM is started here: its environment, its arguments, its folders, and what a model folder must hold."""

import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from actors.engines.engine_gauges import EngineGauges, gauge_logger
from configs.model_config import EngineConfig

SCRATCH_PREFIX = "swe-vllm-"
TEMP = Path(tempfile.gettempdir())  # as it was before an engine moved it

EVERY_ENV = {"VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1", "VLLM_LOGGING_LEVEL": "ERROR", "OMP_NUM_THREADS": "1"}
CPU_ENV = {
    "TORCHDYNAMO_DISABLE": "1",  # else the first request with log-probs compiles C++ for 19 s
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",  # else two engines are bound to the same core
    # Keep freed memory: otherwise every step and every load of weights pays for fresh pages again.
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(2**40),
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # the executor runs inside the engine core: one process less
}


def scratch_folder() -> Path:
    """A folder for the temporary files of this process, since vLLM leaves its sockets and rendezvous files behind. Folders of
    processes that are gone are removed."""
    for old in TEMP.glob(f"{SCRATCH_PREFIX}*-*"):
        if not Path("/proc", old.name.removeprefix(SCRATCH_PREFIX).partition("-")[0]).exists():
            shutil.rmtree(old, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=f"{SCRATCH_PREFIX}{os.getpid()}-", dir=TEMP))
    os.environ["TMPDIR"] = os.environ["VLLM_RPC_BASE_PATH"] = tempfile.tempdir = str(folder)
    return folder


def set_engine_environment() -> bool:
    """Set what vLLM reads at import; call it before. Whether there is a GPU (torch alone tells)."""
    os.environ.update(EVERY_ENV)
    import torch

    on_gpu = torch.cuda.is_available()
    if not on_gpu:
        os.environ.update(CPU_ENV)
    return on_gpu


def start_llm(folder: Path, engine: EngineConfig, dtype: str, gauges: EngineGauges, sleeps: bool) -> Any:
    """A running AsyncLLM that fills `gauges`; `sleeps`: on a GPU its memory can be given back for a while."""
    on_gpu = set_engine_environment()
    if engine.weight_transfer == "ipc":
        os.environ["VLLM_ALLOW_INSECURE_SERIALIZATION"] = "1"
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.v1.engine.async_llm import AsyncLLM

    sized: dict[str, Any] = (
        {
            "tensor_parallel_size": engine.tensor_parallel,
            "gpu_memory_utilization": engine.gpu_memory_utilization,
            "enable_sleep_mode": sleeps,
        }
        if on_gpu
        else {
            "enforce_eager": True,
            "block_size": 32,
            "kv_cache_memory_bytes": int(engine.kv_cache_gib * 2**30),
            # A seeded request whose prompt is split over steps kills vLLM 0.32 on CPU ("CPU Generator does not use offset").
            "enable_chunked_prefill": False,
        }
    )
    if engine.weight_transfer in ("nccl", "ipc"):
        from vllm.config.weight_transfer import WeightTransferConfig

        sized["weight_transfer_config"] = WeightTransferConfig(backend=engine.weight_transfer)
    return AsyncLLM.from_engine_args(
        AsyncEngineArgs(
            model=str(folder),
            dtype=dtype,  # type: ignore[arg-type]
            max_model_len=engine.max_model_len,
            max_num_seqs=engine.max_num_seqs,
            max_num_batched_tokens=max(engine.max_model_len, 4096),
            skip_tokenizer_init=True,
            enable_prefix_caching=True,
            logprobs_mode="processed_logprobs",
            disable_log_stats=True,
            seed=0,
            use_tqdm_on_load=False,
            worker_extension_cls="actors.weight_transfer.FileReload",
            **sized,
        ),
        stat_loggers=[gauge_logger(gauges)],
    )


def architecture_of(folder: Path) -> dict[str, Any]:
    """What of config.json decides the computation, beyond the weights' shapes."""
    config = json.loads((folder / "config.json").read_text())
    keys = ("architectures", "num_attention_heads", "num_key_value_heads", "head_dim", "hidden_act", "rms_norm_eps")
    rope = ("rope_theta", "rope_scaling", "rope_parameters", "tie_word_embeddings", "sliding_window", "use_sliding_window")
    return {key: config[key] for key in keys + rope if key in config}


def token_id(tokenizer_file: Path, token: str) -> int:
    from tokenizers import Tokenizer

    found = Tokenizer.from_file(str(tokenizer_file)).token_to_id(token)
    if found is None:
        raise ValueError(f"{tokenizer_file} has no token {token}")
    return int(found)
