"""What is kept between forward and backward: layer inputs only (checkpointing), and those in host memory (offload)."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from transformers import PreTrainedModel

MIN_OFFLOADED_BYTES = 1 << 20


def checkpoint_layers(lm: PreTrainedModel) -> None:
    """Compute each decoder layer again in the backward pass and keep its input only."""
    lm.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})


@contextmanager
def activations_in_host_memory(min_bytes: int = MIN_OFFLOADED_BYTES) -> Iterator[list[int]]:
    """Tensors that autograd keeps inside this context wait in host memory until the backward pass asks for them.

    Parameters and small tensors stay. Yields the list of sizes moved, bytes.
    """
    moved: list[int] = []

    def pack(tensor: torch.Tensor) -> torch.Tensor | tuple[torch.device, torch.Tensor]:
        if tensor.nbytes < min_bytes or (tensor.is_leaf and tensor.requires_grad):
            return tensor
        moved.append(tensor.nbytes)
        host = torch.empty(tensor.shape, dtype=tensor.dtype, device="cpu", pin_memory=tensor.is_cuda)
        host.copy_(tensor)
        return tensor.device, host

    def unpack(kept: torch.Tensor | tuple[torch.device, torch.Tensor]) -> torch.Tensor:
        if isinstance(kept, torch.Tensor):
            return kept
        device, host = kept
        return host.to(device, non_blocking=True)

    with torch.autograd.graph.saved_tensors_hooks(pack, unpack):
        yield moved
