"""How new weights enter a running vLLM: the `shm` weight-transfer backend, loaded inside vLLM's worker process.

vLLM's own backends need NCCL or RDMA. This one reads safetensors files (in /dev/shm) and works on CPUs and on every GPU of
one node. vLLM imports this module because `worker_extension_cls` names it; that import registers the backend.
"""

from dataclasses import dataclass

import torch
from safetensors import safe_open
from vllm.distributed.weight_transfer.base import WeightTransferEngine, WeightTransferInitInfo, WeightTransferUpdateInfo
from vllm.distributed.weight_transfer.factory import WeightTransferEngineFactory
from vllm.model_executor.model_loader.reload import finalize_layerwise_reload, initialize_layerwise_reload

SHM_BACKEND = "shm"


@dataclass
class ShmInitInfo(WeightTransferInitInfo):
    """Nothing to agree on beforehand."""


@dataclass
class ShmUpdateInfo(WeightTransferUpdateInfo):
    """Safetensors files that together hold the whole model. Strings: only plain values survive vLLM's message layer."""

    paths: list[str]


class ShmWeightTransferEngine(WeightTransferEngine[ShmInitInfo, ShmUpdateInfo]):
    """Loads files through vLLM's layerwise reload, the only way to change the prepacked weights of a live CPU model."""

    init_info_cls = ShmInitInfo
    update_info_cls = ShmUpdateInfo

    def init_transfer_engine(self, init_info: ShmInitInfo) -> None:
        pass

    def start_weight_update(self) -> None:
        initialize_layerwise_reload(self.model)

    def receive_weights(self, update_info: ShmUpdateInfo) -> None:
        for path in update_info.paths:
            with safe_open(path, "pt") as file:
                self.model.load_weights((name, file.get_tensor(name)) for name in file.keys())  # noqa: SIM118 (not a dict)

    def finish_weight_update(self) -> None:
        finalize_layerwise_reload(self.model, self.model_config)
        refresh_tied_lm_head(self.model)

    def shutdown(self) -> None:
        pass


def refresh_tied_lm_head(model: torch.nn.Module) -> None:
    """Repack a tied output head: vLLM 0.32 on CPU keeps the OLD embedding's packed copy after a reload (wrong logits)."""
    for name, layer in model.named_modules(remove_duplicate=False):
        if name.split(".")[-1] == "lm_head" and hasattr(layer, "cpu_linear") and layer.weight.numel():
            layer.quant_method.process_weights_after_loading(layer)


class ShmWorkerExtension:
    """Adds nothing to the worker; naming it makes vLLM import this module."""


if SHM_BACKEND not in WeightTransferEngineFactory._registry:
    WeightTransferEngineFactory.register_engine(SHM_BACKEND, ShmWeightTransferEngine)
