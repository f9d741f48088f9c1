"""What each token of a turn looks like as text, and its numbers: mask, log-probs of engine and learner, weight version."""

from pathlib import Path
from typing import Any

import numpy as np
import orjson

REPLACEMENT = "\ufffd"
LONGEST_CHARACTER = 4
"""UTF-8 bytes of one character, so tokens that one character may be spread over."""


class TokenTexts:
    """Pieces of text by a tokenizer.json; without one, `#id`."""

    def __init__(self, tokenizer_file: Path | None) -> None:
        self._tokenizer: Any = None
        if tokenizer_file is not None:
            from tokenizers import Tokenizer

            self._tokenizer = Tokenizer.from_file(str(tokenizer_file))

    def pieces(self, ids: list[int]) -> list[str]:
        """One string per token; a character spread over several tokens stands at the last of them, the others are ""."""
        if self._tokenizer is None:
            return [f"#{number} " for number in ids]
        found, pending = [], []
        for number in ids:
            pending.append(number)
            text = self._tokenizer.decode(pending, skip_special_tokens=False)
            whole = not text.endswith(REPLACEMENT) or len(pending) >= LONGEST_CHARACTER
            found.append(text if whole else "")
            if whole:
                pending = []
        if pending:
            found[-1] = self._tokenizer.decode(pending, skip_special_tokens=False)
        return found


def find_tokenizer(root: Path, model_path: str) -> Path | None:
    """The tokenizer.json of a model that the run exported, else that of the model it began with."""
    from trainers.model_paths import ModelPathError, resolve_model_path

    exported = sorted((root / "hf").glob("*/tokenizer.json"))
    if exported:
        return exported[0]
    try:
        file = resolve_model_path(model_path) / "tokenizer.json"
    except ModelPathError:
        return None
    return file if file.is_file() else None


def token_turns(turns: list[dict[str, Any]], texts: TokenTexts, policy_logprobs: Any, train: bool) -> list[dict[str, Any]]:
    """Per turn: {"context": pieces, "pieces", "mask": 0 or 1, "rollout": log-probs, "policy": the same or None, "versions"}.

    `policy_logprobs` (float32 of every sampled token, in order) or None when the learner's were not stored. Context tokens never
    train, sampled ones when `train`. Log-probs that are unknown (NaN) become None.
    """
    found, first = [], 0
    for turn in turns:
        count = len(turn["completion_ids"])
        policy = None if policy_logprobs is None else _numbers(policy_logprobs[first : first + count])
        first += count
        found.append(
            {
                "context": texts.pieces(turn["context_ids"].tolist()),
                "pieces": texts.pieces(turn["completion_ids"].tolist()),
                "mask": int(train),
                "rollout": _numbers(turn["rollout_logprobs"]),
                "policy": policy,
                "versions": turn["policy_versions"].tolist(),
            }
        )
    return found


def _numbers(values: Any) -> list[float | None]:
    rounded = np.asarray(values, np.float64).round(8)  # the gap between engine and learner is often below 1e-5
    return [None if number != number else number for number in rounded.tolist()]


def read_fields(text: str) -> Any:
    """A JSON column, or None when it holds something else."""
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
