"""What a turn costs outside the model and the command: `python -m benchmarks.episode_overhead [--json] [--svg FILE] [--profile]`.

An instant policy answers with completions made beforehand (a thought of some 120 tokens and a call), a sandbox with outputs of
about 1.5 kB; the time inside both is measured and taken off. What is left is the episode's own: parsing, observation, encoding,
decoding, record, journal. `scripted` answers commands from memory, `process` runs `true` in a shell without isolation. The
tokenizer is a byte-level BPE of 8,192 words trained on this repository.

1. overhead per turn (ms, p50 and p99) in an episode of 100 turns;  2. the same in episodes of 10 to 200 turns, to see growth;
3. turns per second of 64 episodes at once in one process, journal on.
"""

import argparse
import asyncio
import cProfile
import itertools
import json
import os
import pstats
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from cluster.svg_charts import STYLE, Series, line_chart
from configs.context_config import ContextConfig
from configs.rollout_config import EpisodeConfig
from configs.sandbox_config import SandboxConfig
from envpool.action_format import ToolCall, render_action
from envpool.agent.episode import run_episode
from envpool.agent.turn_journal import TurnJournal
from envpool.chat.chat_format import END_OF_TEXT, IM_END, IM_START, ChatFormat
from envpool.policy import Completion, GenerateRequest
from envpool.problem import Problem
from envpool.sandbox import ExecResult, Sandbox
from envpool.sandbox_parts.image_cache import FolderImages
from envpool.sandboxes.process_sandbox import ProcessBackend
from envpool.sandboxes.scripted_sandbox import ScriptedSandbox, said
from envpool.trajectory import Turn

ROOT = Path(__file__).parents[1]
LENGTHS = (10, 25, 50, 100, 200)
EPISODES = 64
THOUGHT = "The test fails because the index is taken before the list is sorted, so I look at the function and its callers first. "
OUTPUT = "".join(f"envpool/module_{number}.py:{number}: value = compute(total, {number})\n" for number in range(30))
PROBLEM = Problem("bench-1", "bench", "c0", "", "/testbed", "The total is wrong when the list is empty. " * 20)


@dataclass
class Watched:
    """Seconds inside the model and the sandbox."""

    inside_s: float = 0.0


@dataclass
class InstantPolicy:
    """Says `num_turns` commands and submits; log-probs are given, so that nothing is special about the record."""

    completions: Sequence[Completion]
    watched: Watched
    asked: int = 0

    async def __call__(self, request: GenerateRequest) -> Completion:
        began = time.perf_counter()
        completion = self.completions[self.asked % len(self.completions)]
        self.asked += 1
        await asyncio.sleep(0)
        self.watched.inside_s += time.perf_counter() - began
        return completion


class WatchedSandbox:
    """Another sandbox whose commands are timed."""

    def __init__(self, sandbox: Sandbox, watched: Watched) -> None:
        self._sandbox, self._watched = sandbox, watched

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sandbox, name)

    async def run(self, command: str, timeout_s: float, max_output_bytes: int = 65_536) -> ExecResult:
        began = time.perf_counter()
        try:
            return await self._sandbox.run(command, timeout_s, max_output_bytes)
        finally:
            self._watched.inside_s += time.perf_counter() - began


@dataclass
class Bench:
    """What all measurements share."""

    chat: ChatFormat
    completions: list[Completion]
    folder: Path
    context: ContextConfig = field(default_factory=ContextConfig)
    numbers: Any = field(default_factory=itertools.count)

    async def episode(
        self, num_turns: int, sandbox: Sandbox, watched: Watched, on_turn: Callable[[int, Turn], None] | None = None
    ) -> None:
        """One episode of this many turns, the submit included."""
        completions = [*self.completions[: num_turns - 1], self.completions[-1]]
        config = EpisodeConfig(
            prompt="full", max_turns=num_turns, max_tokens=10_000_000, max_tokens_per_turn=4096, episode_timeout_s=3600.0,
            max_observation_bytes=16_384, compact_observations=False, context=self.context,
        )  # fmt: skip
        await run_episode(
            PROBLEM, WatchedSandbox(sandbox, watched), InstantPolicy(completions, watched), self.chat, config,  # type: ignore[arg-type]
            sample_index=next(self.numbers), policy_name="instant", temperature=1.0, seed=0, on_turn=on_turn,
        )  # fmt: skip

    async def overheads_ms(self, num_turns: int, sandbox: Sandbox, rounds: int) -> list[float]:
        """Every turn's own time: from one finished turn to the next, less model and commands."""
        found: list[float] = []
        for round_ in range(rounds):
            watched, last = Watched(), [0.0, 0.0]
            with TurnJournal(self.folder / f"one_{num_turns}_{round_}.jsonl") as journal:

                def on_turn(index: int, turn: Turn, watched: Watched = watched, last: list[float] = last) -> None:
                    journal.append(PROBLEM.instance_id, 0, index, turn)
                    now, inside = time.perf_counter(), watched.inside_s
                    found.append(1e3 * (now - last[0] - (inside - last[1])))
                    last[:] = [now, inside]

                last[0] = time.perf_counter()
                await self.episode(num_turns, sandbox, watched, on_turn)
        return found


def bench_tokenizer() -> Tokenizer:
    """Byte-level BPE of 8,192 words over this repository's sources."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=8192, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False,
        special_tokens=[IM_START, IM_END, END_OF_TEXT],
    )  # fmt: skip
    texts = [path.read_text() for folder in ("envpool", "docs") for path in sorted((ROOT / folder).rglob("*.[pm][yd]"))]
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def prepared(chat: ChatFormat, command: str, count: int) -> list[Completion]:
    """`count` completions that run the command, and one that submits."""
    calls = [ToolCall("execute_bash", {"command": command})] * count
    texts = [THOUGHT * 4 + render_action(call) for call in calls] + [render_action(ToolCall("submit", {}))]
    made = []
    for text in texts:
        ids = chat.completion_ids(text)
        made.append(Completion(ids, np.full(len(ids), -0.25, np.float32), np.full(len(ids), 3, np.int32), "stop"))
    return made


def answer(command: str) -> ExecResult:
    return said(OUTPUT if command == "true" else "diff --git a/x b/x\n")


def summary(values: Sequence[float]) -> dict[str, float]:
    ordered = sorted(values)
    return {
        "p50_ms": round(statistics.median(ordered), 3),
        "p99_ms": round(ordered[min(int(len(ordered) * 0.99), len(ordered) - 1)], 3),
        "mean_ms": round(statistics.fmean(ordered), 3),
        "turns": len(ordered),
    }


async def measure(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    chat = ChatFormat(bench_tokenizer())
    bench = Bench(chat, prepared(chat, "true", max(LENGTHS)), folder, ContextConfig(policy=arguments.context))
    found: dict[str, Any] = {"load_before": os.getloadavg()[0], "context": arguments.context}
    await bench.overheads_ms(10, ScriptedSandbox({}, answer), 1)  # warm up
    found["scripted"] = summary(await bench.overheads_ms(100, ScriptedSandbox({}, answer), arguments.rounds))
    if not arguments.skip_process:
        images = FolderImages(folder / "images")
        image = images.add("bench", {"a.py": "a = 1\n"})
        backend = ProcessBackend(SandboxConfig(isolation="none"), images, owner="episode-overhead")
        try:
            sandbox = await backend.start(image, "/testbed")
            found["process"] = summary(await bench.overheads_ms(100, sandbox, arguments.rounds))
        finally:
            await backend.close()
    growth = {length: await bench.overheads_ms(length, ScriptedSandbox({}, answer), arguments.rounds) for length in LENGTHS}
    found["growth"] = [{"episode_turns": length, **summary(values)} for length, values in growth.items()]
    found["concurrent"] = await concurrent(bench, EPISODES, arguments.turns)
    found["load_after"] = os.getloadavg()[0]
    return found


async def concurrent(bench: Bench, episodes: int, turns: int) -> dict[str, float]:
    """Turns per second of that many episodes at once, all written to one journal."""
    with TurnJournal(bench.folder / "many.jsonl") as journal:

        async def play(index: int) -> None:
            def on_turn(turn_index: int, turn: Turn) -> None:
                journal.append(PROBLEM.instance_id, index, turn_index, turn)

            await bench.episode(turns, ScriptedSandbox({}, answer), Watched(), on_turn)

        began, cpu = time.perf_counter(), time.process_time()
        await asyncio.gather(*(play(index) for index in range(episodes)))
        seconds, cpu_s = time.perf_counter() - began, time.process_time() - cpu
    total = episodes * turns
    return {
        "episodes": episodes,
        "turns": total,
        "turns_per_s": round(total / seconds, 1),
        "cpu_ms_per_turn": round(1e3 * cpu_s / total, 3),
    }


def plot(found: dict[str, Any]) -> str:
    """Milliseconds of overhead per turn over the length of the episode."""
    points = found["growth"]
    series = {
        name: Series([(float(row["episode_turns"]), float(row[key])) for row in points])
        for name, key in (("median", "p50_ms"), ("mean", "mean_ms"))
    }
    chart = line_chart("A turn outside model and command", series, "turns of the episode", "ms")
    return chart.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1).replace(">", f"><style>{STYLE}</style>", 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="episodes per length")
    parser.add_argument("--turns", type=int, default=50, help="turns of each concurrent episode")
    parser.add_argument("--context", default="full", help="rollout.episode.context.policy: full or fold")
    parser.add_argument("--skip-process", action="store_true", help="leave the process sandbox out")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--svg", type=Path, help="write the plot here")
    parser.add_argument("--profile", action="store_true", help="profile it and print where the time goes")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="episode-overhead-") as name:
        profile = cProfile.Profile()
        if arguments.profile:
            profile.enable()
        found = asyncio.run(measure(arguments, Path(name)))
        profile.disable()
    if arguments.profile:
        pstats.Stats(profile, stream=sys.stderr).sort_stats("tottime").print_stats(40)
    if arguments.svg:
        arguments.svg.write_text(plot(found), encoding="utf-8")
    print(json.dumps(found, indent=None if arguments.json else 2))


if __name__ == "__main__":
    main()
