"""What tells the weights in one model folder from those in another."""

import functools
from pathlib import Path

import xxhash

PATTERNS = ("config.json", "*.safetensors", "*.bin")
CHUNK_BYTES = 1 << 24


def weights_fingerprint(folder: Path) -> str:
    """128-bit xxh3 over names and bytes of a model's config.json and weight files, in hex: equal for a copy of the folder, and
    for a folder without such files always the same. A file is read once in a process as long as its size and time stay as
    they are. Raises OSError."""
    files = sorted({path for pattern in PATTERNS for path in folder.glob(pattern)})
    return _digest(tuple((path, path.stat().st_size, path.stat().st_mtime_ns) for path in files))


@functools.lru_cache(maxsize=16)
def _digest(files: tuple[tuple[Path, int, int], ...]) -> str:
    digest = xxhash.xxh3_128()
    for path, size, _ in files:
        digest.update(f"{path.name}\0{size}\0".encode())
        with path.open("rb") as file:
            while chunk := file.read(CHUNK_BYTES):
                digest.update(chunk)
    return digest.hexdigest()
