"""Tokens per second of pre-tokenising, against the tokenizers library alone, and that time grows linearly with the turns.

    python -m benchmarks.pretokenise_speed --processes 2

The tokenizer is a byte-level BPE of 50,000 words with Qwen's split and chat markers, trained here on the standard library. The
conversations are made of the sources of all installed packages, in a shuffled order of files, and no stretch of text is used
twice; with --recorded FOLDER the recorded conversations (JSONL) are encoded too, each once and with nothing remembered. A
turn is 1,000 characters of an assistant and 2,200 of an observation, as in SWE-Master's samples.
"""

import argparse
import json
import os
import random
import resource
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from envpool.chat.piece_encoder import PATTERNS, fast_encoder
from envpool.policy import Message
from trainers.pretokenise import pretokenise

MARKERS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
TURNS = (25, 50, 100, 200)
TURN_CHARACTERS = 3200


def library_text(num_bytes: int) -> str:
    """Sources of the standard library, end to end."""
    parts: list[str] = []
    size = 0
    for path in sorted(Path(sysconfig.get_paths()["stdlib"]).rglob("*.py")):
        if "site-packages" not in path.parts and size < num_bytes:
            parts.append(path.read_text(encoding="utf-8", errors="ignore"))
            size += len(parts[-1])
    return "\n".join(parts)


def package_text(num_characters: int) -> str:
    """Sources and documents of the installed packages, in a shuffled order of files (seeded); at most 200 KB of each file."""
    root = Path(sysconfig.get_paths()["purelib"])
    paths = sorted(path for end in ("py", "pyi", "md", "txt", "json", "h") for path in root.rglob(f"*.{end}"))
    random.Random(0).shuffle(paths)
    parts: list[str] = []
    size = 0
    for path in paths:
        parts.append(path.read_text(encoding="utf-8", errors="ignore")[:200_000])
        size += len(parts[-1])
        if size >= num_characters:
            return "\n".join(parts)
    raise SystemExit(f"the installed packages hold {size:,} characters of text, {num_characters:,} are needed: lower --turns")


def train_tokenizer(folder: Path, text: str) -> None:
    """Write tokenizer.json: pieces are split as Qwen splits them."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(next(iter(PATTERNS))), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ])  # fmt: skip
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=50_000, special_tokens=MARKERS, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(text.splitlines(keepends=True), trainer)
    tokenizer.save(str(folder / "tokenizer.json"))


def conversations(text: str, count: int, turns: int) -> list[tuple[str, list[Message]]]:
    """`count` conversations of `turns` turns; all begin with one system message, as an agent's do, and share nothing else."""
    found = []
    for index in range(count):
        messages = [Message("system", text[:6000])]
        for turn in range(turns):
            place = 6000 + (index * turns + turn) * TURN_CHARACTERS
            middle, end = place + 1000, place + TURN_CHARACTERS
            messages += [Message("user" if turn == 0 else "tool", text[middle:end]), Message("assistant", text[place:middle])]
        found.append((f"task {index}", messages))
    return found


def strings_in(value: Any) -> Iterator[str]:
    """Every string in a JSON value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from strings_in(part)


def recorded_texts(folder: Path) -> list[str]:
    """Every distinct string of the JSONL files in a folder."""
    rows = [json.loads(line) for path in sorted(folder.rglob("*.jsonl")) for line in path.read_text().splitlines()]
    return list(dict.fromkeys(text for row in rows for text in strings_in(row)))


def against_the_library(tokenizer_file: Path, texts: list[str]) -> dict[str, Any]:
    """One process, CPU seconds, nothing remembered at the start; raises SystemExit when an id differs."""
    tokenizer = Tokenizer.from_file(str(tokenizer_file))
    tokenizer.encode_special_tokens = True
    encode = fast_encoder(tokenizer)
    assert encode is not None
    began = time.process_time()
    ours = [encode(text) for text in texts]
    middle = time.process_time()
    library = [tokenizer.encode(text, add_special_tokens=False).ids for text in texts]
    end = time.process_time()
    if ours != library:
        raise SystemExit("the fast encoder differs from the library")
    count = sum(map(len, ours))
    return {
        "texts": len(texts), "tokens": count, "tokens_per_cpu_s": round(count / (middle - began)),
        "library_tokens_per_cpu_s": round(count / (end - middle)), "equal": True,
    }  # fmt: skip


def cpu_seconds() -> float:
    """Of this process and of those that it has started and that have ended."""
    usages = (resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def table_row(folder: Path, text: str, turns: int, total_turns: int, processes: int) -> dict[str, Any]:
    """Wall seconds of pre-tokenising, processes' start included."""
    talks = conversations(text, total_turns // turns, turns)
    began, began_cpu = time.perf_counter(), cpu_seconds()
    tokens = sum(len(sample.token_ids) for sample in pretokenise(folder, talks, processes))
    took, cpu = time.perf_counter() - began, cpu_seconds() - began_cpu
    return {
        "turns": turns, "conversations": len(talks), "tokens": tokens, "seconds": round(took, 2),
        "tokens_per_s": round(tokens / took), "tokens_per_cpu_s": round(tokens / cpu),
        "microseconds_per_turn": round(took / total_turns * 1e6),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--turns", type=int, default=16_000, help="turns in each row of the table (800 tokens each)")
    parser.add_argument("--recorded", type=Path, default=None, help="folder of recorded conversations")
    parser.add_argument("--json", action="store_true", help="the result as one JSON object at the end")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        train_tokenizer(folder, library_text(6 << 20))
        text = package_text(6000 + arguments.turns * TURN_CHARACTERS)
        result: dict[str, Any] = {"processes": arguments.processes, "load_1_min": os.getloadavg()[0]}
        parts = [text[place : place + 2200] for place in range(0, 8 << 20, 2200)]
        result["against_library"] = {"packages": against_the_library(folder / "tokenizer.json", parts)}
        if arguments.recorded:
            texts = recorded_texts(arguments.recorded)
            result["against_library"]["recorded"] = against_the_library(folder / "tokenizer.json", texts)
        result["table"] = [table_row(folder, text, turns, arguments.turns, arguments.processes) for turns in TURNS]
    for what, row in result["against_library"].items():
        print(f"{what}: {row}")
    for row in result["table"]:
        print("  ".join(f"{key} {value:,}" for key, value in row.items()))
    slowest = min(row["tokens_per_s"] for row in result["table"])
    print(f"12,567 trajectories of 40,000 tokens at the slowest row's speed: {12_567 * 40_000 / slowest / 60:.1f} minutes")
    if arguments.json:
        print(json.dumps(result))


if __name__ == "__main__":
    main()
