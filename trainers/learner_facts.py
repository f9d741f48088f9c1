"""What a learner's process knows about its speed: the model's size, its device, its memory."""

import resource
from typing import Any

import torch

from trainers.training_speed import LearnerFacts, ModelSize


def learner_facts(lm: Any, device: torch.device) -> LearnerFacts:
    """Of a Hugging Face causal LM on this rank's device."""
    is_gpu = device.type == "cuda"
    # ru_maxrss is in KiB on Linux
    memory_gib = torch.cuda.max_memory_allocated(device) / 2**30 if is_gpu else _most_resident_kib() / 2**20
    return LearnerFacts(model_size(lm), torch.cuda.get_device_name(device) if is_gpu else device.type, memory_gib)


def model_size(lm: Any) -> ModelSize:
    """Also when the parameters are partitioned (ZeRO-3)."""
    config = lm.config
    looked_up = None if config.tie_word_embeddings else lm.get_input_embeddings().weight
    counts = {True: 0, False: 0}
    for parameter in lm.parameters():
        if parameter is not looked_up:
            counts[parameter.requires_grad] += int(getattr(parameter, "ds_numel", parameter.numel()))
    heads = config.num_attention_heads
    head_width = getattr(config, "head_dim", None) or config.hidden_size // heads
    return ModelSize(counts[True], counts[False], config.num_hidden_layers, heads * head_width)


def _most_resident_kib() -> float:
    return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
