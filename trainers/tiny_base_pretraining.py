"""Pre-trains the tiny base checkpoint: `python -m trainers.tiny_base_pretraining --out DIR --minutes M`.

Builds the tokenizer, trains a Qwen2-architecture model of about a million parameters on generated text
(trainers.tiny_base_text) and writes a Hugging Face folder. Hidden matrices are trained with Muon, embeddings, norms and biases
with AdamW; the learning rate falls linearly to zero over the CPU time that is given (wall time would depend on what else runs).

Copying needs a head that looks at the previous token and one that builds on it; random weights found them only after many
millions of tokens. Qwen2's query and key biases with rotary positions can state such heads directly, so the run starts with them.
"""

import argparse
import json
import math
import random
import time
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from torch.nn import functional
from transformers import GenerationConfig, Qwen2Config, Qwen2ForCausalLM

from trainers.tiny_base_text import generate_document
from trainers.tiny_base_tokenizer import build_tokenizer, save_tokenizer

ROW_TOKENS = 320
ROWS = 10
PREVIOUS_TOKEN_HEADS = ((0, 1), (1, 2))  # head of layer 0, how many tokens back
PEAK, PAIRS = 6.0, 6  # attention score of one rotary pair at its peak; the fastest pairs, which tell neighbours apart
CHANNEL_GAIN, MATCH_GAIN, COPY_GAIN, OUTPUT_SCALE = 0.2, 2.2, 0.6, 0.05
MATRIX_RATE, VECTOR_RATE, WARMUP_SHARE = 4e-3, 2e-3, 0.02


def tiny_config(vocab_size: int) -> Qwen2Config:
    """Shape of the tiny model: 4 layers of width 128, heads of 32 (the smallest vLLM's CPU attention takes), tied embeddings."""
    return Qwen2Config(
        vocab_size=vocab_size,
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=2,
        pad_token_id=0,
        initializer_range=0.08,
        rope_parameters={"rope_type": "default", "rope_theta": 1e6},
        dtype="float32",
    )


def seed_induction_heads(model: Qwen2ForCausalLM) -> None:
    """Starts the first two layers as copying circuits; training changes them like any other weight.

    Layer 0: head 0 attends one token back, head 1 two tokens back (PREVIOUS_TOKEN_HEADS), and each writes what it sees through
    the projection `match` into a channel of its own. Layer 1: heads 0 and 1 attend where the token before is the current token
    and copy what stands there; heads 2 and 3 where the token two back is the token before the current one (`key: value` ...
    `key: `). Content is matched in the slow rotary pairs only: the fast ones turn with the distance.
    """
    config = model.config
    width, size = config.hidden_size, config.hidden_size // config.num_attention_heads
    first, second = (model.model.layers[layer].self_attn for layer in (0, 1))
    slow = torch.tensor([dim for dim in range(size) if dim % (size // 2) >= PAIRS])
    match = torch.linalg.qr(torch.randn(width, len(slow)))[0].T
    channels = torch.linalg.qr(torch.randn(width, 2 * len(slow)))[0].T.reshape(2, len(slow), width)
    copied = torch.linalg.qr(torch.randn(width, width))[0].reshape(4, size, width)
    with torch.no_grad():
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight.mul_(OUTPUT_SCALE)
            layer.mlp.down_proj.weight.mul_(OUTPUT_SCALE)
        for (head, back), channel in zip(PREVIOUS_TOKEN_HEADS, channels, strict=True):
            _attend_back(first, head, back, size, config.rope_parameters["rope_theta"])
            span = slice(head * size, (head + 1) * size)
            first.v_proj.weight[span] = 0.0
            first.v_proj.weight[head * size + slow] = match
            first.o_proj.weight[:, span] = 0.0
            first.o_proj.weight[:, head * size + slow] = CHANNEL_GAIN * channel.T
        readings = ((match, channels[0]), (match, channels[0]), (channels[0], channels[1]), (channels[0], channels[1]))
        for head, (query, key) in enumerate(readings):
            span = slice(head * size, (head + 1) * size)
            for projection, reading in ((second.q_proj, query), (second.k_proj, key)):
                projection.weight[span] *= 0.1
                projection.weight[head * size + slow] = MATCH_GAIN * reading
            second.v_proj.weight[span] = copied[head]
            second.o_proj.weight[:, span] = COPY_GAIN * copied[head].T


def _attend_back(attention: Any, head: int, back: int, size: int, rope_theta: float) -> None:
    """Query and key biases that make a head attend `back` tokens back: with constant query R(-back) u and key u, rotary
    attention scores depend on the distance alone and peak there."""
    speeds = 1.0 / (rope_theta ** (torch.arange(0, size, 2).float() / size))
    amplitude = torch.zeros(size // 2)
    amplitude[:PAIRS] = math.sqrt(PEAK * math.sqrt(size) / 2)
    span = slice(head * size, (head + 1) * size)
    cos, sin = torch.cos(-back * speeds), torch.sin(-back * speeds)
    for projection in (attention.q_proj, attention.k_proj):
        projection.weight[span] *= 0.1
    attention.k_proj.bias[span] = torch.cat([amplitude, amplitude])
    attention.q_proj.bias[span] = torch.cat([amplitude * (cos - sin), amplitude * (cos + sin)])


def sample_rows(tokenizer: Tokenizer, rng: random.Random, rows: int) -> tuple[torch.Tensor, torch.Tensor]:
    """`rows` sequences of ROW_TOKENS ids and the loss weight of every id: (rows, ROW_TOKENS) int64 and float32."""
    ids_rows, weight_rows = [], []
    for _ in range(rows):
        ids: list[int] = []
        weights: list[float] = []
        while len(ids) < ROW_TOKENS:
            for text, weight in generate_document(rng):
                piece = tokenizer.encode(text, add_special_tokens=False).ids
                ids += piece
                weights += [weight] * len(piece)
        ids_rows.append(ids[:ROW_TOKENS])
        weight_rows.append(weights[:ROW_TOKENS])
    return torch.tensor(ids_rows), torch.tensor(weight_rows)


def weighted_loss(model: Qwen2ForCausalLM, ids: torch.Tensor, weights: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean weighted next-token loss, and the mean loss on answer tokens alone (for the log)."""
    logits = model(input_ids=ids, use_cache=False).logits[:, :-1]
    losses = functional.cross_entropy(logits.reshape(-1, logits.shape[-1]), ids[:, 1:].reshape(-1), reduction="none")
    flat = weights[:, 1:].reshape(-1)
    answers = flat >= 1.0
    return (losses * flat).sum() / flat.sum(), losses[answers].mean().detach()


def build_optimizers(model: Qwen2ForCausalLM) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of the layers, AdamW for the rest."""
    matrices = [p for n, p in model.named_parameters() if p.ndim == 2 and "embed" not in n]
    others = [p for n, p in model.named_parameters() if p.ndim != 2 or "embed" in n]
    return [
        torch.optim.Muon(matrices, lr=MATRIX_RATE, weight_decay=0.01, momentum=0.95, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, lr=VECTOR_RATE, betas=(0.9, 0.98), weight_decay=0.0),
    ]


def train(model: Qwen2ForCausalLM, tokenizer: Tokenizer, minutes: float, seed: int, out: Path) -> None:
    """Trains for `minutes` of CPU time; writes the checkpoint every two minutes and at the end."""
    rng = random.Random(f"tiny-base/{seed}")
    optimizers = build_optimizers(model)
    start, saved = time.process_time(), time.monotonic()
    share, step, recent = 0.0, 0, 0.0
    while share < 1.0:
        rate = min(1.0, share / WARMUP_SHARE + 0.01) * (1.0 - share)
        for optimizer, peak in zip(optimizers, (MATRIX_RATE, VECTOR_RATE), strict=True):
            for group in optimizer.param_groups:
                group["lr"] = peak * rate
        loss, answer_loss = weighted_loss(model, *sample_rows(tokenizer, rng, ROWS))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        step += 1
        used_s = time.process_time() - start
        share = used_s / (60 * minutes)
        recent = 0.98 * recent + 0.02 * answer_loss.item() if recent else answer_loss.item()
        if step % 25 == 0:
            print(json.dumps({"step": step, "cpu_s": round(used_s), "loss": loss.item(), "answers": recent}), flush=True)
        if time.monotonic() - saved > 120:
            save_model(model, out)
            saved = time.monotonic()
    save_model(model, out)


def save_model(model: Qwen2ForCausalLM, out: Path) -> None:
    """Weights, config and generation settings; sampling parameters are left to the caller."""
    model.generation_config = GenerationConfig(eos_token_id=2, pad_token_id=0)
    model.save_pretrained(out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument("--minutes", type=float, default=30.0, help="CPU time of the training")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(arguments.seed)
    tokenizer = build_tokenizer()
    save_tokenizer(tokenizer, arguments.out)
    model = Qwen2ForCausalLM(tiny_config(tokenizer.get_vocab_size()))
    seed_induction_heads(model)
    print(json.dumps({"parameters": sum(p.numel() for p in model.parameters())}), flush=True)
    train(model, tokenizer, arguments.minutes, arguments.seed, arguments.out)


if __name__ == "__main__":
    main()
