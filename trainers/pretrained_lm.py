"""A Hugging Face causal language model, asked only for the log-probs that a loss needs."""

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from trainers.activation_memory import activations_in_host_memory, checkpoint_layers
from trainers.packing import MicroBatch
from trainers.partitioned_loading import load_partitioned
from trainers.segment_attention import ATTENTION_NAME
from trainers.token_logprobs import TokenLogprobs

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
    "generation_config.json",
)


class PretrainedLM(nn.Module):
    """Forward: a micro-batch to the log-probs (N,) of its predicted tokens.

    The output layer runs only at predicted positions, and never on all of them at once.
    """

    lm: PreTrainedModel

    def __init__(self, lm: PreTrainedModel) -> None:
        super().__init__()
        self.lm = lm
        self.logprobs = TokenLogprobs(lm.get_output_embeddings(), lm.config.vocab_size)
        self.offload_activations = False

    def forward(self, batch: MicroBatch) -> torch.Tensor:
        keeping = activations_in_host_memory() if self.offload_activations and torch.is_grad_enabled() else nullcontext()
        with keeping:
            hidden_1TH = self.decoder(
                input_ids=batch.token_ids,
                position_ids=batch.position_ids,
                use_cache=False,
                segment_lengths=batch.lengths,
            ).last_hidden_state
        before_NH = hidden_1TH[0].index_select(0, batch.predicted - 1)
        return self.logprobs(before_NH, batch.targets)

    @property
    def decoder(self) -> nn.Module:
        """The layers below the output layer."""
        return self.lm.get_decoder()

    def save_activation_memory(self, checkpointing: bool, offload: bool) -> None:
        """Keep only the layers' inputs for the backward pass, and keep them in host memory."""
        if checkpointing:
            checkpoint_layers(self.lm)
        self.offload_activations = offload


def load_pretrained_lm(path: Path, dtype: str, zero3: dict[str, Any] | None = None) -> PretrainedLM:
    """The model in `path` with weights in `dtype` (float32 or bfloat16); no network is asked.

    With `zero3`, DeepSpeed's configuration, all ranks load it together and each keeps its share (trainers.partitioned_loading).

    The dtype goes to from_pretrained and is never cast afterwards: `.bfloat16()` would also round the rotary frequencies.
    Models that transform their logits after the output layer (soft caps, scales: Gemma, Cohere) or attend in sliding windows
    are refused with a ValueError; Qwen, Llama and Mistral do not.
    """
    if dtype not in DTYPES:
        raise ValueError(f"unknown dtype {dtype!r}; one of {', '.join(DTYPES)}")
    config = AutoConfig.from_pretrained(path, local_files_only=True)
    if getattr(config, "final_logit_softcapping", None) or getattr(config, "logit_scale", None):
        raise ValueError(f"{path}: models that rescale their logits are not supported")
    if "sliding_attention" in (getattr(config, "layer_types", None) or ()):
        raise ValueError(f"{path}: models with sliding-window attention are not supported")
    model = load_partitioned(path, config, DTYPES[dtype], ATTENTION_NAME, zero3) if zero3 else None
    if model is None:
        model = AutoModelForCausalLM.from_pretrained(
            path, dtype=DTYPES[dtype], attn_implementation=ATTENTION_NAME, local_files_only=True
        )
    for part in model.modules():
        if isinstance(part, nn.Dropout):
            part.p = 0.0
    return PretrainedLM(model).train()  # transformers recomputes checkpointed layers in training mode only


def without_weights(lm: PreTrainedModel) -> PreTrainedModel:
    """A model of the same configuration whose parameters hold no memory: it writes an export from a state dict."""
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(lm.config)
