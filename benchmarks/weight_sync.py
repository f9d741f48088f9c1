"""A weight sync on CPU against a memcpy of the same bytes plus the engine's own load of the same file; and how long generation
stalls.

    python -m benchmarks.weight_sync --json --params 0.5B          # about 3 minutes on 2 quiet cores
    python -m benchmarks.weight_sync --params tiny --repeats 2     # half a minute

Everything is real but the trainer: the weights come out of an actor that holds a random model without an optimizer, through the
same buckets, checksums, object store, files and engine as in a run. Repetitions of all measurements are interleaved; medians.
"""

import argparse
import asyncio
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from actors.engine_pool import EnginePool
from actors.learner_group import LearnerGroup, LearnerRank
from actors.ray_calls import make_actor
from benchmarks.random_models import write_random_model
from cluster.ray_session import ray_session
from configs.cluster_config import ClusterConfig
from configs.model_config import EngineConfig
from configs.optimizer_config import LearnerConfig
from envpool.policy import GenerateRequest

CONTEXT = 64
"""Prompt tokens of each running generation: what is recomputed after an update, as in every update with a live KV cache."""


class HeldModel(LearnerRank):
    """A learner rank whose model is not trained: half a billion parameters with optimizer state do not fit everywhere."""

    def hold(self, model_dir: str, dtype: str) -> int:
        """Load the model; returns its bytes."""
        from trainers.pretrained_lm import load_pretrained_lm
        from trainers.weight_buckets import WeightBuckets

        lm = load_pretrained_lm(Path(model_dir), dtype).lm

        class Untrained:
            rank = 0

            def weight_buckets(self, bucket_bytes: int) -> WeightBuckets:
                return WeightBuckets(lm, gather=False, bucket_bytes=bucket_bytes)

        self._learner = Untrained()
        return sum(parameter.numel() * parameter.element_size() for parameter in lm.parameters())


def log_steps(engine: Any) -> None:
    """Runs inside the engine actor: remember when its steps ended."""
    engine.step_times = []
    step = type(engine.gauges).step.__get__(engine.gauges)  # not the wrapper of an earlier round

    def logged(*args: Any) -> None:
        engine.step_times.append(time.monotonic())
        step(*args)

    engine.gauges.step = logged


async def one_round(
    pool: EnginePool, group: LearnerGroup, model: str, version: int, num_bytes: int, running: int
) -> dict[str, float]:
    """Memcpy, the engine's own load, a sync of an idle engine, and a sync while `running` requests are generated."""
    source, target = np.ones(num_bytes, np.uint8), np.ones(num_bytes, np.uint8)
    began = time.monotonic()
    np.copyto(target, source)
    memcpy_s = time.monotonic() - began
    del source, target
    load_s = await pool.load_model(model, version)
    idle_s = await group.sync_weights(pool, version + 1)
    stats = (await pool.stats())[0]
    policy, engine = pool.policy(), pool.handles[0]
    rng = np.random.default_rng(version)
    await engine.__ray_call__.remote(log_steps)
    lengths = [20] + [150] * running  # when the short one is done, the others are under way
    prompts = rng.integers(0, 256, (len(lengths), CONTEXT), dtype=np.int32)
    requests = [GenerateRequest(f"stall-{i}", (), prompts[i], lengths[i], 1.0, seed=i) for i in range(len(lengths))]
    first, *others = [asyncio.create_task(policy(request)) for request in requests]
    await first
    busy_s = await group.sync_weights(pool, version + 2)
    completions = await asyncio.gather(*others)
    if not any(len(set(completion.policy_versions.tolist())) == 2 for completion in completions):
        raise RuntimeError("no request was under way during the sync: nothing was measured")
    steps = np.diff(await engine.__ray_call__.remote(lambda engine: engine.step_times))
    pause_s = (await pool.stats())[0]["pause_s"]
    return {
        "memcpy_s": memcpy_s,
        "engine_load_s": load_s,
        "sync_s": idle_s,
        "ratio": idle_s / (memcpy_s + load_s),
        "sync_pause_s": stats["pause_s"],
        "busy_sync_s": busy_s,
        "busy_pause_s": pause_s,
        "step_s": float(np.median(steps)),
        "longest_gap_s": float(steps.max()),
    }


async def measure(params: str, dtype: str, repeats: int, running: int) -> dict[str, Any]:
    """Medians over `repeats` rounds, after one that is not counted."""
    with tempfile.TemporaryDirectory() as folder:
        model = str(write_random_model(Path(folder) / "model", params, dtype))
        store = 4000 if params == "0.5B" else 1000  # the newest weights, the next, and room
        with ray_session(ClusterConfig(object_store_mib=store, min_free_memory_mib=1000)):
            engine = EngineConfig(max_model_len=1024, kv_cache_gib=0.25, start_timeout_s=900, request_timeout_s=900)
            pool = await EnginePool.start(model, engine, dtype)
            rank = make_actor(HeldModel, None, 0, num_cpus=0)
            group = LearnerGroup([rank], LearnerConfig())
            num_bytes = await rank.hold.remote(model, dtype)
            rounds = [await one_round(pool, group, model, 3 * n, num_bytes, running) for n in range(repeats + 1)][1:]
            await pool.close()
    medians = {key: round(statistics.median(row[key] for row in rounds), 4) for key in rounds[0]}
    return {"params": params, "dtype": dtype, "mib": num_bytes >> 20, "repeats": repeats, "running": running, **medians}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--params", default="0.5B")
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--running", type=int, default=4, help="requests under way during the measured stall")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of lines")
    arguments = parser.parse_args()
    found = asyncio.run(measure(arguments.params, arguments.dtype, arguments.repeats, arguments.running))
    if arguments.json:
        print(json.dumps(found))
    else:
        for key, value in found.items():
            print(f"{key:16} {value}")


if __name__ == "__main__":
    main()
