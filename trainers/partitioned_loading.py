"""A model loaded for ZeRO-3 one parameter at a time, so that no rank ever holds more than its share and one parameter.

Rank 0 reads a tensor from the safetensors files, every rank gets a copy, keeps its part of it and lets go of the rest.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoModelForCausalLM, PretrainedConfig, PreTrainedModel

STORED_DTYPES = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}


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
    stored = stored_tensors(path)
    names = {id(parameter): name for name, parameter in lm.named_parameters()}
    if not set(names.values()) <= stored.keys():
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
                    values.copy_(stored[names[id(empty)]].read())
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


@dataclass(frozen=True)
class StoredTensor:
    """Where a tensor lies in a safetensors file."""

    file: Path
    dtype: torch.dtype
    shape: tuple[int, ...]
    start: int
    num_bytes: int

    def read(self) -> torch.Tensor:
        """A copy; nothing else of the file is touched (safetensors' own reader maps or reads the whole of it)."""
        if not self.num_bytes:
            return torch.empty(self.shape, dtype=self.dtype)
        data = bytearray(self.num_bytes)
        with open(self.file, "rb") as file:
            file.seek(self.start)
            if file.readinto(data) != self.num_bytes:
                raise ValueError(f"{self.file} ends too early: it was not copied whole")
        return torch.frombuffer(data, dtype=self.dtype).reshape(self.shape)


def stored_tensors(path: Path) -> dict[str, StoredTensor]:
    """The tensors of a model folder's safetensors files by name; empty when it has none or holds other number types.

    The format: 8 bytes with the length of a JSON header, the header, the data; offsets count from the end of the header.
    """
    found: dict[str, StoredTensor] = {}
    for file in sorted(path.glob("model*.safetensors")):
        with open(file, "rb") as data:
            length = int.from_bytes(data.read(8), "little")
            header = json.loads(data.read(length))
        for name, entry in header.items():
            if name == "__metadata__":
                continue
            if entry["dtype"] not in STORED_DTYPES:
                return {}
            start, end = entry["data_offsets"]
            dtype = STORED_DTYPES[entry["dtype"]]
            found[name] = StoredTensor(file, dtype, tuple(entry["shape"]), 8 + length + start, end - start)
    return found
