"""Scoring many patches: tokens per second through our path against the engine's offline throughput, and the prefix cache's hits.

    python -m benchmarks.scoring_throughput --json

The prompts are those of a test-time scaling stage: `--tasks` micro tasks with `--candidates` patches each, `num_scores` samples
per patch. `offline` hands all at once to vLLM's own `LLM.generate` in a process of its own, with the same engine settings;
`scoring` asks for the same through Ray actors, mailbox, renderer and parser, as the stage does. Medians over rounds are reported;
each round begins with an empty prefix cache. Hits are what vLLM's scheduler counts, in tokens of prompts, over all rounds.
"""

import argparse
import asyncio
import json
import multiprocessing
import os
import statistics
import time
from dataclasses import replace
from typing import Any

from actors.engine_pool import EnginePool
from actors.engines.vllm_start import CPU_ENV, EVERY_ENV
from cluster.ray_session import ray_session
from configs.model_config import EngineConfig
from configs.run_config import RunConfig
from configs.tasks_config import MicroTasksConfig
from configs.world_model_config import WorldModelConfig
from envpool.chat.chat_format import load_chat_format
from envpool.micro.micro_names import OPERATORS
from envpool.micro.micro_tasks import generate_micro_tasks, git_diff
from trainers.model_paths import resolve_model_path
from verifier.deployable_context import DeployableContext
from verifier.scorer_prompt import build_prompt
from verifier.world_model_client import WorldModelClient

MODEL = resolve_model_path("tiny_base")


def contexts(num_tasks: int, num_candidates: int) -> list[tuple[str, list[DeployableContext]]]:
    """(task, what a scorer sees of each candidate): the module with one operator changed, the visible test."""
    found = []
    for micro in generate_micro_tasks(MicroTasksConfig(num_train=num_tasks, num_heldout=0), seed=0):
        module = next(path for path in micro.files if not path.startswith("test_"))
        text = micro.files[module]
        seen = []
        for index in range(num_candidates):
            lines = text.splitlines(keepends=True)
            at = [number for number, line in enumerate(lines) if "return" in line][index % 3]
            old = lines[at].split()[2]
            lines[at] = lines[at].replace(f" {old} ", f" {OPERATORS[(OPERATORS.index(old) + 1 + index // 3) % len(OPERATORS)]} ")
            changed = "".join(lines)
            tests = {path: body for path, body in micro.files.items() if path.startswith("test_")}
            diff = git_diff(module, text, changed)
            seen.append(DeployableContext(micro.task.problem.problem_statement, diff, {module: changed}, tests))
        found.append((micro.task.instance_id, seen))
    return found


def offline(jobs: list[tuple[list[int], int]], engine: EngineConfig, world: WorldModelConfig, rounds: int, answers: Any) -> None:
    """vLLM's own loop in this process; puts (seconds per round, answer tokens, hit rate) into `answers`."""
    from vllm import LLM, SamplingParams
    from vllm.inputs import TokensPrompt

    llm = LLM(
        model=str(MODEL),
        dtype="float32",
        max_model_len=engine.max_model_len,
        max_num_seqs=engine.max_num_seqs,
        max_num_batched_tokens=max(engine.max_model_len, 4096),
        skip_tokenizer_init=True,
        enable_prefix_caching=True,
        logprobs_mode="processed_logprobs",
        disable_log_stats=False,
        seed=0,
        enforce_eager=True,
        block_size=32,
        kv_cache_memory_bytes=int(engine.kv_cache_gib * 2**30),
        enable_chunked_prefill=False,
    )
    prompts = [TokensPrompt(prompt_token_ids=ids) for ids, _ in jobs]
    stop = load_chat_format(MODEL).end_of_turn_id
    params = [
        SamplingParams(
            max_tokens=world.max_report_tokens, temperature=world.temperature, seed=seed, logprobs=0, stop_token_ids=[stop],
            detokenize=False,
        )
        for _, seed in jobs
    ]  # fmt: skip
    seconds, tokens = [], 0
    for _ in range(rounds):
        llm.reset_prefix_cache()
        started = time.monotonic()
        outputs = llm.generate(prompts, params, use_tqdm=False)
        seconds.append(time.monotonic() - started)
        tokens = sum(len(output.outputs[0].token_ids) for output in outputs)
    counts = {metric.name: getattr(metric, "value", 0) for metric in llm.get_metrics() if "prefix_cache" in metric.name}
    answers.put((seconds, tokens, counts))


async def scoring(
    tasks: list[tuple[str, list[DeployableContext]]], engine: EngineConfig, world: WorldModelConfig, rounds: int
) -> tuple[list[float], int, int, float]:
    """The same through our own path; (seconds per round, answer tokens, readable reports, share of prompt tokens found)."""
    seconds: list[float] = []
    tokens = readable = 0
    with ray_session(RunConfig().cluster):
        pool = await EnginePool.start(str(MODEL), engine, "float32")
        try:
            for _ in range(rounds):
                await pool.load_model(str(MODEL), 0)  # drops the prefix cache
                client = WorldModelClient(pool.policy(), load_chat_format(MODEL), world, engine.max_model_len)
                started = time.monotonic()
                votes = await asyncio.gather(*(client.votes(name, seen, 0) for name, of_task in tasks for seen in of_task))
                seconds.append(time.monotonic() - started)
                tokens = client.usage.answer_tokens
                readable = sum(vote is not None for of_one in votes for vote in of_one)
            (counts,) = await pool.stats()
        finally:
            await pool.close()
    return seconds, tokens, readable, counts["cached_tokens"] / max(counts["prompt_tokens"], 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=48)
    parser.add_argument("--candidates", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    engine = replace(EngineConfig(), request_timeout_s=1_800.0)
    world = WorldModelConfig(num_scores=3, max_report_tokens=64)
    tasks, chat = contexts(options.tasks, options.candidates), load_chat_format(MODEL)
    jobs = [
        (chat.prompt_ids(build_prompt(seen)).tolist(), number)
        for _, of_task in tasks
        for seen in of_task
        for number in range(world.num_scores)
    ]
    os.environ.update(EVERY_ENV | CPU_ENV)  # the process inherits it: some of it is read before its first line runs
    spawn = multiprocessing.get_context("spawn")
    answers = spawn.Queue()
    process = spawn.Process(target=offline, args=(jobs, engine, world, options.rounds, answers))
    process.start()
    offline_s, offline_tokens, cache = answers.get(timeout=3_600)
    process.join()
    scoring_s, scoring_tokens, readable, hit_rate = asyncio.run(scoring(tasks, engine, world, options.rounds))
    prompt_tokens = sum(len(ids) for ids, _ in jobs)
    queries, hits = (next((v for k, v in cache.items() if k.endswith(end)), 0) for end in ("queries", "hits"))
    rates = {
        "offline": (prompt_tokens + offline_tokens) / statistics.median(offline_s),
        "scoring": (prompt_tokens + scoring_tokens) / statistics.median(scoring_s),
    }
    result = {
        "requests": len(jobs),
        "prompt_tokens": prompt_tokens,
        "answer_tokens": {"offline": offline_tokens, "scoring": scoring_tokens},
        "seconds": {"offline": offline_s, "scoring": scoring_s},
        "tokens_per_s": rates,
        "ratio": rates["scoring"] / rates["offline"],
        "prefix_cache_hit_rate": {"offline": hits / queries if queries else None, "scoring": hit_rate},
        "readable_reports": readable,
        "load_average": os.getloadavg()[0],
    }
    print(json.dumps(result) if options.json else json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
