"""Tokens per second of 64 concurrent episodes against the same engine's offline `generate` on the same tokens.

    python -m benchmarks.rollout_throughput --json --params tiny       # about 3 minutes on 2 quiet cores
    python -m benchmarks.rollout_throughput --json --params 0.1B       # about 6 minutes

Episodes run through run_episode, RoutedGenerate and the engine's Ray actor; the sandbox is scripted and answers at once, and
what the random model says is replaced by a tool call of the same length (a random model makes none). Offline, vLLM's LLM gets
the prompts of all turns in one call, turn by turn, with the same settings, and is made to sample as many tokens for each.
Both engines live in this run and take turns; medians of the repetitions.
"""

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from actors.engine_pool import EnginePool
from actors.engines.vllm_start import CPU_ENV, EVERY_ENV
from benchmarks.random_models import write_random_model
from cluster.ray_session import ray_session
from configs.cluster_config import ClusterConfig
from configs.model_config import EngineConfig
from configs.rollout_config import EpisodeConfig
from envpool.action_format import ToolCall, render_action
from envpool.agent.episode import run_episode
from envpool.chat.chat_format import ChatFormat, load_chat_format
from envpool.policy import Completion, Generate, GenerateRequest
from envpool.problem import Problem
from envpool.sandbox import ExecResult
from envpool.sandboxes.scripted_sandbox import ScriptedSandbox, said

PROBLEM = Problem("bench-1", "bench", "c0", "folder:bench", "/testbed", "area should add w and h")
WINDOW = 2048


class ToolCaller:
    """Samples from the engine, then says a tool call of the sampled length. Records what the engine was asked."""

    def __init__(self, generate: Generate, chat: ChatFormat) -> None:
        self._generate, self._chat = generate, chat
        self.asked: list[tuple[GenerateRequest, int]] = []

    async def __call__(self, request: GenerateRequest) -> Completion:
        completion = await self._generate(request)
        length = len(completion.token_ids)
        self.asked.append((request, length))
        ids = self._chat.completion_ids(_call_of(length, len(self.asked), self._chat))
        nan = np.full(len(ids), np.nan, np.float32)
        return Completion(ids, nan, np.zeros(len(ids), np.int32), "stop")


def _call_of(length: int, number: int, chat: ChatFormat) -> str:
    """A command that differs from the others, so that no rule against repetition ends the episode."""
    bare = len(chat.completion_ids(render_action(ToolCall("execute_bash", {"command": f"echo {number} "}))))
    return render_action(ToolCall("execute_bash", {"command": f"echo {number} " + "x" * max(length - bare, 0)}))


def shell(command: str) -> ExecResult:
    return said("" if "git" in command else "ok\n" * 20)


async def play(generate: Generate, chat: ChatFormat, episodes: int, config: EpisodeConfig) -> ToolCaller:
    """All episodes at once."""
    caller = ToolCaller(generate, chat)
    await asyncio.gather(
        *(
            run_episode(
                PROBLEM, ScriptedSandbox({}, shell), caller, chat, config,
                sample_index=index, policy_name="engine", temperature=1.0, seed=index,
            )
            for index in range(episodes)
        )
    )  # fmt: skip
    return caller


class Offline:
    """vLLM's LLM in a process of its own, which answers a line of prompts with the seconds they took."""

    def __init__(self, model: str, dtype: str, engine: EngineConfig) -> None:
        settings = json.dumps({"model": model, "dtype": dtype, "kv": engine.kv_cache_gib, "seqs": engine.max_num_seqs})
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.rollout_throughput", "--offline", settings],
            env={**os.environ, **EVERY_ENV, **CPU_ENV},  # before torch is imported: it reads its number of threads then
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def generate(self, asked: list[tuple[list[int], int, int]]) -> dict[str, float]:
        """(prompt ids, tokens to sample, seed) of every request, in order."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps(asked), file=self._process.stdin, flush=True)
        for line in self._process.stdout:
            if line.startswith("{"):
                found: dict[str, float] = json.loads(line)
                return found
        raise RuntimeError("the offline engine ended; its output is above")

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(60)
        finally:
            self._process.kill()


def serve_offline(settings: dict[str, Any]) -> None:
    """The process behind `Offline`: the same arguments as actors.engines.vllm_start, without an actor or an event loop."""
    from vllm import LLM, SamplingParams
    from vllm.inputs import TokensPrompt

    llm = LLM(
        model=settings["model"], dtype=settings["dtype"], enforce_eager=True, max_model_len=WINDOW, max_num_batched_tokens=4096,
        max_num_seqs=settings["seqs"], kv_cache_memory_bytes=int(settings["kv"] * 2**30), block_size=32, seed=0,
        skip_tokenizer_init=True, enable_prefix_caching=True, enable_chunked_prefill=False, logprobs_mode="processed_logprobs",
    )  # fmt: skip
    for line in sys.stdin:
        asked = json.loads(line)
        prompts = [TokensPrompt(prompt_token_ids=ids) for ids, _, _ in asked]
        sampling = [
            SamplingParams(
                max_tokens=length, min_tokens=0, ignore_eos=True, temperature=1.0, seed=seed, logprobs=0, flat_logprobs=True,
                detokenize=False,
            )
            for _, length, seed in asked
        ]  # fmt: skip
        llm.reset_prefix_cache()
        began = time.monotonic()
        outputs = llm.generate(prompts, sampling, use_tqdm=False)
        seconds = time.monotonic() - began
        cached = sum(output.num_cached_tokens or 0 for output in outputs)
        tokens = sum(len(output.outputs[0].token_ids) for output in outputs)
        print(json.dumps({"seconds": seconds, "tokens": tokens, "cached": cached}), flush=True)


async def measure(params: str, dtype: str, episodes: int, turns: int, turn_tokens: int, repeats: int) -> dict[str, Any]:
    """Medians over `repeats` pairs of runs, after one that is not counted."""
    engine = EngineConfig(max_model_len=WINDOW, kv_cache_gib=1.0, max_num_seqs=64, start_timeout_s=900, request_timeout_s=900)
    config = EpisodeConfig(
        max_turns=turns, max_tokens=WINDOW, max_tokens_per_turn=turn_tokens, episode_timeout_s=3600.0, tool_timeout_s=5.0
    )
    with tempfile.TemporaryDirectory() as folder:
        model = write_random_model(Path(folder) / "model", params, dtype)
        chat = load_chat_format(model)
        with ray_session(ClusterConfig(min_free_memory_mib=1000)):
            pool = await EnginePool.start(str(model), engine, dtype)
            offline = Offline(str(model), dtype, engine)
            rounds = [await one_pair(pool, offline, chat, episodes, config, str(model), n) for n in range(repeats + 1)][1:]
            offline.close()
            await pool.close()
    medians = {key: round(statistics.median(row[key] for row in rounds), 4) for key in rounds[0]}
    ratios = [round(row["ratio"], 4) for row in rounds]
    return {
        "params": params,
        "dtype": dtype,
        "episodes": episodes,
        "turns": turns,
        "repeats": repeats,
        **medians,
        "ratios": ratios,
    }


async def one_pair(
    pool: EnginePool, offline: Offline, chat: ChatFormat, episodes: int, config: EpisodeConfig, model: str, version: int
) -> dict[str, float]:
    """The episodes, then the same tokens offline; both start with an empty prefix cache."""
    await pool.load_model(model, version)
    before = (await pool.stats())[0]
    cpu = time.process_time()
    began = time.monotonic()
    caller = await play(pool.policy(), chat, episodes, config)
    online_s = time.monotonic() - began
    driver_cpu_s = time.process_time() - cpu
    after = (await pool.stats())[0]
    asked = sorted(caller.asked, key=lambda pair: len(pair[0].messages))  # turn by turn
    found = await asyncio.to_thread(
        offline.generate, [(request.prompt_ids.tolist(), length, request.seed) for request, length in asked]
    )
    tokens = sum(length for _, length in asked)
    assert found["tokens"] == tokens, (found["tokens"], tokens)
    return {
        "tokens": tokens,
        "requests": len(asked),
        "prompt_tokens": sum(len(request.prompt_ids) for request, _ in asked),
        "online_cached": after["cached_tokens"] - before["cached_tokens"],
        "offline_cached": found["cached"],
        "online_s": online_s,
        "offline_s": found["seconds"],
        "online_tokens_per_s": tokens / online_s,
        "offline_tokens_per_s": tokens / found["seconds"],
        "ratio": found["seconds"] / online_s,
        "driver_cpu_s": driver_cpu_s,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--params", default="tiny")
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--episodes", type=int, default=64)
    parser.add_argument("--turns", type=int, default=6)
    parser.add_argument("--turn-tokens", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", action="store_true", help="one JSON object instead of lines")
    parser.add_argument("--offline", default="", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.offline:
        serve_offline(json.loads(options.offline))
        return
    found = asyncio.run(
        measure(options.params, options.dtype, options.episodes, options.turns, options.turn_tokens, options.repeats)
    )
    if options.json:
        print(json.dumps(found))
    else:
        for key, value in found.items():
            print(f"{key:22} {value}")


if __name__ == "__main__":
    main()
