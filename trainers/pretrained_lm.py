"""A Hugging Face causal language model, asked only for the log-probs that a loss needs."""

from pathlib import Path

import torch
from torch import nn
from transformers import AutoModelForCausalLM, PreTrainedModel

from trainers.packing import MicroBatch
from trainers.token_logprobs import token_logprobs

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
)


class PretrainedLM(nn.Module):
    """Forward: a micro-batch to the log-probs (N,) of its predicted tokens.

    The output layer runs only at predicted positions. Models that transform their logits after the output layer (soft caps,
    scales: Gemma, Cohere) are not supported; Qwen, Llama and Mistral do not.
    """

    lm: PreTrainedModel

    def __init__(self, lm: PreTrainedModel) -> None:
        super().__init__()
        self.lm = lm

    def forward(self, batch: MicroBatch) -> torch.Tensor:
        hidden_BTH = self.lm.base_model(input_ids=batch.token_ids, use_cache=False).last_hidden_state
        before_NH = hidden_BTH.reshape(-1, hidden_BTH.shape[-1]).index_select(0, batch.predicted - 1)
        return token_logprobs(before_NH, batch.targets, self.lm.get_output_embeddings(), self.lm.config.vocab_size)


def load_pretrained_lm(path: Path, dtype: str) -> PretrainedLM:
    """The model in `path` with weights in `dtype` (float32 or bfloat16); no network is asked.

    The dtype goes to from_pretrained and is never cast afterwards: `.bfloat16()` would also round the rotary frequencies.
    """
    if dtype not in DTYPES:
        raise ValueError(f"unknown dtype {dtype!r}; one of {', '.join(DTYPES)}")
    model = AutoModelForCausalLM.from_pretrained(path, dtype=DTYPES[dtype], attn_implementation="sdpa", local_files_only=True)
    if getattr(model.config, "final_logit_softcapping", None) or getattr(model.config, "logit_scale", None):
        raise ValueError(f"{path}: models that rescale their logits are not supported")
    return PretrainedLM(model)
