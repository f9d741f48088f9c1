"""Model FLOPs against torch's own count, and the share of a GPU's peak."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import Qwen2Config, Qwen2ForCausalLM

from trainers.learner_facts import learner_facts
from trainers.training_speed import PEAK_TFLOPS, ModelSize, peak_tflops, speed_metrics, training_flops


@pytest.mark.parametrize("tied", [False, True])
def test_flops_are_those_that_torch_counts(tied: bool) -> None:
    config = Qwen2Config(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=4,
        tie_word_embeddings=tied,
        attn_implementation="eager",
    )
    lm = Qwen2ForCausalLM(config)
    facts = learner_facts(lm, torch.device("cpu"))
    length = 48
    with FlopCounterMode(display=False) as counter:
        lm(torch.zeros(1, length, dtype=torch.long)).logits.sum().backward()
    ours = training_flops(facts.size, [length])
    masked_half = 6.0 * facts.size.layers * facts.size.width * length**2  # eager attention computes what the mask hides
    assert ours + masked_half == pytest.approx(counter.get_total_flops(), rel=0.03)
    assert facts.device == "cpu"
    assert facts.peak_memory_gib > 0.05


def test_frozen_parameters_cost_two_thirds() -> None:
    assert training_flops(ModelSize(0, 900, 0, 0), [10]) == 36_000
    assert training_flops(ModelSize(0, 0, 2, 8), [3, 4]) == 6 * 2 * 8 * (9 + 16)


@pytest.mark.parametrize(
    ("name", "peak"),
    [
        ("NVIDIA H100 80GB HBM3", 989.0),
        ("NVIDIA H100 PCIe", 756.0),
        ("NVIDIA A100-SXM4-80GB", 312.0),
        ("NVIDIA L40S", 362.0),
        ("NVIDIA L4", 121.0),
        ("cpu", None),
        ("Some Future GPU", None),
    ],
)
def test_peaks_by_name(name: str, peak: float | None) -> None:
    assert peak_tflops(name) == peak


def test_no_name_of_the_table_hides_a_later_one() -> None:
    assert [name for name, peak in PEAK_TFLOPS.items() if peak_tflops(f"NVIDIA {name}") != peak] == []


def test_utilisation_is_over_all_devices_and_left_out_where_the_peak_is_unknown() -> None:
    metrics = speed_metrics(624e12, 4000.0, 2.0, 2, "NVIDIA A100-SXM4-80GB")
    assert metrics == {"perf/train_tokens_per_s": 2000.0, "perf/train_tflops": 312.0, "perf/mfu": 0.5}
    assert "perf/mfu" not in speed_metrics(1.0, 1.0, 1.0, 1, "cpu")
