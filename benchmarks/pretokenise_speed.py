"""Tokens per second of pre-tokenising, and that time grows linearly with the turns of a conversation.

    python -m benchmarks.pretokenise_speed --processes 2

Text is Python's own standard library; the tokenizer is a byte-level BPE of 50,000 words trained on it here, with Qwen's chat
markers. A turn is 1,000 characters of an assistant and 2,200 of an observation.
"""

import argparse
import sysconfig
import tempfile
import time
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from envpool.policy import Message
from trainers.pretokenise import pretokenise

MARKERS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
SPLIT = Regex(r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
TURNS = (25, 50, 100, 200)


def library_text(num_bytes: int) -> str:
    """Sources of the standard library, end to end."""
    parts: list[str] = []
    size = 0
    for path in sorted(Path(sysconfig.get_paths()["stdlib"]).rglob("*.py")):
        if "site-packages" not in path.parts and size < num_bytes:
            parts.append(path.read_text(encoding="utf-8", errors="ignore"))
            size += len(parts[-1])
    return "\n".join(parts)


def train_tokenizer(folder: Path, text: str) -> None:
    """Write tokenizer.json: pieces are split as Qwen splits them."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(SPLIT, "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    ])  # fmt: skip
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=50_000, special_tokens=MARKERS, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(text.splitlines(keepends=True), trainer)
    tokenizer.save(str(folder / "tokenizer.json"))


def conversations(text: str, count: int, turns: int) -> list[tuple[str, list[Message]]]:
    """`count` conversations of `turns` turns, each of other text as long as there is some."""
    found = []
    place = 0
    for index in range(count):
        messages = [Message("system", text[:6000]), Message("user", text[6000:9000])]
        for _ in range(turns):
            if place + 3200 > len(text):
                place = 0
            messages += [
                Message("assistant", text[place : place + 1000]),
                Message("tool", text[place + 1000 : place + 3200]),
            ]
            place += 3200
        found.append((f"task {index}", messages))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--megabytes", type=int, default=12)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        text = library_text(arguments.megabytes << 20)
        train_tokenizer(folder, text[: 6 << 20])
        print(f"{len(text):,} characters; turns, conversations, tokens, seconds, tokens/s, microseconds per turn")
        for turns in TURNS:
            talks = conversations(text, 3200 // turns, turns)
            began = time.perf_counter()
            tokens = sum(len(sample.token_ids) for sample in pretokenise(folder, talks, arguments.processes))
            took = time.perf_counter() - began
            speed = tokens / took
            print(f"{turns:5d} {len(talks):5d} {tokens:11,d} {took:7.2f} {speed:11,.0f} {took / 3200 * 1e6:9.0f}", flush=True)
        print(
            f"12,567 trajectories of 40,000 tokens at the last speed: {12_567 * 40_000 / speed / 60:.1f} minutes (extrapolated)"
        )


if __name__ == "__main__":
    main()
