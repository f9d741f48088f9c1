"""Random Qwen2 models of a given size as Hugging Face folders: what an engine does per token does not depend on the values."""

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from tests.actors.random_qwen import byte_tokenizer


@dataclass(frozen=True)
class Shape:
    """A Qwen2's sizes."""

    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    vocabulary: int


SHAPES = {
    "tiny": Shape(layers=4, hidden=256, intermediate=512, heads=8, kv_heads=2, vocabulary=4096),
    "0.1B": Shape(layers=8, hidden=768, intermediate=2688, heads=12, kv_heads=2, vocabulary=32768),
    "0.5B": Shape(layers=24, hidden=896, intermediate=4864, heads=14, kv_heads=2, vocabulary=151936),
}
"""By name; 0.5B are the sizes of Qwen2.5-Coder-0.5B."""


def write_random_model(folder: Path, name: str, dtype: str) -> Path:
    """Write config.json, model.safetensors and a byte-level tokenizer.json of the shape `name`. Returns `folder`."""
    shape = SHAPES[name]
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=shape.vocabulary,
        hidden_size=shape.hidden,
        intermediate_size=shape.intermediate,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        max_position_embeddings=32768,
        tie_word_embeddings=True,
        eos_token_id=258,
    )
    default = torch.get_default_dtype()
    torch.set_default_dtype(getattr(torch, dtype))
    try:
        Qwen2ForCausalLM(config).save_pretrained(folder)
    finally:
        torch.set_default_dtype(default)
    byte_tokenizer().save(str(folder / "tokenizer.json"))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|im_end|>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder
