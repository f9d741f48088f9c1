"""Ulysses sequence parallelism: a group of ranks computes one row together, each a stretch of its tokens.

DeepSpeed's own attention exchanges (arXiv 2309.14509): before attention the ranks swap stretches of tokens for groups of heads,
so each attends over the whole row with a share of the heads, and swap back afterwards. Everything else is per token.
"""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch.distributed import ProcessGroup
from torch.nn import functional

from trainers.packing import MicroBatch
from trainers.segment_attention import register_attention, segment_attention

ULYSSES_NAME = "swe_ulysses"


@dataclass(frozen=True)
class SequenceGroup:
    """The ranks that share a row: this rank is number `index` of `size`. `group` is None for a rank alone."""

    size: int
    index: int
    group: ProcessGroup | None = None

    def stretch(self, batch: MicroBatch) -> tuple[MicroBatch, torch.Tensor]:
        """This rank's part of a micro-batch, and which of the whole's predictions (n,) fall into it.

        The row is padded at its end to a multiple of `size` (a sample of its own that nothing looks at). `predicted` is then
        relative to the stretch, so that `predicted - 1` is still the place of the hidden state that predicts.
        """
        num_tokens = batch.token_ids.shape[1]
        if self.size == 1:
            return batch, torch.arange(len(batch.predicted), device=batch.predicted.device)
        padding = -num_tokens % self.size
        width = (num_tokens + padding) // self.size
        here = slice(self.index * width, (self.index + 1) * width)
        places = batch.predicted - 1
        mine = torch.nonzero((places >= here.start) & (places < here.stop))[:, 0]
        chosen = {
            name: getattr(batch, name)[mine] for name in ("targets", "loss_mask", "rollout_logprobs", "advantages", "weights")
        }
        part = replace(
            batch,
            token_ids=functional.pad(batch.token_ids, (0, padding))[:, here],
            position_ids=functional.pad(batch.position_ids, (0, padding))[:, here],
            lengths=(*batch.lengths, padding) if padding else batch.lengths,
            predicted=batch.predicted[mine] - here.start,
            **chosen,
        )
        return part, mine


def make_sequence_group(rank: int, world_size: int, size: int) -> SequenceGroup:
    """Neighbouring ranks in groups of `size`. A collective of all ranks. Raises ValueError when they do not divide."""
    if size < 1 or world_size % size:
        raise ValueError(f"learner.sequence_parallel={size} does not divide {world_size} ranks")
    if size == 1:
        return SequenceGroup(1, 0)
    groups = [torch.distributed.new_group(list(range(start, start + size))) for start in range(0, world_size, size)]
    return SequenceGroup(size, rank % size, groups[rank // size])


def use_ulysses(model_config: Any, sequence: SequenceGroup) -> str:
    """Register the exchange around the packed attention for a model of this shape; returns the attention's name.

    Raises ValueError when the heads cannot be shared out: query heads must divide by the group's size, and key heads by it or
    it by them.
    """
    heads, key_heads = model_config.num_attention_heads, model_config.num_key_value_heads
    if heads % sequence.size or (key_heads % sequence.size and sequence.size % key_heads):
        raise ValueError(f"learner.sequence_parallel={sequence.size}: {heads} heads ({key_heads} key heads) cannot be shared out")
    from deepspeed.runtime.sequence_parallel.ulysses_sp import UlyssesSPAttentionHF

    exchange = UlyssesSPAttentionHF(
        attn=segment_attention,
        batch_size=1,
        attn_head_count=heads,
        attn_head_size=getattr(model_config, "head_dim", None) or model_config.hidden_size // heads,
        kv_head_count=key_heads,
        num_hidden_layers=model_config.num_hidden_layers,
        process_group=sequence.group,
        seq_length_is_variable=True,
    )

    def attention(module: Any, query: Any, key: Any, value: Any, attention_mask: Any, **options: Any) -> Any:
        return exchange(module, query, key, value, attention_mask, **options)

    register_attention(ULYSSES_NAME, attention)
    return ULYSSES_NAME
