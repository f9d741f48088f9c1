"""Weights on their way from learner to engine: buckets of flat bytes in safetensors layout, each with checksum and version.

One uint8 array is what Ray's object store moves without copying, and a file of the same bytes is what vLLM loads.
The layout (8 bytes of header length, a JSON header, then the tensors back to back) is the one published by safetensors.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import xxhash

ByteArray = npt.NDArray[np.uint8]
Shapes = dict[str, tuple[int, ...]]

_DTYPE_NAMES = {"float32": "F32", "float16": "F16", "uint16": "BF16"}


class WeightSyncError(RuntimeError):
    """Weights did not arrive whole, or do not fit the model; the engine keeps the weights it has."""


class WeightsGoneError(RuntimeError):
    """The learner does not hold the asked version of its weights any more."""


@dataclass(frozen=True)
class WeightBucket:
    """Some of a model's parameters. `data` (bytes,) is a complete safetensors file, `checksum` its 64-bit xxh3.

    A set of `count` buckets of one version, index 0 to count-1, holds the whole model.
    """

    version: int
    index: int
    count: int
    checksum: int
    data: ByteArray


def pack_weights(
    weights: Mapping[str, npt.NDArray[Any]], version: int, index: int = 0, count: int = 1, buffer: ByteArray | None = None
) -> WeightBucket:
    """Lay named arrays (float32, float16, or uint16 holding the bits of bfloat16) out in one bucket, each copied once.

    A `buffer` that is large enough is written to, else a new array: fresh memory costs more than the copy.

    >>> pack_weights({"w": np.zeros((2, 3), np.float32)}, version=4).data.nbytes
    88
    """
    header: dict[str, Any] = {}
    offset = 0
    # Wide items first: then every tensor starts aligned to its own item size.
    names = sorted(weights, key=lambda name: -weights[name].itemsize)
    for name in names:
        array = weights[name]
        if array.dtype.name not in _DTYPE_NAMES:
            raise WeightSyncError(f"parameter {name} is {array.dtype.name}; an engine takes float32, float16 or bfloat16 bits")
        header[name] = {
            "dtype": _DTYPE_NAMES[array.dtype.name],
            "shape": list(array.shape),
            "data_offsets": [offset, offset + array.nbytes],
        }
        offset += array.nbytes
    head = json.dumps(header).encode()
    head += b" " * (-len(head) % 8)
    start = 8 + len(head)
    fits = buffer is not None and len(buffer) >= start + offset
    data: ByteArray = buffer[: start + offset] if buffer is not None and fits else np.empty(start + offset, dtype=np.uint8)
    data[:8] = np.frombuffer(len(head).to_bytes(8, "little"), dtype=np.uint8)
    data[8:start] = np.frombuffer(head, dtype=np.uint8)
    for name in names:
        first, last = header[name]["data_offsets"]
        target = data[start + first : start + last].view(weights[name].dtype).reshape(weights[name].shape)
        np.copyto(target, weights[name])
    return WeightBucket(version, index, count, xxhash.xxh3_64_intdigest(data.data), data)


def check_bucket(bucket: WeightBucket) -> None:
    """Raise WeightSyncError unless the bytes are those that were packed."""
    found = xxhash.xxh3_64_intdigest(bucket.data.data)
    if found != bucket.checksum:
        raise WeightSyncError(
            f"weights of version {bucket.version} are corrupt: bucket {bucket.index} of {bucket.count} "
            f"has checksum {found:016x}, packed as {bucket.checksum:016x}"
        )


def bucket_shapes(bucket: WeightBucket) -> Shapes:
    """The parameters of a bucket that `check_bucket` has passed."""
    size = int.from_bytes(bucket.data[:8].tobytes(), "little")
    return _shapes_of_header(json.loads(bucket.data[8 : 8 + size].tobytes()))


def check_shapes(shapes: Shapes, expected: Shapes, what: str) -> None:
    """Raise WeightSyncError naming the first parameter that is missing, unknown or of another shape.

    A tied `lm_head.weight` may be sent or left out.
    """
    tied = {"lm_head.weight"}
    for name in sorted(expected.keys() - shapes.keys() - tied):
        raise WeightSyncError(f"{what} lack parameter {name} of the engine's model")
    for name in sorted(shapes.keys() - expected.keys() - tied):
        raise WeightSyncError(f"{what} have parameter {name}, which the engine's model does not have")
    for name in sorted(shapes.keys() & expected.keys()):
        if shapes[name] != expected[name]:
            raise WeightSyncError(f"{what}: parameter {name} has shape {shapes[name]}, the engine's model has {expected[name]}")


def weight_files(model_dir: Path) -> list[Path]:
    """The safetensors files of a model folder, sorted. Raises WeightSyncError when there is none."""
    files = sorted(model_dir.glob("*.safetensors"))
    if not files:
        raise WeightSyncError(f"no *.safetensors file in {model_dir}")
    return files


def shapes_of_files(files: list[Path]) -> Shapes:
    """Parameter shapes of safetensors files, from their headers alone."""
    shapes: Shapes = {}
    for path in files:
        with path.open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
            shapes |= _shapes_of_header(json.loads(file.read(size)))
    return shapes


def _shapes_of_header(header: dict[str, Any]) -> Shapes:
    return {name: tuple(entry["shape"]) for name, entry in header.items() if name != "__metadata__"}
