"""Seconds to render a long conversation as it grows, against Hugging Face's template and tokenizer once per turn.

    python -m benchmarks.render_speed --json

An agent's conversation of 100 turns and 80,000 tokens (texts of the standard library; every turn 1,000 characters said and
2,000 answered, scaled to the tokens asked for), a byte-level BPE of 50,000 words with Qwen's split, trained here. Ours: what an
episode does, the ids that each turn adds. Theirs: `apply_chat_template` of all messages before every completion. The same ids
are checked at the end.
"""

import argparse
import json
import os
import tempfile
import time
from pathlib import Path

import numpy as np
from transformers import PreTrainedTokenizerFast

from benchmarks.pretokenise_speed import library_text, train_tokenizer
from envpool.chat.chat_format import ChatFormat, load_chat_format
from envpool.chat.chat_layout import PLAIN
from envpool.chat.chat_template import jinja_template, template_message
from envpool.policy import IntArray, Message


def conversation(chat: ChatFormat, text: str, turns: int, tokens: int) -> list[Message]:
    """A conversation of that many turns and about that many tokens."""
    per_token = 20_000 / len(chat.completion_ids(text[:20_000]))
    room = int(tokens * per_token / turns)
    said, at = room // 3, 0
    messages = [Message("system", text[:4000]), Message("user", text[4000:6000])]
    for _ in range(turns):
        messages.append(Message("assistant", f"Next. {text[at : at + said]}"))
        messages.append(Message("tool", text[at + said : at + room]))
        at += room
    if at > len(text):
        raise SystemExit("the standard library holds too little text: lower --tokens")
    return messages


def render_growing(chat: ChatFormat, messages: list[Message]) -> tuple[IntArray, float]:
    """Every turn's new ids; the whole prompt at the end and the seconds taken."""
    started = time.perf_counter()
    pieces = [chat.prompt_ids(messages[:2])]
    for said, answer in zip(messages[2::2], messages[3::2], strict=True):
        pieces += [chat.said_ids(said), chat.continuation_ids([answer])]
    ids = np.concatenate(pieces)
    return ids, time.perf_counter() - started


def render_whole(tokenizer: PreTrainedTokenizerFast, messages: list[Message]) -> tuple[list[int], float]:
    """The whole conversation before every completion, as a chat endpoint's clients do."""
    started = time.perf_counter()
    ids: list[int] = []
    for end in range(2, len(messages) + 1, 2):
        plain = [template_message(message) for message in messages[:end]]
        ids = list(tokenizer.apply_chat_template(plain, add_generation_prompt=True, return_dict=False))
    return ids, time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=100)
    parser.add_argument("--tokens", type=int, default=80_000)
    parser.add_argument("--repeat", type=int, default=5, help="ours is timed that often; the median counts")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    text = library_text(12_000_000)
    with tempfile.TemporaryDirectory() as folder:
        train_tokenizer(Path(folder), text[:4_000_000])
        chat = load_chat_format(Path(folder))
        theirs = PreTrainedTokenizerFast(
            tokenizer_file=str(Path(folder) / "tokenizer.json"), chat_template=jinja_template(PLAIN), model_max_length=10**9
        )
        messages = conversation(chat, text[4_000_000:], options.turns, options.tokens)
        # A fresh renderer each time: nothing is remembered from the run before.
        runs = [render_growing(load_chat_format(Path(folder)), messages) for _ in range(options.repeat)]
        their_ids, their_s = render_whole(theirs, messages)
    ids = runs[0][0]
    if ids.tolist() != their_ids:
        raise SystemExit("the two renderings differ")
    ours_s = sorted(seconds for _, seconds in runs)[len(runs) // 2]
    row = {
        "turns": options.turns,
        "tokens": len(ids),
        "ours_s": round(ours_s, 3),
        "apply_chat_template_per_turn_s": round(their_s, 2),
        "ratio": round(their_s / ours_s, 1),
        "load_1min": round(os.getloadavg()[0], 1),
    }
    print(json.dumps(row) if options.json else "\n".join(f"{name}: {value}" for name, value in row.items()))


if __name__ == "__main__":
    main()
