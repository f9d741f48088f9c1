"""How new weights enter a running vLLM from files; loaded inside vLLM's worker process, where `worker_extension_cls` names it.

vLLM's native transfers (actors.native_transfer) need NCCL or CUDA IPC. Files (in /dev/shm) work on CPUs, and everywhere for
changing to another model of the same architecture.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from safetensors import safe_open
from vllm.model_executor.model_loader.reload import finalize_layerwise_reload, initialize_layerwise_reload


class FileReload:
    """What vLLM's worker can do besides; called through `collective_rpc`, so arguments are plain strings."""

    def reload_from_files(self, paths: list[str]) -> None:
        """Replace the model's weights by those of safetensors files that together hold it whole.

        vLLM's layerwise reload is the only way to change the prepacked weights of a live CPU model.
        """
        model: Any = self.model_runner.model  # type: ignore[attr-defined]  # of the worker this is mixed into
        with every_core():
            initialize_layerwise_reload(model)
            for path in paths:
                with safe_open(path, "pt") as file:
                    model.load_weights((name, file.get_tensor(name)) for name in file.keys())  # noqa: SIM118 (not a dict)
            finalize_layerwise_reload(model, self.model_config)  # type: ignore[attr-defined]
            refresh_tied_lm_head(model)


@contextmanager
def every_core() -> Iterator[None]:
    """Copy and repack on all cores of this process: decoding, which has its own number of threads, waits meanwhile."""
    decoding = torch.get_num_threads()
    # vLLM's CPU worker replaces torch.set_num_threads by a function that does nothing.
    torch._C.set_num_threads(len(os.sched_getaffinity(0)))  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        torch._C.set_num_threads(decoding)  # type: ignore[no-untyped-call]


def refresh_tied_lm_head(model: torch.nn.Module) -> None:
    """Repack a tied output head: vLLM 0.32 on CPU keeps the OLD embedding's packed copy after a reload (wrong logits)."""
    for name, layer in model.named_modules(remove_duplicate=False):
        if name.split(".")[-1] == "lm_head" and hasattr(layer, "cpu_linear") and layer.weight.numel():
            layer.quant_method.process_weights_after_loading(layer)
