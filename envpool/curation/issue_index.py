"""Finding issue texts that say nearly the same: MinHash candidates (datasketch), confirmed by the exact similarity.

Texts are compared as sets of three-word shingles, lower-cased and without punctuation, so that reformatting, quoting and small
edits do not hide a copy. All hashes are fixed functions of the text: the same texts give the same answer on any machine.
"""

import re
import zlib
from collections.abc import Iterable
from functools import cache
from typing import Any

import numpy as np

DEFAULT_SIMILARITY = 0.6
"""Jaccard similarity from which two issue texts count as the same."""
SHINGLE_WORDS = 3
NUM_HASHES = 128
SEED = 1
SCHEME = "affine32"
_BATCH = 32_768  # shingles hashed at once: NUM_HASHES numbers each
_RECALL = 0.9999
_WORD = re.compile(r"\w+")


class IssueIndex:
    """Texts under their keys, searchable for near-duplicates of `similarity` (Jaccard, 0 < s <= 1) or more."""

    def __init__(self, similarity: float = DEFAULT_SIMILARITY) -> None:
        if not 0.0 < similarity <= 1.0:
            raise ValueError(f"similarity={similarity:g} must be above 0 and at most 1")
        from datasketch import MinHashLSH  # takes most of a second: it brings parts of scipy

        self._similarity = similarity
        self._lsh = MinHashLSH(num_perm=NUM_HASHES, params=bands(similarity))
        self._shingles: dict[str, Any] = {}

    def __len__(self) -> int:
        return len(self._shingles)

    def add(self, key: str, text: str) -> None:
        """Keep a text; a key that is there already is replaced by nothing and refused with ValueError."""
        if key in self._shingles:
            raise ValueError(f"{key} is in the index already")
        shingles = _shingles(text)
        self._lsh.insert(key, _minhash(shingles))
        self._shingles[key] = shingles

    def nearest(self, text: str) -> tuple[str, float] | None:
        """The most similar text that is kept, and its exact similarity; of equals the smallest key; None below the threshold.

        >>> index = IssueIndex()
        >>> index.add("a", "The parser drops the last line of a file")
        >>> index.nearest("the parser drops the LAST line, of a file!")
        ('a', 1.0)
        """
        shingles = _shingles(text)
        found = [(-_jaccard(shingles, self._shingles[key]), key) for key in self._lsh.query(_minhash(shingles))]
        best = min(found, default=None)
        return None if best is None or -best[0] < self._similarity else (best[1], -best[0])


def bands(similarity: float) -> tuple[int, int]:
    """Bands and hashes per band of the candidate search: the longest bands that still find a pair of `similarity` with
    probability 0.9999 (1 - (1 - s^rows)^bands). Too many candidates cost time only: each is compared exactly.

    >>> bands(0.6), bands(1.0)
    ((42, 3), (1, 128))
    """
    for rows in range(NUM_HASHES, 1, -1):
        count = NUM_HASHES // rows
        if 1.0 - (1.0 - similarity**rows) ** count >= _RECALL:
            return count, rows
    return NUM_HASHES, 1


def similarity(one: str, other: str) -> float:
    """The exact similarity of two texts, as the index counts it.

    >>> similarity("a b c d", "a b c e")
    0.3333333333333333
    """
    return _jaccard(_shingles(one), _shingles(other))


def _shingles(text: str) -> Any:
    """The sorted 32-bit hashes of a text's shingles; a text of fewer words is one shingle."""
    words = _WORD.findall(text.lower())
    starts: Iterable[int] = range(max(len(words) - SHINGLE_WORDS + 1, 1))
    return np.unique(
        np.fromiter((zlib.crc32(" ".join(words[start : start + SHINGLE_WORDS]).encode()) for start in starts), dtype=np.uint64)
    )


def _jaccard(one: Any, other: Any) -> float:
    both = len(np.intersect1d(one, other, assume_unique=True))
    return both / (len(one) + len(other) - both)


def _minhash(shingles: Any) -> Any:
    from datasketch import MinHash

    sketch = MinHash(num_perm=NUM_HASHES, seed=SEED, hashfunc=int, permutations=_permutations(), scheme=SCHEME)
    for start in range(0, len(shingles), _BATCH):
        sketch.update_batch(shingles[start : start + _BATCH].tolist())
    return sketch


@cache
def _permutations() -> Any:
    from datasketch import MinHash

    return MinHash(num_perm=NUM_HASHES, seed=SEED, scheme=SCHEME).permutations
