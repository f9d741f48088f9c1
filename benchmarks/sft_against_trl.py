"""Supervised fine-tuning beside TRL's SFTTrainer on the same machine, model, data and batches; CPU, float32, full fine-tuning.

    python -m benchmarks.sft_against_trl --json                     # the shipped tiny model
    python -m benchmarks.sft_against_trl --model random20m --json   # a random Qwen2 of 20 M parameters

Every measurement is a process of its own; the two trainers take turns (A B B A ...), and medians are compared. TRL is
installed, pinned, into a throw-away environment beside this one's packages.

- packed: rows of --row tokens, as many a step as fill the batch. TRL packs with its default `bfd`; without flash-attn (a GPU
  kernel) transformers builds a block-diagonal mask of the row from the position ids, so that no sample sees another in either.
- padded: no packing, the same samples in the same order in every step; losses are compared step by step.

Tokens are real tokens, without padding. Seconds are those of the steps after the first. Peak memory is the process's resident
set. Both trainers use the same threads, a constant learning rate, AdamW of torch, no checkpointing of activations, no logging
to disk. `--against` takes TRL's environment from an earlier run.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
import venv
from pathlib import Path
from typing import Any

import numpy as np

TRL = "trl==1.16.0"
ROOT = Path(__file__).parents[1]
LEARNING_RATE = 1e-3
BETAS = (0.9, 0.95)


def samples(arguments: argparse.Namespace, vocabulary: int) -> list[tuple[list[int], list[int]]]:
    """(ids, loss mask) of every sample of the run, in order: turns of which about a third of the tokens is trained."""
    rng = np.random.default_rng(0)
    found = []
    for _ in range(arguments.steps * arguments.batch):
        length = int(min(rng.lognormal(np.log(arguments.mean_tokens), 0.5) + 16, arguments.row))
        mask = np.zeros(length, int)
        for start in range(int(0.3 * length), length, 48):
            mask[start : start + 20] = 1
        # Ids of a skewed distribution, so that there is something to learn.
        ids = (rng.random(length) ** 3 * (vocabulary - 3)).astype(int) + 3
        found.append((ids.tolist(), mask.tolist()))
    return found


def trained_by_us(arguments: argparse.Namespace) -> dict[str, Any]:
    """One run of this project's learner; steps are timed from outside, as a caller sees them."""
    from configs.optimizer_config import LearnerConfig, OptimizerConfig
    from trainers.deepspeed_learner import DeepSpeedLearner
    from trainers.loss_spec import LossSpec
    from trainers.train_sample import TrainSample

    vocabulary = json.loads((arguments.model / "config.json").read_text())["vocab_size"]
    data = []
    for ids, mask in samples(arguments, vocabulary):
        on = np.array(mask, np.int8)
        zeros = np.zeros(len(ids), np.float32)
        data.append(TrainSample(np.array(ids, np.int32), on, zeros, on.astype(np.float32), on.astype(np.int32), "benchmark"))
    optimizer = OptimizerConfig(
        learning_rate=LEARNING_RATE, schedule="constant", warmup_steps=0, betas=BETAS, weight_decay=0.0, max_grad_norm=1.0
    )
    row = arguments.row if arguments.variant == "packed" else arguments.batch * arguments.row
    settings = LearnerConfig(zero_stage=1, tokens_per_micro_batch=row, num_threads=arguments.threads)
    learner = DeepSpeedLearner(arguments.model, "float32", optimizer, settings, arguments.steps, 0, 1, 0, seed=0)
    clock = StepClock()
    for step in range(arguments.steps):
        batch = data[step * arguments.batch : (step + 1) * arguments.batch]
        metrics = learner.train_step(batch, LossSpec("cross_entropy"))
        clock.step(metrics["loss"], sum(len(sample.token_ids) for sample in batch))
    return clock.result()


def trained_by_trl(arguments: argparse.Namespace) -> dict[str, Any]:
    """One run of TRL's SFTTrainer on the same samples. Runs in TRL's environment."""
    import torch
    import transformers
    import trl
    from datasets import Dataset

    torch.set_num_threads(arguments.threads)
    model = transformers.AutoModelForCausalLM.from_pretrained(arguments.model, dtype=torch.float32, local_files_only=True)
    tokenizer = transformers.PreTrainedTokenizerFast.from_pretrained(ROOT / "trainers" / "tiny_base")
    packed = arguments.variant == "packed"
    data = samples(arguments, model.config.vocab_size)
    rows = [
        {"input_ids": ids, "labels": [token if on else -100 for token, on in zip(ids, mask, strict=True)]} for ids, mask in data
    ]
    rows_per_step = max(1, round(sum(len(ids) for ids, _ in data) / arguments.row / arguments.steps))
    with tempfile.TemporaryDirectory() as folder:
        settings = trl.SFTConfig(
            output_dir=folder, max_steps=arguments.steps, packing=packed, max_length=arguments.row,
            per_device_train_batch_size=1 if packed else arguments.batch,
            gradient_accumulation_steps=rows_per_step if packed else 1,
            learning_rate=LEARNING_RATE, lr_scheduler_type="constant", warmup_steps=0, weight_decay=0.0, max_grad_norm=1.0,
            adam_beta1=BETAS[0], adam_beta2=BETAS[1], optim="adamw_torch", bf16=False, fp16=False, use_cpu=True,
            gradient_checkpointing=False, train_sampling_strategy="sequential", save_strategy="no", report_to="none",
            logging_strategy="no", disable_tqdm=True, dataloader_num_workers=0, dataloader_pin_memory=False, seed=0,
        )  # fmt: skip
        clock = StepClock()

        class Timed(trl.SFTTrainer):  # type: ignore[misc, name-defined]
            """Adds each optimizer step's loss and real tokens to the clock."""

            loss, tokens = 0.0, 0

            def training_step(self, model: Any, inputs: Any, *rest: Any, **named: Any) -> Any:
                mask = inputs.get("attention_mask")
                self.tokens += int(mask.sum()) if mask is not None else inputs["input_ids"].numel()
                loss = super().training_step(model, inputs, *rest, **named)
                self.loss += float(loss)
                return loss

        class EndOfStep(transformers.TrainerCallback):
            def on_step_end(self, *ignored: Any, **named: Any) -> None:
                clock.step(trainer.loss, trainer.tokens)
                trainer.loss, trainer.tokens = 0.0, 0

        trainer = Timed(
            model=model, args=settings, train_dataset=Dataset.from_list(rows), processing_class=tokenizer,
            callbacks=[EndOfStep()],
        )  # fmt: skip
        trainer.train()
    return clock.result() | {"attention": model.config._attn_implementation}


class StepClock:
    """Wall and CPU seconds of the steps after the first, their tokens, all losses, and the process's peak memory."""

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.tokens: list[int] = []
        self.began: tuple[float, float] | None = None
        self.last = (0.0, 0.0)

    def step(self, loss: float, tokens: int) -> None:
        self.losses.append(loss)
        self.tokens.append(tokens)
        self.last = (time.perf_counter(), time.process_time())
        self.began = self.began or self.last

    def result(self) -> dict[str, Any]:
        assert self.began is not None
        wall, cpu = (end - begin for end, begin in zip(self.last, self.began, strict=True))
        timed = sum(self.tokens[1:])
        peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
        return {
            "tokens_per_s": timed / wall, "tokens_per_cpu_s": timed / cpu, "timed_tokens": timed, "steps": len(self.losses),
            "peak_mib": int(peak.split()[1]) / 1024, "losses": self.losses,
        }  # fmt: skip


def trl_environment(folder: Path) -> Path:
    """The Python of an environment with TRL that sees this one's packages; built when it is not there."""
    python = folder / "bin" / "python"
    if not python.exists():
        venv.create(folder, with_pip=False)
        (site,) = folder.glob("lib/python*/site-packages")
        (site / "project.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
        install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(site), TRL]
        subprocess.run(install, check=True, timeout=300)
    return python


def random_model(folder: Path) -> Path:
    """A random Qwen2 of about 20 M parameters."""
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(0)
    shape = {"hidden_size": 384, "intermediate_size": 1152, "num_hidden_layers": 8, "num_attention_heads": 6}
    config = Qwen2Config(vocab_size=8192, num_key_value_heads=2, tie_word_embeddings=True, max_position_embeddings=8192, **shape)
    Qwen2ForCausalLM(config).save_pretrained(folder)
    return folder


def run(python: Path, who: str, variant: str, model: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """One measurement in a fresh process."""
    numbers = {name: getattr(arguments, name) for name in ("steps", "batch", "row", "mean_tokens", "threads")}
    options = [f"--{name.replace('_', '-')}={value}" for name, value in numbers.items()]
    command = [str(python), "-m", "benchmarks.sft_against_trl", "--worker", who, "--variant", variant, "--model", str(model)]
    threads = {"OMP_NUM_THREADS": str(arguments.threads), "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}
    environment = os.environ | threads | {"PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(
        [*command, *options], cwd=ROOT, env=environment, text=True, capture_output=True, timeout=arguments.timeout
    )
    if done.returncode:
        raise SystemExit(f"{who} {variant} failed:\n{done.stderr[-3000:]}")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    print(f"{variant:7s} {who:5s} {result['tokens_per_s']:9,.0f} tokens/s {result['tokens_per_cpu_s']:9,.0f} tokens/CPU-s "
          f"{result['peak_mib']:7,.0f} MiB  load {os.getloadavg()[0]:.1f}", file=sys.stderr, flush=True)  # fmt: skip
    return result


def compare(ours: list[dict[str, Any]], theirs: list[dict[str, Any]]) -> dict[str, Any]:
    """Medians of both, their ratios, and the largest difference between their losses of a step."""
    names = ("tokens_per_s", "tokens_per_cpu_s", "peak_mib")
    both = {"ours": ours, "trl": theirs}
    medians = {who: {name: statistics.median(row[name] for row in rows) for name in names} for who, rows in both.items()}
    ratios = {name: medians["ours"][name] / medians["trl"][name] for name in names}
    gap = max(abs(a - b) for a, b in zip(ours[0]["losses"], theirs[0]["losses"], strict=True))
    first_and_last = {who: [rows[0]["losses"][0], rows[0]["losses"][-1]] for who, rows in both.items()}
    each = {who: [round(row["tokens_per_s"]) for row in rows] for who, rows in both.items()}
    return medians | {"ratios": ratios, "largest_loss_difference": gap, "losses": first_and_last, "each_tokens_per_s": each}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=str(ROOT / "trainers" / "tiny_base"), help="a folder, or random20m")
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--batch", type=int, default=32, help="samples a step")
    parser.add_argument("--row", type=int, default=2048, help="tokens of a packed row; no sample is longer")
    parser.add_argument("--mean-tokens", type=int, default=250)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--timeout", type=int, default=900, help="seconds for one measurement")
    parser.add_argument("--against", type=Path, default=None, help="folder of TRL's environment, kept")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--worker", choices=("ours", "trl"), help=argparse.SUPPRESS)
    parser.add_argument("--variant", choices=("packed", "padded"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        arguments.model = Path(arguments.model)
        print(json.dumps(trained_by_us(arguments) if arguments.worker == "ours" else trained_by_trl(arguments)))
        return
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        model = random_model(work / "random20m") if arguments.model == "random20m" else Path(arguments.model)
        pythons = {"ours": Path(sys.executable), "trl": trl_environment(arguments.against or work / "trl")}
        result: dict[str, Any] = {"model": arguments.model, "trl": TRL, "load_1_min": os.getloadavg()[0]}
        for variant in ("packed", "padded"):
            rows: dict[str, list[dict[str, Any]]] = {"ours": [], "trl": []}
            for repetition in range(arguments.repetitions):
                for who in ("ours", "trl") if repetition % 2 == 0 else ("trl", "ours"):
                    rows[who].append(run(pythons[who], who, variant, model, arguments))
            result[variant] = compare(rows["ours"], rows["trl"])
    print(json.dumps(result, indent=None if arguments.json else 2))


if __name__ == "__main__":
    main()
