"""LoRA (arXiv 2106.09685) by peft: small trained matrices beside frozen weights, merged when weights leave the learner."""

from dataclasses import dataclass

import torch
from torch import nn
from transformers import PreTrainedModel

from configs.optimizer_config import LearnerConfig

ADAPTER = "default"
_BASE = ".base_layer."


def add_adapters(lm: PreTrainedModel, config: LearnerConfig) -> None:
    """Put adapters on the layers `config.lora_targets` and freeze everything else. Raises ValueError when none matches."""
    from peft import LoraConfig, inject_adapter_in_model

    settings = LoraConfig(
        r=config.lora_rank, lora_alpha=config.lora_alpha, target_modules=list(config.lora_targets), lora_dropout=0.0, bias="none"
    )
    try:
        inject_adapter_in_model(settings, lm, adapter_name=ADAPTER)
    except ValueError as error:
        raise ValueError(f"learner.lora_targets={list(config.lora_targets)}: {error}") from error
    for name, parameter in lm.named_parameters():
        parameter.requires_grad_("lora_" in name)
    lm.enable_input_require_grads()  # else checkpointed layers see no input that needs a gradient


@dataclass(frozen=True)
class LeavingWeight:
    """A weight as it leaves the learner. `parts` must be whole (gathered) when `values` is called: the weight itself, and for
    an adapted one also its A and B."""

    name: str
    parts: tuple[nn.Parameter, ...]
    scaling: float

    def values(self) -> torch.Tensor:
        """The weight itself, or W + B A * alpha / rank of an adapted one, added in float32."""
        weight = self.parts[0].detach()
        if len(self.parts) == 1:
            return weight
        down, up = (part.detach().float() for part in self.parts[1:])
        return (weight.float() + (up @ down) * self.scaling).to(weight.dtype)


def leaving_weights(lm: PreTrainedModel) -> list[LeavingWeight]:
    """Every parameter under its name in the model without adapters, tied ones once."""
    layers = dict(lm.named_modules())
    found = []
    for name, parameter in lm.named_parameters():
        if ".lora_" in name:
            continue
        layer = layers[name.partition(_BASE)[0]] if _BASE in name and name.endswith(".weight") else None
        adapter = () if layer is None else (layer.lora_A[ADAPTER].weight, layer.lora_B[ADAPTER].weight)
        scaling = 0.0 if layer is None else float(layer.scaling[ADAPTER])
        found.append(LeavingWeight(name.replace(_BASE, "."), (parameter, *adapter), scaling))
    return found
