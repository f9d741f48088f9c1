"""One vLLM engine: token ids in, token ids and log-probs out, weights replaced while it runs.

A plain asyncio class; `actors.engine_actor` makes a Ray actor of it. vllm is imported in `start`, after the environment it
reads at import is set.
"""

import asyncio
import shutil
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np

from actors.bucket_inbox import BucketInbox
from actors.engine_failure import EngineUnavailableError
from actors.engines.engine_gauges import EngineGauges
from actors.engines.vllm_start import architecture_of, scratch_folder, start_llm, token_id
from actors.process_output import OutputMark
from actors.weight_packing import WeightBucket, WeightSyncError, check_shapes, shapes_of_files, weight_files
from configs.model_config import EngineConfig
from envpool.policy import Completion, FinishReason, IntArray, PolicyError

END_OF_TURN = "<|im_end|>"
NOT_STARTED = "not started"
STALE = "it waits for the newest weights"

_FINISH_REASONS: dict[str | None, FinishReason] = {"stop": "stop", "length": "length"}


class VLLMEngine:
    """A vLLM `AsyncLLM` that samples from one policy version at a time.

    Every method raises EngineUnavailableError when it is not usable.
    """

    def __init__(self) -> None:
        self._llm: Any = None
        self._broken = NOT_STARTED
        self._stale = False
        self._version = 0
        self._salt = ""
        self._loads = 0
        self._expected: dict[str, tuple[int, ...]] = {}
        self._architecture: dict[str, Any] = {}
        self._stop_token_ids: list[int] = []
        self._inbox = BucketInbox()
        self._update_lock = asyncio.Lock()
        self._in_transfer = False
        """Between "start" and "finish" of a native transfer: no step runs."""
        self._num_running = 0
        self._last_began = 0.0
        """time.monotonic() when the engine last had cause to begin a step: a first request, the end of a pause."""
        self._num_requests = 0
        self._num_tokens = 0
        self._start_s = 0.0
        self._pause_s = 0.0
        self._sleep_level = 0
        self._asleep = False
        self._scratch: Path | None = None
        self.gauges = EngineGauges()

    async def start(self, model_dir: str, engine: EngineConfig, dtype: str, stale: bool = False, sleeps: bool = False) -> float:
        """Load the model of a Hugging Face folder (config, safetensors, tokenizer.json). Returns the seconds it took.

        A `stale` engine refuses requests until it was given weights; `sleeps`: `sleep` will be called. Raises PolicyError when
        the folder, the sizes or the machine do not fit.
        """
        started = time.monotonic()
        folder = Path(model_dir)
        output = OutputMark()
        try:
            self._expected = shapes_of_files(weight_files(folder))
            self._architecture = architecture_of(folder)
            self._stop_token_ids = [token_id(folder / "tokenizer.json", END_OF_TURN)]
            self._scratch = await asyncio.to_thread(scratch_folder)
            await asyncio.to_thread(self._inbox.sweep)
            self._llm = start_llm(folder, engine, dtype, self.gauges, sleeps)
            self._sleep_level = engine.sleep_level if sleeps and self._llm.vllm_config.model_config.enable_sleep_mode else 0
            self._set_version(self._version)
            await self._llm.update_weight_version(str(self._version))
        except Exception as error:  # whatever vLLM raised ends the start with one line
            own = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
            reason = (output.first_error() if "Engine core" in own else "") or own
            raise PolicyError(f"vLLM engine did not start on {folder}: {reason}") from error
        self._broken, self._stale = "", stale
        self._start_s = time.monotonic() - started
        return self._start_s

    async def generate(self, request_id: str, prompt_ids: IntArray, max_tokens: int, temperature: float, seed: int) -> Completion:
        """Sample one completion, ending with `<|im_end|>` or after `max_tokens`. Equal seeds give equal samples.

        Log-probs are of the distribution sampled from (after temperature); versions are per token, also across an update.
        Raises PolicyError for a prompt that does not fit, EngineUnavailableError when the engine broke meanwhile.
        """
        from vllm import SamplingParams
        from vllm.exceptions import VLLMValidationError
        from vllm.sampling_params import RequestOutputKind
        from vllm.v1.engine.exceptions import EngineDeadError

        self._require_usable()
        if self._stale:
            raise EngineUnavailableError(f"vLLM engine cannot be used: {STALE}")
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
        self._num_running += 1
        if self._num_running == 1:
            self._last_began = time.monotonic()
            self.gauges.begin()
        try:
            async for output in self._llm.generate(self._as_prompt(prompt_ids), sampling, request_id=request_id):
                final = output
        except EngineDeadError as error:
            self._broken = "its engine core died"
            raise EngineUnavailableError(f"vLLM engine cannot be used: {self._broken}") from error
        except (ValueError, VLLMValidationError) as error:
            raise PolicyError(f"vLLM refused a prompt of {len(prompt_ids)} tokens: {_first_line(error)}") from error
        finally:
            self._num_running -= 1
        if final is None or final.outputs[0].finish_reason not in _FINISH_REASONS:
            raise EngineUnavailableError(f"request {request_id} was aborted")
        return self._completion(final.outputs[0])

    async def receive_bucket(self, bucket: WeightBucket) -> None:
        """Take in some of the weights of the next version; nothing changes before `load_received`.

        Raises WeightSyncError when the bytes are not those that were packed.
        """
        self._require_usable()
        await asyncio.to_thread(self._inbox.add, bucket)

    async def drop_received(self) -> None:
        """Forget the buckets of a transfer that failed."""
        self._inbox.clear()

    async def load_received(self, version: int) -> float:
        """Replace the weights by those of the received buckets, between two decoding steps. Returns seconds.

        Running requests go on and tell the versions of their tokens apart. KV caches (also prefixes) of the old weights are
        dropped and recomputed. Raises WeightSyncError, with the old weights still in place, when they are not the whole model.
        """
        self._require_usable()
        started = time.monotonic()
        async with self._update_lock:
            try:
                paths = self._inbox.complete(version, self._expected)
                await self._load_files(paths, version)
            finally:
                self._inbox.clear()
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
        if (other := architecture_of(folder)) != self._architecture:
            keys = sorted(
                key for key in other.keys() | self._architecture.keys() if other.get(key) != self._architecture.get(key)
            )
            raise WeightSyncError(f"the model in {folder} is another architecture than the engine's: {', '.join(keys)} differ")
        async with self._update_lock:
            await self._load_files(files, version)
        return time.monotonic() - started

    async def native_transfer(self, step: str, payload: dict[str, Any], version: int) -> None:
        """A step of a transfer by vLLM's own backend (actors.native_transfer): init, start, update (often), finish.

        An engine whose transfer fails has half of the weights and is not usable any more.
        """
        from vllm.distributed.weight_transfer.base import WeightTransferInitRequest, WeightTransferUpdateRequest

        self._require_usable()
        llm = self._llm
        try:
            if step == "init":
                await llm.init_weight_transfer_engine(WeightTransferInitRequest(init_info=payload))
            elif step == "start":
                self._in_transfer = True
                self.gauges.expect_preemptions()
                await llm.pause_generation(mode="keep", clear_cache=True)
                await llm.start_weight_update()
            elif step == "update":
                await llm.update_weights(WeightTransferUpdateRequest(update_info=payload))
            else:
                await llm.finish_weight_update(weight_version=str(version))
                self._set_version(version)
                self._stale = False
                await self._resume()
                self._in_transfer = False
        except Exception as error:
            self._broken = f"native transfer of version {version} failed at {step}: {_first_line(error)}"
            raise EngineUnavailableError(f"vLLM engine cannot be used: {self._broken}") from error

    async def sleep(self) -> None:
        """Stop decoding and, on a GPU, give memory back (engine.sleep_level). Requests that come meanwhile wait."""
        self._require_usable()
        self._asleep = True
        await self._llm.sleep(self._sleep_level, mode="keep")

    async def wake(self) -> None:
        """Go on. After level 2 the weights are whatever memory holds: give it new ones before anything is sampled."""
        self._require_usable()
        self._stale = self._stale or self._sleep_level == 2
        await self._llm.wake_up(["scheduling"] if self._sleep_level == 0 else None)
        self._last_began = time.monotonic()
        self._asleep = False
        self.gauges.begin()

    async def stats(self) -> dict[str, float]:
        """Counters and gauges (see EngineGauges), and `stalled_s`: how long requests have waited for the next step.

        Raises EngineUnavailableError when not usable.
        """
        self._require_usable()
        gauges = self.gauges
        excused = self._update_lock.locked() or self._in_transfer or self._asleep
        waits = self._num_running > 0 and not excused
        return {
            "policy_version": self._version,
            "num_requests": self._num_requests,
            "num_tokens": self._num_tokens,
            "start_s": self._start_s,
            "pause_s": self._pause_s,
            "stalled_s": time.monotonic() - max(gauges.last_step, self._last_began) if waits else 0.0,
            "kv_usage": gauges.kv_usage,
            "preemptions": gauges.preemptions,
            "prompt_tokens": gauges.prompt_tokens,
            "cached_tokens": gauges.cached_tokens,
        }

    async def accept_requests(self) -> None:
        """What the engine was started with are the newest weights."""
        self._stale = False

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
        self._inbox.clear()
        await asyncio.to_thread(self._inbox.settle)
        if self._scratch is not None:
            await asyncio.to_thread(shutil.rmtree, self._scratch, ignore_errors=True)

    def _require_usable(self) -> None:
        if not self._broken and self._llm is not None and self._llm.errored:
            self._broken = "its engine core died"
        if self._broken:
            raise EngineUnavailableError(f"vLLM engine cannot be used: {self._broken}")

    async def _load_files(self, paths: list[Path], version: int) -> None:
        async def reload() -> None:
            await self._llm.collective_rpc("reload_from_files", args=([str(path) for path in paths],))

        await self._paused(reload, version)

    async def _paused(self, load: Callable[[], Awaitable[None]], version: int) -> None:
        """Load weights while no step runs. The old KV cache is dropped: with it, log-probs would be of neither policy."""
        llm = self._llm
        began = time.monotonic()
        self.gauges.expect_preemptions()
        await llm.pause_generation(mode="keep", clear_cache=True)
        try:
            await load()
            # The version must be set before resuming: else the first new tokens carry the old one.
            await llm.update_weight_version(str(version))
        except Exception as error:  # half-loaded weights must never be sampled from
            self._broken = f"loading version {version} failed half-way: {_first_line(error)}"
            raise EngineUnavailableError(f"vLLM engine cannot be used: {self._broken}") from error
        self._set_version(version)
        self._stale = False
        await self._resume()
        self._pause_s = time.monotonic() - began

    async def _resume(self) -> None:
        await self._llm.resume_generation()
        self._last_began = time.monotonic()  # the pause was no stall
        self.gauges.begin()

    def _set_version(self, version: int) -> None:
        """Later requests find no cached prefix of other weights, whether or not caches were dropped. Two models may have the
        same version number, so loads are counted too."""
        self._version = version
        self._loads += 1
        self._salt = f"{version}.{self._loads}"

    def _as_prompt(self, prompt_ids: IntArray) -> Any:
        from vllm.inputs import TokensPrompt
        from vllm.renderers.inputs.preprocess import parse_model_prompt

        parsed = parse_model_prompt(
            self._llm.model_config, TokensPrompt(prompt_token_ids=prompt_ids.tolist(), cache_salt=self._salt)
        )
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


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
