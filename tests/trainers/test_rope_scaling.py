"""YaRN: the config that is written, and logits beyond the original context against the paper's formula."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.actors.random_qwen import write_random_qwen
from trainers.pretrained_lm import load_pretrained_lm
from trainers.rope_scaling import stretched_config, stretched_model


@pytest.mark.parametrize(("factor", "context"), [(2.5, 81_920), (4.0, 131_072)])
def test_32k_becomes_80k_and_128k(factor: float, context: int) -> None:
    old = {"max_position_embeddings": 32_768, "rope_theta": 1e6, "rope_scaling": None, "hidden_size": 5120}
    config = stretched_config(old, factor)
    rope = {"rope_type": "yarn", "rope_theta": 1e6, "factor": factor, "original_max_position_embeddings": 32_768}
    assert config == {"max_position_embeddings": context, "hidden_size": 5120, "rope_parameters": rope}
    assert stretched_config(config, factor) == config
    assert stretched_config(config, 1.0)["max_position_embeddings"] == 32_768
    assert stretched_config(config, 1.0)["rope_parameters"] == {"rope_type": "default", "rope_theta": 1e6}


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"max_position_embeddings": 8, "rope_parameters": {"rope_type": "llama3", "rope_theta": 1.0}}, "already scales.*llama3"),
        ({"rope_theta": 1.0}, "names no rope_theta or no max_position_embeddings"),
    ],
)
def test_what_cannot_be_stretched(config: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        stretched_config(config, 2.0)
    with pytest.raises(ValueError, match="at least 1"):
        stretched_config(config, 0.5)


def yarn_frequencies(dim: int, theta: float, factor: float, context: int) -> tuple[np.ndarray, float]:
    """Section 3.2 to 3.4 of the paper: wave lengths over the context divide by the factor, short ones stay, a ramp between.

    The ramp's ends are rounded outwards to whole dimensions, as in the authors' code.
    """
    plain = theta ** -(np.arange(0, dim, 2) / dim)

    def dimension(rotations: float) -> float:
        return dim * math.log(context / (rotations * 2 * math.pi)) / (2 * math.log(theta))

    low, high = max(math.floor(dimension(32)), 0), min(math.ceil(dimension(1)), dim - 1)
    ramp = np.clip((np.arange(dim // 2) - low) / max(high - low, 0.001), 0, 1)
    return plain / factor * ramp + plain * (1 - ramp), 0.1 * math.log(factor) + 1


def test_logits_beyond_the_original_context_follow_the_formula(tmp_path: Path) -> None:
    """Positions 2,048 to 5,119 of a model made for 2,048: the stretched folder against rotary tables set by hand."""
    folder = write_random_qwen(tmp_path / "model", seed=0)
    stretched = load_pretrained_lm(stretched_model(folder, tmp_path / "long", 2.5), "float32").lm.eval()
    plain = load_pretrained_lm(folder, "float32").lm.eval()
    assert stretched.config.max_position_embeddings == 5120
    ids = torch.randint(0, 320, (1, 60), generator=torch.Generator().manual_seed(0))
    positions = torch.linspace(0, 5119, 60).long()[None]
    with torch.no_grad():
        found = stretched(ids, position_ids=positions, use_cache=False).logits
        unscaled = plain(ids, position_ids=positions, use_cache=False).logits
        rotary = plain.model.rotary_emb
        frequencies, scale = yarn_frequencies(32, plain.config.rope_parameters["rope_theta"], 2.5, 2048)
        rotary.inv_freq = torch.tensor(frequencies, dtype=torch.float32)
        rotary.attention_scaling = scale
        expected = plain(ids, position_ids=positions, use_cache=False).logits
    assert torch.allclose(found, expected, atol=2e-4)
    assert not torch.allclose(found, unscaled, atol=1e-2)


def test_the_stretched_folder_links_everything_else(tmp_path: Path) -> None:
    folder = write_random_qwen(tmp_path / "model", seed=0)
    for _ in range(2):
        target = stretched_model(folder, tmp_path / "long", 4.0)
    assert (target / "model.safetensors").resolve() == (folder / "model.safetensors").resolve()
    assert (target / "tokenizer.json").read_bytes() == (folder / "tokenizer.json").read_bytes()
    assert json.loads((folder / "config.json").read_text())["max_position_embeddings"] == 2048
    assert json.loads((target / "config.json").read_text())["max_position_embeddings"] == 8192
