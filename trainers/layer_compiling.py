"""The pointwise work of a decoder layer (norms, SwiGLU) compiled into fused kernels: it is bound by memory traffic."""

from torch import nn
from transformers import PreTrainedModel


def compile_layers(lm: PreTrainedModel, backend: str = "inductor") -> int:
    """Compile each decoder layer's MLP and norms for rows of any length; returns how many parts.

    Attention stays as it is: its calls depend on the samples' lengths, and a compiler would start again for each row.
    """
    parts = [
        part
        for layer in lm.get_decoder().layers
        for name, part in layer.named_children()
        if isinstance(part, nn.Module) and (name == "mlp" or name.endswith("layernorm"))
    ]
    for part in parts:
        part.compile(backend=backend, dynamic=True)
    return len(parts)
