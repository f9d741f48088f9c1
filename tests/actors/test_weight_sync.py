"""The buffer is a safetensors file; damaged or foreign weights are refused with the name of what is wrong."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load, save_file
from safetensors.torch import load as load_torch

from actors.weight_sync import (
    WeightBuffer,
    WeightSyncError,
    check_buffer,
    check_shapes,
    pack_weights,
    shapes_of_files,
    write_buffer,
)

WEIGHTS = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b.bias": np.array([1.5], dtype=np.float32)}
SHAPES = {"a": (2, 3), "b.bias": (1,)}


def test_the_buffer_reads_back_as_safetensors() -> None:
    buffer = pack_weights(WEIGHTS, version=7)
    assert buffer.version == 7
    found = load(buffer.data.tobytes())
    assert found.keys() == WEIGHTS.keys()
    assert found["a"].tolist() == [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]
    check_buffer(buffer, SHAPES)


def test_bfloat16_bits_and_mixed_widths_keep_their_values() -> None:
    half = torch.tensor([1.0, -2.5, 3.25], dtype=torch.bfloat16)
    buffer = pack_weights({"half": half.view(torch.uint16).numpy(), "wide": np.array([0.1], np.float32)}, version=1)
    found = load_torch(buffer.data.tobytes())
    assert found["half"].dtype == torch.bfloat16
    assert found["half"].tolist() == [1.0, -2.5, 3.25]
    assert found["wide"].tolist() == [np.float32(0.1)]


def test_strided_arrays_are_laid_out_by_value() -> None:
    transposed = WEIGHTS["a"].T
    assert load(pack_weights({"t": transposed}, 1).data.tobytes())["t"].tolist() == [[0.0, 3.0], [1.0, 4.0], [2.0, 5.0]]


@pytest.mark.parametrize("position", [0, 40, -1])
def test_one_flipped_bit_is_refused(position: int) -> None:
    good = pack_weights(WEIGHTS, version=3)
    data = good.data.copy()
    data[position] ^= 1
    with pytest.raises(WeightSyncError, match=r"weights of version 3 are corrupt: CRC-32 [0-9a-f]{8}, packed as [0-9a-f]{8}"):
        check_buffer(WeightBuffer(3, good.checksum, data), SHAPES)


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ({"a": (2, 3)}, "new weights lack parameter b.bias of the engine's model"),
        (SHAPES | {"c": (1,)}, "new weights have parameter c, which the engine's model does not have"),
        (SHAPES | {"a": (3, 2)}, "new weights: parameter a has shape (3, 2), the engine's model has (2, 3)"),
    ],
)
def test_weights_of_another_model_are_refused(shapes: dict[str, tuple[int, ...]], message: str) -> None:
    with pytest.raises(WeightSyncError) as error:
        check_shapes(shapes, SHAPES, "new weights")
    assert str(error.value) == message


def test_a_tied_head_may_be_sent_or_left_out() -> None:
    check_shapes(SHAPES | {"lm_head.weight": (2, 3)}, SHAPES, "new weights")
    check_shapes(SHAPES, SHAPES | {"lm_head.weight": (2, 3)}, "new weights")


def test_float64_is_refused_by_name() -> None:
    with pytest.raises(WeightSyncError, match="parameter a is float64"):
        pack_weights({"a": np.zeros(1)}, version=0)


def test_shapes_come_from_the_headers_of_files(tmp_path: Path) -> None:
    save_file({"a": WEIGHTS["a"]}, tmp_path / "1.safetensors")
    save_file({"b.bias": WEIGHTS["b.bias"]}, tmp_path / "2.safetensors", metadata={"format": "pt"})
    assert shapes_of_files(sorted(tmp_path.glob("*.safetensors"))) == SHAPES


def test_the_written_file_is_the_buffer() -> None:
    buffer = pack_weights(WEIGHTS, version=1)
    path = write_buffer(buffer)
    try:
        assert path.read_bytes() == buffer.data.tobytes()
    finally:
        path.unlink()
