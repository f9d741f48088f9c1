"""A model loaded for ZeRO-3 one parameter at a time, so that no rank ever holds more than its share and one parameter.

Rank 0 reads a tensor from the safetensors files, every rank gets a copy, keeps its part of it and lets go of the rest.
"""

import json
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoModelForCausalLM, PretrainedConfig, PreTrainedModel

SINGLE_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"


def load_partitioned(
    path: Path, config: PretrainedConfig, dtype: torch.dtype, attention: str, settings: dict[str, Any]
) -> PreTrainedModel | None:
    """The model in `path` with its parameters shared out over all ranks (a collective); None when its files are not
    safetensors with the model's own parameter names: such a model has to be loaded whole.

    `settings` is DeepSpeed's configuration (stage 3). Buffers (rotary frequencies) are computed as from_pretrained does.
    """
    from accelerate import init_empty_weights

    with init_empty_weights(include_buffers=False):
        lm: PreTrainedModel = AutoModelForCausalLM.from_config(config, dtype=dtype, attn_implementation=attention)
    lm.tie_weights()
    files = tensor_files(path)
    names = {id(parameter): name for name, parameter in lm.named_parameters()}
    if not set(names.values()) <= files.keys():
        return None
    partition = _Partition(settings)
    empty_ones = list(lm.parameters())  # kept, so that no id is used twice
    loaded: dict[int, nn.Parameter] = {}
    reads = torch.distributed.get_rank() == 0
    for module in list(lm.modules()):
        for attribute, empty in list(module.named_parameters(recurse=False)):
            if id(empty) not in loaded:
                values = torch.empty(empty.shape, dtype=dtype)
                if reads:
                    name = names[id(empty)]
                    values.copy_(read_tensor(files[name], name))
                loaded[id(empty)] = nn.Parameter(values, requires_grad=empty.requires_grad)
                del values
                partition.add(loaded[id(empty)])
            setattr(module, attribute, loaded[id(empty)])  # tied ones share one parameter
    del empty_ones
    return lm


class _Partition:
    """Shares parameters out as they come; DeepSpeed's context is made with the first."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self._settings = settings
        self._first: Any = None

    def add(self, parameter: nn.Parameter) -> None:
        import deepspeed

        if self._first is not None:
            self._first.convert_to_zero_parameters(param_list=[parameter])
            return
        holder = nn.Module()
        holder.register_parameter("first", parameter)
        deepspeed.zero.Init(module=holder, config_dict_or_path=self._settings)
        self._first = parameter


def tensor_files(path: Path) -> dict[str, Path]:
    """Tensor name to the safetensors file that holds it; empty when the folder has none."""
    from safetensors import safe_open

    if (path / INDEX_FILE).is_file():
        return {name: path / file for name, file in json.loads((path / INDEX_FILE).read_text())["weight_map"].items()}
    if not (path / SINGLE_FILE).is_file():
        return {}
    with safe_open(path / SINGLE_FILE, "pt") as file:
        return dict.fromkeys(file.keys(), path / SINGLE_FILE)


def read_tensor(file: Path, name: str) -> torch.Tensor:
    """One tensor. The file is opened anew each time, so that its pages do not stay in memory."""
    from safetensors import safe_open

    with safe_open(file, "pt") as tensors:
        values: torch.Tensor = tensors.get_tensor(name)
    return values
