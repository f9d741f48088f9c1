"""The benchmark runs, and a turn does not copy what was shown before it."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np

from benchmarks.episode_overhead import Bench, answer, concurrent, plot, prepared, summary
from envpool.agent.turn_journal import read_journal
from envpool.sandboxes.scripted_sandbox import ScriptedSandbox
from tests.envpool.agent.agent_doubles import CHAT
from tests.envpool.agent.test_context import BIG, Worker, play


async def test_every_turn_is_measured_and_journalled(tmp_path: Path) -> None:
    bench = Bench(CHAT, prepared(CHAT, "true", 8), tmp_path)
    found = await bench.overheads_ms(6, ScriptedSandbox({}, answer), rounds=2)
    assert len(found) == 12
    assert all(value > 0 for value in found)
    assert len(list(read_journal(tmp_path / "one_6_1.jsonl"))) == 6
    together = await concurrent(bench, 4, 5)
    assert together["turns"] == len(list(read_journal(tmp_path / "many.jsonl"))) == 20
    growth = [{"episode_turns": 6, **summary(found)}, {"episode_turns": 12, **summary(found)}]
    assert "polyline" in plot({"growth": growth}) or "path" in plot({"growth": growth})


def test_percentiles() -> None:
    values = summary([float(value) for value in range(1, 201)])
    assert values == {"p50_ms": 100.5, "p99_ms": 199.0, "mean_ms": 100.5, "turns": 200}


async def test_prompts_share_one_growing_array() -> None:
    """Copying the whole prompt each turn would make an episode quadratic: here it is copied only when its array is full."""
    worker = Worker(99)
    await play(worker, replace(BIG, max_turns=100))
    arrays = [request.prompt_ids for request in worker.requests]
    moved = sum(not np.shares_memory(before, after) for before, after in pairwise(arrays))
    assert len(arrays) == 100
    assert moved <= 6  # doubled each time
    assert all(not array.flags.writeable for array in arrays)
