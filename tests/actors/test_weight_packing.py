"""A bucket is a safetensors file; damaged or foreign weights are refused with the name of what is wrong."""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

import numpy as np
import pytest
import torch
from safetensors.numpy import load, save_file
from safetensors.torch import load as load_torch

from actors.bucket_inbox import BucketInbox
from actors.weight_packing import (
    WeightBucket,
    WeightSyncError,
    bucket_shapes,
    check_bucket,
    check_shapes,
    pack_weights,
    shapes_of_files,
)

WEIGHTS = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b.bias": np.array([1.5], dtype=np.float32)}
SHAPES = {"a": (2, 3), "b.bias": (1,)}


def test_the_buffer_reads_back_as_safetensors() -> None:
    buffer = pack_weights(WEIGHTS, version=7)
    assert buffer.version == 7
    found = load(buffer.data.tobytes())
    assert found.keys() == WEIGHTS.keys()
    assert found["a"].tolist() == [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]
    check_bucket(buffer)
    assert bucket_shapes(buffer) == SHAPES


def test_memory_that_is_large_enough_is_written_to() -> None:
    fresh = pack_weights(WEIGHTS, version=7)
    memory = np.full(1000, 255, dtype=np.uint8)
    again = pack_weights(WEIGHTS, version=7, buffer=memory)
    assert again.data.base is memory
    assert again.data.tobytes() == fresh.data.tobytes()
    assert again.checksum == fresh.checksum
    small = pack_weights(WEIGHTS, version=7, buffer=np.zeros(8, dtype=np.uint8))
    assert small.data.tobytes() == fresh.data.tobytes()


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
    good = pack_weights(WEIGHTS, version=3, index=1, count=2)
    data = good.data.copy()
    data[position] ^= 1
    message = r"weights of version 3 are corrupt: bucket 1 of 2 has checksum [0-9a-f]{16}, packed as [0-9a-f]{16}"
    with pytest.raises(WeightSyncError, match=message):
        check_bucket(WeightBucket(3, 1, 2, good.checksum, data))


@pytest.fixture
def inbox() -> Iterator[BucketInbox]:
    inbox = BucketInbox()
    yield inbox
    inbox.clear()
    inbox.settle()


def _buckets(version: int) -> list[WeightBucket]:
    return [pack_weights({name: WEIGHTS[name]}, version, index, 2) for index, name in enumerate(sorted(WEIGHTS))]


def test_buckets_become_files_in_their_order_whatever_order_they_came_in(inbox: BucketInbox) -> None:
    buckets = _buckets(4)
    for bucket in reversed(buckets):
        inbox.add(bucket)
    files = inbox.complete(4, SHAPES)
    assert [path.read_bytes() for path in files] == [bucket.data.tobytes() for bucket in buckets]
    inbox.clear()
    inbox.settle()
    assert not any(path.exists() for path in files)


def test_a_set_that_is_not_whole_is_refused(inbox: BucketInbox) -> None:
    first, second = _buckets(4)
    inbox.add(second)
    with pytest.raises(WeightSyncError, match="weights of version 4: bucket 0 of 2 did not arrive"):
        inbox.complete(4, SHAPES)
    with pytest.raises(WeightSyncError, match="asked for version 5, what arrived is version 4"):
        inbox.complete(5, SHAPES)
    inbox.add(first)
    with pytest.raises(WeightSyncError, match="weights of version 4 lack parameter c of the engine's model"):
        inbox.complete(4, SHAPES | {"c": (1,)})


def test_a_newer_version_starts_over(inbox: BucketInbox) -> None:
    inbox.add(_buckets(4)[0])
    for bucket in _buckets(5):
        inbox.add(bucket)
    assert len(inbox.complete(5, SHAPES)) == 2
    inbox.settle()
    assert len(list(Path("/dev/shm").glob(f"swe-weights-{os.getpid()}-*"))) == 2


def test_two_buckets_that_begin_a_transfer_together_are_both_kept() -> None:
    """Each in its thread finds another version there: only one may start over."""
    first_clears, second_clears, first_is_in = Event(), Event(), Event()

    class Gated(BucketInbox):
        def clear(self) -> None:
            if not first_clears.is_set():
                first_clears.set()
                second_clears.wait(0.5)  # with the lock nobody comes: the second cannot be here as well
            elif not second_clears.is_set():
                second_clears.set()
                first_is_in.wait(10)
            super().clear()

    inbox = Gated()
    first, second = _buckets(5)
    with ThreadPoolExecutor(2) as threads:
        adding = threads.submit(inbox.add, first)
        assert first_clears.wait(10)
        other = threads.submit(inbox.add, second)
        adding.result(10)
        first_is_in.set()
        other.result(10)
    assert len(inbox.complete(5, SHAPES)) == 2
    BucketInbox.clear(inbox)
    inbox.settle()


def test_a_bucket_that_was_given_up_while_it_was_written_leaves_no_file() -> None:
    class ClearedMeanwhile(BucketInbox):
        def _write(self, bucket: WeightBucket) -> Path:
            path = super()._write(bucket)
            self.clear()
            return path

    inbox = ClearedMeanwhile()
    inbox.add(_buckets(5)[0])
    inbox.settle()
    assert list(Path("/dev/shm").glob(f"swe-weights-{os.getpid()}-*")) == []


def test_a_bucket_that_comes_twice_leaves_one_file(inbox: BucketInbox) -> None:
    for bucket in (*_buckets(6), _buckets(6)[0]):
        inbox.add(bucket)
    assert len(inbox.complete(6, SHAPES)) == 2
    assert len(list(Path("/dev/shm").glob(f"swe-weights-{os.getpid()}-*"))) == 2


def test_files_of_processes_that_are_gone_are_removed(inbox: BucketInbox) -> None:
    gone = Path("/dev/shm/swe-weights-99999999-1-0.safetensors")
    gone.write_bytes(b"")
    inbox.add(_buckets(4)[0])
    inbox.sweep()
    assert not gone.exists()
    assert len(list(Path("/dev/shm").glob(f"swe-weights-{os.getpid()}-*"))) == 1


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
