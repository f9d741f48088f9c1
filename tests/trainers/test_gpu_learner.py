"""The GPU benchmark's arithmetic against numbers done by hand, and its whole path on a tiny shape."""

import argparse
from dataclasses import replace

import pytest

from benchmarks.gpu_learner import SHAPES, figures, measure, mfu, of_device, peers_mfu, roofline
from trainers.memory_plan import ModelShape

# 2 layers, hidden 8, 2 heads of 4, 1 key head, intermediate 16, 10 words:
# a layer has 8 x 4 x (2 x 2 + 2 x 1) + 3 x 8 x 16 = 192 + 384 = 576 weights; with the output layer 2 x 576 + 80 = 1,232.
SHAPE = ModelShape(8, 2, 2, 1, 4, 16, 10, tied=True)


def test_utilisation_by_hand() -> None:
    flops = 6 * 1232 + 6 * 2 * 2 * 4 * 100  # 7,392 for the weights, 9,600 for attention over 100 tokens
    assert mfu(SHAPE, 100, tokens_per_s=1e9, peak_tflops=100.0) == pytest.approx(flops * 1e9 / 100e12)
    everything = 6 * 1232 + 12 * 2 * 8 * 100
    assert peers_mfu(SHAPE, 100, tokens_per_s=1e9, peak_tflops=100.0) == pytest.approx(everything * 1e9 / 100e12)


def test_a_published_speed_gives_its_published_utilisation() -> None:
    """10,150 tokens/s of Qwen3-0.6B at 65,536 tokens on an H100 was published as 26.8 %."""
    assert peers_mfu(SHAPES["0.6B"], 65_536, 10_150, 989.0) == pytest.approx(0.268, abs=0.003)


def test_roofline_by_hand() -> None:
    bound = roofline(SHAPE, 100, peak_tflops=1e-6, bandwidth_tb_s=1e-6)  # a million operations and bytes a second
    assert bound.matrix_s == pytest.approx(4 * 2 * 100 * 1232 / 1e6)
    assert bound.attention_s == pytest.approx(4 * 2 * 100 * 100 * 2 * 8 / 1e6)
    assert bound.traffic_s == pytest.approx((2 * 100 * 2 * (320 + 144) * 4 + 28 * 1232) / 1e6)
    assert 0 < bound.largest_mfu < 0.75  # a checkpointed layer is computed twice: 3 of 4 parts are useful
    assert replace(bound, traffic_s=0.0).largest_mfu == 0.75


def test_devices() -> None:
    assert of_device({"H100": 1.0, "H200": 2.0}, "NVIDIA H200") == 2.0
    with pytest.raises(SystemExit, match="give --peak-tflops"):
        of_device({"H100": 1.0}, "TPU")


@pytest.mark.timeout(200)
def test_the_whole_path_on_the_cpu() -> None:
    arguments = argparse.Namespace(
        optimizer_offload=False, activation_offload=True, compile=False, threads=1, memory_gib=141.0, warmup=1, steps=1,
        peak_tflops=1.0, bandwidth_tb_s=0.1,
    )  # fmt: skip
    row = measure("tiny", 96, arguments)
    assert row["skipped"] == 0
    assert row["loss"] == pytest.approx(6.24, abs=0.3)  # log 512: random weights guess
    speed = 96 / row["step_s"]
    assert row["tokens_per_s"] == speed
    expected = figures(SHAPES["tiny"], 96, speed, 1.0, 0.1)
    assert {name: row[name] for name in expected} == expected
