r"""Text to token ids with a byte-level BPE tokenizer, several times faster than the tokenizers library and equal to it.

Agents' text repeats its words: pieces of the pre-tokenizer's regular expression are looked up in a dict, and the library's own
model encodes only those not seen before. That is exact where three things hold, and the library does everything else:

- The pre-tokenizer is one of `PATTERNS`: the split of Qwen 2 to 3 or of Llama 3, then the byte alphabet.
- The text is ASCII: there Python's `re` and the library's regular expressions agree on letters, digits and white space, and
  NFC changes nothing. Lines that are not ASCII go to the library; every piece ends at a line feed that a printable ASCII
  character follows, so such lines can be encoded by themselves.
- Added tokens are ASCII strings searched in the text as it stands. They are cut out first, longest first, as the library does.
"""

import json
import re
from collections.abc import Callable, Iterator
from itertools import chain
from typing import Any

from tokenizers import Tokenizer, models, pre_tokenizers

Encode = Callable[[str], list[int]]
_REST = r"| ?[^\sA-Za-z0-9]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_REST_UNICODE = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_ENDINGS = r"'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD]"
_WORD = r"|[^\r\nA-Za-z0-9]?[A-Za-z]+"
_HEAD_UNICODE = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+"
PATTERNS = {
    _HEAD_UNICODE + r"|\p{N}" + _REST_UNICODE: _ENDINGS + _WORD + r"|[0-9]" + _REST,
    _HEAD_UNICODE + r"|\p{N}{1,3}" + _REST_UNICODE: _ENDINGS + _WORD + r"|[0-9]{1,3}" + _REST,
}
"""A tokenizer's regular expression (Qwen, Llama 3) and what it means for ASCII text, in `re`'s words."""
MAX_PIECES = 200_000
"""Pieces remembered; about 50 MB."""
MAX_PIECE_CHARACTERS = 48
_LINE_START = re.compile(r"(?<=\n)(?=[!-~])")


def fast_encoder(tokenizer: Tokenizer) -> Encode | None:
    """An encoder with the ids of `tokenizer.encode(text, add_special_tokens=False)`; None for a tokenizer it is not exact for.

    Special tokens in the text are found or taken for plain text as `tokenizer.encode_special_tokens` says now.
    """
    settings = json.loads(tokenizer.to_str())
    pattern = _ascii_pattern(settings)
    added = settings["added_tokens"]
    if pattern is None or not all(_is_plain(token) for token in added) or settings["truncation"] or settings["padding"]:
        return None
    found = [token for token in added if not (token["special"] and tokenizer.encode_special_tokens)]
    return PieceEncoder(tokenizer, pattern, [token["content"] for token in added], {t["content"]: t["id"] for t in found})


def _ascii_pattern(settings: dict[str, Any]) -> str | None:
    normalizer, splitter, model = settings["normalizer"], settings["pre_tokenizer"], settings["model"]
    if model["type"] != "BPE" or model.get("dropout") or normalizer not in (None, {"type": "NFC"}):
        return None
    steps = (splitter or {}).get("pretokenizers", [])
    if len(steps) != 2 or steps[0]["type"] != "Split" or steps[1]["type"] != "ByteLevel":
        return None
    as_pieces = steps[0]["behavior"] == "Isolated" and not steps[0]["invert"]
    as_bytes = not steps[1]["add_prefix_space"] and not steps[1]["use_regex"]
    return PATTERNS.get(steps[0]["pattern"].get("Regex", "")) if as_pieces and as_bytes else None


def _is_plain(token: dict[str, Any]) -> bool:
    flags = ("single_word", "lstrip", "rstrip", "normalized")
    return not any(token[flag] for flag in flags) and bool(token["content"]) and token["content"].isascii()


class PieceEncoder:
    """See the module. Safe to share between threads."""

    def __init__(self, tokenizer: Tokenizer, pattern: str, added: list[str], ids_of_added: dict[str, int]) -> None:
        self._tokenizer, self._ids_of_added = tokenizer, ids_of_added
        self._find = re.compile(pattern, re.ASCII).findall
        longest_first = sorted(added, key=len, reverse=True)
        self._added = re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")
        self._pieces = _Pieces(tokenizer.model)

    def __call__(self, text: str) -> list[int]:
        """Ids of the text."""
        ids: list[int] = []
        start = 0
        for match in self._added.finditer(text):
            token = self._ids_of_added.get(match.group())
            if token is None:  # a special token taken for plain text
                continue
            ids += self._plain(text[start : match.start()])
            ids.append(token)
            start = match.end()
        return ids + self._plain(text[start:])

    def _plain(self, text: str) -> list[int]:
        """Ids of text without added tokens."""
        if text.isascii():
            return self._ascii(text)
        ids: list[int] = []
        for run, is_ascii in _runs_of_lines(text):
            ids += self._ascii(run) if is_ascii else self._tokenizer.encode(run, add_special_tokens=False).ids
        return ids

    def _ascii(self, text: str) -> list[int]:
        return list(chain.from_iterable(map(self._pieces.__getitem__, self._find(text))))


class _Pieces(dict[str, tuple[int, ...]]):
    """Piece to ids, filled on demand by the library's model."""

    def __init__(self, model: models.Model) -> None:
        super().__init__()
        self._model = model
        self._bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)

    def __missing__(self, piece: str) -> tuple[int, ...]:
        ((spelled, _),) = self._bytes.pre_tokenize_str(piece)
        ids = tuple(token.id for token in self._model.tokenize(spelled))
        if len(piece) <= MAX_PIECE_CHARACTERS and len(self) < MAX_PIECES:
            self[piece] = ids
        return ids


def _runs_of_lines(text: str) -> Iterator[tuple[str, bool]]:
    r"""The text in runs of lines, ASCII or not, in order; a line begins where a printable ASCII character follows a line feed.

    >>> list(_runs_of_lines("a\nb é\n c\nd\ne"))
    [('a\n', True), ('b é\n c\n', False), ('d\ne', True)]
    """
    waiting: list[str] = []
    kind = True
    for line in _LINE_START.split(text):
        if line.isascii() != kind and waiting:
            yield "".join(waiting), kind
            waiting = []
        kind = line.isascii()
        waiting.append(line)
    if waiting:
        yield "".join(waiting), kind
