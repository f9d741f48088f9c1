"""One vLLM engine: token ids in, token ids and log-probs out, weights replaced while it runs.

A plain asyncio class; `actors.engine_pool` makes a Ray actor of it. vllm is imported in `start`, after the environment it
reads at import is set.
"""

import asyncio
import json
import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from actors.process_output import OutputMark
from actors.weight_sync import (
    WeightBuffer,
    WeightSyncError,
    check_buffer,
    check_shapes,
    shapes_of_files,
    weight_files,
    write_buffer,
)
from configs.model_config import EngineConfig
from envpool.policy import Completion, FinishReason, IntArray, PolicyError

END_OF_TURN = "<|im_end|>"
NOT_STARTED = "not started"
SCRATCH_PREFIX = "swe-vllm-"
TEMP = Path(tempfile.gettempdir())  # as it was before an engine moved it

_EVERY_ENV = {"VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1", "VLLM_LOGGING_LEVEL": "ERROR", "OMP_NUM_THREADS": "1"}
_CPU_ENV = {
    "TORCHDYNAMO_DISABLE": "1",  # else the first request with log-probs compiles C++ for 19 s
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",  # else two engines are bound to the same core
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # the executor runs inside the engine core: one process less
}
_FINISH_REASONS: dict[str | None, FinishReason] = {"stop": "stop", "length": "length"}


class VLLMEngine:
    """A vLLM `AsyncLLM` that samples from one policy version at a time. Every method raises PolicyError when it is not usable."""

    def __init__(self) -> None:
        self._llm: Any = None
        self._broken = NOT_STARTED
        self._version = 0
        self._expected: dict[str, tuple[int, ...]] = {}
        self._architecture: dict[str, Any] = {}
        self._stop_token_ids: list[int] = []
        self._update_lock = asyncio.Lock()
        self._num_requests = 0
        self._num_tokens = 0
        self._start_s = 0.0
        self._scratch: Path | None = None

    async def start(self, model_dir: str, engine: EngineConfig, dtype: str) -> float:
        """Load the model of a Hugging Face folder (config, safetensors, tokenizer.json). Returns the seconds it took.

        Raises PolicyError when the folder, the sizes or the machine do not fit.
        """
        started = time.monotonic()
        folder = Path(model_dir)
        output = OutputMark()
        try:
            self._expected = shapes_of_files(weight_files(folder))
            self._architecture = _architecture(folder)
            self._stop_token_ids = [_token_id(folder / "tokenizer.json", END_OF_TURN)]
            self._scratch = await asyncio.to_thread(scratch_folder)
            self._llm = _start_llm(folder, engine, dtype)
            from vllm.distributed.weight_transfer.base import WeightTransferInitRequest

            await self._llm.init_weight_transfer_engine(WeightTransferInitRequest(init_info={}))
            await self._llm.update_weight_version(str(self._version))
        except Exception as error:  # whatever vLLM raised ends the start with one line
            own = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
            reason = (output.first_error() if "Engine core" in own else "") or own
            raise PolicyError(f"vLLM engine did not start on {folder}: {reason}") from error
        self._broken = ""
        self._start_s = time.monotonic() - started
        return self._start_s

    async def generate(self, request_id: str, prompt_ids: IntArray, max_tokens: int, temperature: float, seed: int) -> Completion:
        """Sample one completion, ending with `<|im_end|>` or after `max_tokens`. Equal seeds give equal samples.

        Log-probs are of the distribution sampled from (after temperature); versions are per token, also across an update.
        """
        from vllm import SamplingParams
        from vllm.exceptions import VLLMValidationError
        from vllm.sampling_params import RequestOutputKind
        from vllm.v1.engine.exceptions import EngineDeadError

        self._require_usable()
        sampling = SamplingParams(
            max_tokens=max_tokens,
            temperature=temperature,
            seed=seed,
            stop_token_ids=self._stop_token_ids,
            logprobs=0,
            flat_logprobs=True,
            detokenize=False,
            output_kind=RequestOutputKind.FINAL_ONLY,
        )
        final = None
        try:
            async for output in self._llm.generate(self._as_prompt(prompt_ids), sampling, request_id=request_id):
                final = output
        except EngineDeadError as error:
            self._broken = "its engine core died"
            raise PolicyError(f"vLLM engine cannot be used: {self._broken}") from error
        except (ValueError, VLLMValidationError) as error:
            raise PolicyError(f"vLLM refused a prompt of {len(prompt_ids)} tokens: {_first_line(error)}") from error
        if final is None or final.outputs[0].finish_reason not in _FINISH_REASONS:
            raise PolicyError(f"request {request_id} was aborted")
        return self._completion(final.outputs[0])

    async def abort(self, request_id: str) -> None:
        """Stop a request nobody waits for any more."""
        if self._llm is not None:
            await self._llm.abort(request_id)

    async def update_weights(self, buffer: WeightBuffer, version: int) -> float:
        """Replace the weights between two decoding steps; running requests go on and tell the versions of their tokens apart.

        KV caches (also prefixes) of the old weights are dropped and recomputed. Returns seconds. Raises WeightSyncError, with
        the old weights still in place, when the buffer is corrupt or does not fit.
        """
        self._require_usable()
        if buffer.version != version:
            raise WeightSyncError(f"asked for version {version}, the buffer holds version {buffer.version}")
        started = time.monotonic()
        async with self._update_lock:
            await asyncio.to_thread(check_buffer, buffer, self._expected)
            path = await asyncio.to_thread(write_buffer, buffer)
            try:
                await self._load([str(path)], version)
            finally:
                path.unlink(missing_ok=True)
        return time.monotonic() - started

    async def load_model(self, model_dir: str, version: int) -> float:
        """Replace the weights by those of a folder holding a model of the same architecture. Returns seconds.

        Starting an engine takes 10 to 20 s, this takes a tenth of a second: one process serves policy and reward model in turn.
        """
        self._require_usable()
        started = time.monotonic()
        folder = Path(model_dir)
        files = weight_files(folder)
        check_shapes(shapes_of_files(files), self._expected, f"weights in {folder}")
        if (other := _architecture(folder)) != self._architecture:
            keys = sorted(
                key for key in other.keys() | self._architecture.keys() if other.get(key) != self._architecture.get(key)
            )
            raise WeightSyncError(f"the model in {folder} is another architecture than the engine's: {', '.join(keys)} differ")
        async with self._update_lock:
            await self._load([str(path) for path in files], version)
        return time.monotonic() - started

    async def stats(self) -> dict[str, float]:
        """`policy_version`, `num_requests` and `num_tokens` completed, `start_s`. Raises PolicyError when not usable."""
        self._require_usable()
        return {
            "policy_version": self._version,
            "num_requests": self._num_requests,
            "num_tokens": self._num_tokens,
            "start_s": self._start_s,
        }

    async def is_started(self) -> bool:
        """False in a process that has no engine yet; True also when its engine broke."""
        return self._broken != NOT_STARTED

    async def close(self) -> None:
        """End the engine's processes. Idempotent."""
        llm, self._llm, self._broken = self._llm, None, "closed"
        if llm is not None:
            if llm.output_handler is not None:  # it would log the end of the engine core as a crash
                llm.output_handler.cancel()
            await asyncio.to_thread(llm.shutdown)
        if self._scratch is not None:
            await asyncio.to_thread(shutil.rmtree, self._scratch, ignore_errors=True)

    def _require_usable(self) -> None:
        if not self._broken and self._llm.errored:
            self._broken = "its engine core died"
        if self._broken:
            raise PolicyError(f"vLLM engine cannot be used: {self._broken}")

    async def _load(self, paths: list[str], version: int) -> None:
        from vllm.distributed.weight_transfer.base import WeightTransferUpdateRequest

        llm = self._llm
        await llm.pause_generation(mode="keep", clear_cache=True)
        try:
            await llm.start_weight_update()
            await llm.update_weights(WeightTransferUpdateRequest(update_info={"paths": paths}))
            # The version must be set before resuming: else the first new tokens carry the old one.
            await llm.finish_weight_update(weight_version=str(version))
        except Exception as error:  # half-loaded weights must never be sampled from
            self._broken = f"loading version {version} failed half-way: {_first_line(error)}"
            raise PolicyError(f"vLLM engine cannot be used: {self._broken}") from error
        self._version = version
        await llm.resume_generation()

    def _as_prompt(self, prompt_ids: IntArray) -> Any:
        from vllm.inputs import TokensPrompt
        from vllm.renderers.inputs.preprocess import parse_model_prompt

        parsed = parse_model_prompt(self._llm.model_config, TokensPrompt(prompt_token_ids=prompt_ids.tolist()))
        (prompt,) = self._llm.renderer.render_cmpl([parsed], self._llm.renderer.default_cmpl_tok_params)
        return prompt

    def _completion(self, output: Any) -> Completion:
        token_ids = np.asarray(output.token_ids, dtype=np.int32)
        versions = np.full(len(token_ids), self._version, dtype=np.int32)
        for span in output.weight_versions or []:
            versions[span.start : span.end] = int(span.version)
        self._num_requests += 1
        self._num_tokens += len(token_ids)
        return Completion(
            token_ids=token_ids,
            rollout_logprobs=np.asarray(output.logprobs.logprobs, dtype=np.float32),
            policy_versions=versions,
            finish_reason=_FINISH_REASONS[output.finish_reason],
        )


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
    os.environ.update(_EVERY_ENV)
    import torch

    on_gpu = torch.cuda.is_available()
    if not on_gpu:
        os.environ.update(_CPU_ENV)
    return on_gpu


def _start_llm(folder: Path, engine: EngineConfig, dtype: str) -> Any:
    on_gpu = set_engine_environment()
    from vllm.config.weight_transfer import WeightTransferConfig
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.v1.engine.async_llm import AsyncLLM

    sized: dict[str, Any] = (
        {"tensor_parallel_size": engine.tensor_parallel, "gpu_memory_utilization": engine.gpu_memory_utilization}
        if on_gpu
        else {
            "enforce_eager": True,
            "block_size": 32,
            "kv_cache_memory_bytes": int(engine.kv_cache_gib * 2**30),
            # A seeded request whose prompt is split over steps kills vLLM 0.32 on CPU ("CPU Generator does not use offset").
            "enable_chunked_prefill": False,
        }
    )
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
            weight_transfer_config=WeightTransferConfig(backend="shm"),
            worker_extension_cls="actors.weight_transfer.ShmWorkerExtension",
            **sized,
        )
    )


def _architecture(folder: Path) -> dict[str, Any]:
    """What of config.json decides the computation, beyond the weights' shapes."""
    config = json.loads((folder / "config.json").read_text())
    keys = ("architectures", "num_attention_heads", "num_key_value_heads", "head_dim", "hidden_act", "rms_norm_eps")
    rope = ("rope_theta", "rope_scaling", "rope_parameters", "tie_word_embeddings", "sliding_window", "use_sliding_window")
    return {key: config[key] for key in keys + rope if key in config}


def _token_id(tokenizer_file: Path, token: str) -> int:
    from tokenizers import Tokenizer

    found = Tokenizer.from_file(str(tokenizer_file)).token_to_id(token)
    if found is None:
        raise ValueError(f"{tokenizer_file} has no token {token}")
    return int(found)


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
