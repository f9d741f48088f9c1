"""Pre-trains the tiny base checkpoint: `python -m trainers.tiny_base_pretraining --out DIR --minutes M`.

Builds the tokenizer, trains a Qwen2-architecture model of about a million parameters on generated text
(trainers.tiny_base_text) and writes a Hugging Face folder. Hidden matrices are trained with Muon, embeddings, norms and biases
with AdamW; the learning rate falls linearly to zero over the time that is given.
"""

import argparse
import json
import random
import time
from pathlib import Path

import torch
from tokenizers import Tokenizer
from torch.nn import functional
from transformers import GenerationConfig, Qwen2Config, Qwen2ForCausalLM

from trainers.tiny_base_text import generate_document
from trainers.tiny_base_tokenizer import build_tokenizer, save_tokenizer

ROW_TOKENS = 320
ROWS = 32
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
        initializer_range=0.04,
        dtype="float32",
    )


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
    """Trains for `minutes` of wall time; writes the checkpoint every two minutes and at the end."""
    rng = random.Random(f"tiny-base/{seed}")
    optimizers = build_optimizers(model)
    start = saved = time.monotonic()
    share, step = 0.0, 0
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
        now = time.monotonic()
        share = (now - start) / (60 * minutes)
        if step % 25 == 0:
            row = {"step": step, "seconds": round(now - start), "loss": loss.item(), "answers": answer_loss.item()}
            print(json.dumps(row), flush=True)
        if now - saved > 120:
            save_model(model, out)
            saved = now
    save_model(model, out)


def save_model(model: Qwen2ForCausalLM, out: Path) -> None:
    """Weights, config and generation settings; sampling parameters are left to the caller."""
    model.generation_config = GenerationConfig(eos_token_id=2, pad_token_id=0)
    model.save_pretrained(out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument("--minutes", type=float, default=30.0, help="wall time of the training")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(arguments.seed)
    tokenizer = build_tokenizer()
    save_tokenizer(tokenizer, arguments.out)
    model = Qwen2ForCausalLM(tiny_config(tokenizer.get_vocab_size()))
    print(json.dumps({"parameters": sum(p.numel() for p in model.parameters())}), flush=True)
    train(model, tokenizer, arguments.minutes, arguments.seed, arguments.out)


if __name__ == "__main__":
    main()
