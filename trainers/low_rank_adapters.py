"""LoRA (arXiv 2106.09685) by peft: small trained matrices beside frozen weights, merged when weights leave the learner."""

from collections.abc import Iterator

import torch
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


def merged_parameters(lm: PreTrainedModel, gather: bool) -> Iterator[tuple[str, torch.Tensor]]:
    """(name in the model without adapters, copy on the CPU) of every parameter, tied ones once; gathers ZeRO-3's if asked.

    An adapted weight is W + B A * alpha / rank, added in float32.
    """
    import deepspeed

    layers = dict(lm.named_modules())
    for name, parameter in lm.named_parameters():
        if ".lora_" in name:
            continue
        layer = layers[name.partition(_BASE)[0]] if _BASE in name and name.endswith(".weight") else None
        parts = [parameter]
        if layer is not None:
            parts += [layer.lora_A[ADAPTER].weight, layer.lora_B[ADAPTER].weight]
        with deepspeed.zero.GatheredParameters(parts, enabled=gather):
            values = parameter.detach().to("cpu", copy=True)
            if layer is not None:
                down, up = (part.detach().to("cpu", torch.float32) for part in parts[1:])
                values = (values.float() + (up @ down) * layer.scaling[ADAPTER]).to(values.dtype)
        yield name.replace(_BASE, "."), values
