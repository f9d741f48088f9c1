"""One rank of the learner: samples in, an optimizer step out; weights, checkpoints and exports."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from configs.optimizer_config import LearnerConfig, OptimizerConfig
from trainers.checkpoint import clear_folder, partial_folder, publish_folder
from trainers.deepspeed_engine import join_process_group, start_engine
from trainers.loss_spec import LossSpec
from trainers.losses import LOSSES, TokenLoss
from trainers.lr_schedule import learning_rate_at
from trainers.packing import MicroBatch, empty_micro_batch, pack
from trainers.pretrained_lm import TOKENIZER_FILES, load_pretrained_lm
from trainers.train_sample import TrainSample

LEARNER_STATE = "learner_state"
DEEPSPEED_TAG = "deepspeed"
"""DeepSpeed's own folder inside a checkpoint."""


class LearnerError(RuntimeError):
    """The learner cannot do what it was asked to."""


class DeepSpeedLearner:
    """All ranks call every method together (each is a collective), with their own share of the samples.

    `weights_dtype` says what `weights` yields: "float32", or "bfloat16" as a uint16 view (numpy has no bfloat16).
    """

    def __init__(
        self,
        model_path: Path,
        dtype: str,
        optimizer: OptimizerConfig,
        learner: LearnerConfig,
        num_steps: int,
        rank: int,
        world_size: int,
        master_port: int,
        seed: int,
        master_address: str = "127.0.0.1",
    ) -> None:
        self.rank, self.world_size, self.weights_dtype = rank, world_size, dtype
        self._config, self._seed = learner, seed
        self._device = join_process_group(rank, world_size, master_address, master_port, learner)
        self._engine: Any = None
        self.reset(model_path, optimizer, num_steps)

    def reset(self, model_path: Path, optimizer: OptimizerConfig, num_steps: int) -> None:
        """Start again from the model in `model_path`: fresh optimizer, schedule, step count and random state.

        Cheaper than a new process, which pays for imports and the process group again.
        """
        if self._engine is not None:
            self._engine.destroy()
            self._engine = None
        torch.manual_seed(self._seed)
        self._model_path, self._optimizer, self._num_steps = model_path, optimizer, num_steps
        self.steps_done = 0
        self._module = load_pretrained_lm(model_path, self.weights_dtype)
        self._engine = start_engine(self._module, self.weights_dtype, optimizer, self._config)

    # ---- training -----------------------------------------------------------------------------------------------------

    def train_step(self, samples: list[TrainSample], loss: LossSpec) -> dict[str, float]:
        """One optimizer step on the union of all ranks' samples. Every rank returns the same metrics:

        `loss`, `grad_norm` (before clipping), `lr`, `tokens` (processed, padding not counted), `trained_tokens`, `samples`,
        `step`, `skipped` (1 when nothing could be trained on or a gradient was not finite: weights unchanged), and the mean
        over trained tokens of the loss's own metrics; `logprob_gap_max` is their largest |policy - rollout| log-prob.
        """
        token_loss = LOSSES[loss.name](loss)
        batches = pack(samples, self._config.tokens_per_micro_batch, token_loss.weights)
        trained = sum(int((batch.loss_mask != 0).sum()) for batch in batches)
        counts = self._sum([
            sum(token_loss.normaliser(sample) for sample in samples),
            float(sum(len(sample.token_ids) for sample in samples)),
            float(len(samples)),
            float(trained),
        ])  # fmt: skip
        normaliser, tokens, num_samples, trained_tokens = counts
        lr = learning_rate_at(self.steps_done, self._num_steps, self._optimizer)
        metrics = {"lr": lr, "tokens": tokens, "samples": num_samples, "trained_tokens": trained_tokens}
        self.steps_done += 1
        metrics["step"] = float(self.steps_done)
        num_batches = int(self._max(float(len(batches))))
        if num_batches == 0:
            return metrics | {"loss": 0.0, "grad_norm": 0.0, "skipped": 1.0}
        batches += [empty_micro_batch()] * (num_batches - len(batches))
        sums, largest_gap = self._backward(batches, token_loss, normaliser)
        metrics |= self._reduce_sums(sums, trained_tokens)
        metrics["logprob_gap_max"] = self._max(largest_gap)
        return metrics | self._apply_gradients(lr)

    def _backward(self, batches: list[MicroBatch], token_loss: TokenLoss, normaliser: float) -> tuple[dict[str, float], float]:
        """Accumulate the gradient of this rank's batches. Returns sums of the figures, and the largest log-prob gap."""
        sums: dict[str, torch.Tensor] = {}
        zero = torch.zeros((), device=self._device)
        largest_gap = zero
        for batch in (batch.to(self._device) for batch in batches):
            logprobs = self._engine(batch)
            losses = token_loss.token_losses(logprobs, batch.rollout_logprobs, batch.advantages)
            total = (losses * batch.weights).sum() / normaliser
            self._engine.backward(total * self.world_size)  # DeepSpeed averages over ranks; ours is already the global mean
            with torch.no_grad():
                on = (batch.loss_mask != 0).float()
                figures = token_loss.token_metrics(logprobs, batch.rollout_logprobs, batch.advantages, batch.loss_mask)
                for name, values in figures.items():
                    sums[name] = sums.get(name, zero) + (values * on).sum()
                sums["loss"] = sums.get("loss", zero) + total
                if "logprob_gap" in figures:
                    largest_gap = torch.maximum(largest_gap, (figures["logprob_gap"] * on).max())
        return {name: float(value) for name, value in sums.items()}, float(largest_gap)

    def _reduce_sums(self, sums: dict[str, float], trained_tokens: float) -> dict[str, float]:
        names = sorted(sums)
        totals = dict(zip(names, self._sum([sums[name] for name in names]), strict=True))
        return {name: total if name == "loss" else total / max(trained_tokens, 1.0) for name, total in totals.items()}

    def _apply_gradients(self, lr: float) -> dict[str, float]:
        for group in self._engine.optimizer.param_groups:
            group["lr"] = lr
        self._engine.step()
        return {
            "grad_norm": float(self._engine.get_global_grad_norm()),
            "skipped": float(not self._engine.was_step_applied()),
        }

    @torch.no_grad()
    def token_logprobs(self, samples: list[TrainSample]) -> list[npt.NDArray[np.float32]]:
        """Log-prob of every token of each of this rank's samples given what precedes it, (T,); the first token's is 0."""
        result = [np.zeros(len(sample.token_ids), dtype=np.float32) for sample in samples]
        batches = pack(samples, self._config.tokens_per_micro_batch, lambda sample: np.ones(len(sample.token_ids), np.float32))
        batches += [empty_micro_batch()] * (int(self._max(float(len(batches)))) - len(batches))
        for batch in batches:
            values = self._engine(batch.to(self._device)).cpu().numpy()
            width = batch.token_ids.shape[1]
            rows, columns = np.divmod(batch.predicted.numpy(), width)
            for row, index in enumerate(batch.sample_indices):
                here = rows == row
                result[index][columns[here]] = values[here]
        return result

    # ---- weights and files --------------------------------------------------------------------------------------------

    def weights(self) -> Iterator[tuple[str, npt.NDArray[Any]]]:
        """(Hugging Face name, copy of the values) of every parameter, one gathered at a time; tied ones once.

        Every rank must run the iterator to its end. float32 arrays, or uint16 views of bfloat16 (see `weights_dtype`).
        """
        import deepspeed

        for name, parameter in self._module.lm.named_parameters():
            with deepspeed.zero.GatheredParameters([parameter], enabled=self._config.zero_stage == 3):
                values = parameter.detach().to("cpu", copy=True)
            yield name, values.view(torch.uint16).numpy() if values.dtype == torch.bfloat16 else values.numpy()

    def save_checkpoint(self, folder: Path, client_state: dict[str, Any]) -> None:
        """Weights, optimizer, schedule position and random states, such that `folder` exists only when it is whole.

        With several machines `folder` must be on a file system that all of them share.
        """
        with self._written_together(folder) as partial:
            state = {"client_state": client_state, "steps_done": self.steps_done}
            self._engine.save_checkpoint(str(partial), tag=DEEPSPEED_TAG, client_state={LEARNER_STATE: state}, save_latest=False)
            torch.save(torch.get_rng_state(), partial / f"rng_rank_{self.rank}.pt")

    def load_checkpoint(self, folder: Path) -> dict[str, Any]:
        """Go on from a checkpoint of the same model and the same number of ranks; returns its `client_state`."""
        rng_file = folder / f"rng_rank_{self.rank}.pt"
        if not rng_file.is_file():
            raise LearnerError(f"{folder} is no checkpoint for rank {self.rank} of {self.world_size}: {rng_file.name} is missing")
        loaded, state = self._engine.load_checkpoint(str(folder), tag=DEEPSPEED_TAG, load_lr_scheduler_states=False)
        if loaded is None:
            raise LearnerError(f"cannot load the checkpoint in {folder}")
        torch.set_rng_state(torch.load(rng_file))
        self.steps_done = int(state[LEARNER_STATE]["steps_done"])
        client_state: dict[str, Any] = state[LEARNER_STATE]["client_state"]
        return client_state

    def export_hf(self, folder: Path) -> None:
        """A Hugging Face folder (config, safetensors, tokenizer files) that transformers and vLLM load."""
        with self._written_together(folder) as partial:
            state = {}
            for name, values in self.weights():
                if self.rank == 0:
                    tensor = torch.from_numpy(values)
                    state[name] = tensor.view(torch.bfloat16) if self.weights_dtype == "bfloat16" else tensor
            if self.rank == 0:
                self._module.lm.save_pretrained(partial, state_dict=state)
                for name in TOKENIZER_FILES:
                    if (self._model_path / name).is_file():
                        shutil.copy2(self._model_path / name, partial / name)

    @contextmanager
    def _written_together(self, folder: Path) -> Iterator[Path]:
        """A partial folder that all ranks write into and rank 0 renames to `folder` once all have finished."""
        partial = partial_folder(folder)
        if self.rank == 0:
            clear_folder(partial)
        self._sum([0.0])
        yield partial
        self._sum([0.0])
        if self.rank == 0:
            publish_folder(partial, folder)
        self._sum([0.0])

    def close(self) -> None:
        """Free the engine. Idempotent. The process group stays: DeepSpeed cannot start a second one in the same process."""
        if self._engine is not None:
            self._engine.destroy()
            self._engine = None

    def _sum(self, values: list[float]) -> list[float]:
        return self._all_reduce(values, torch.distributed.ReduceOp.SUM)

    def _max(self, value: float) -> float:
        return self._all_reduce([value], torch.distributed.ReduceOp.MAX)[0]

    def _all_reduce(self, values: list[float], operation: Any) -> list[float]:
        """Also a barrier: returns when every rank has called it."""
        if self.world_size == 1:
            return values
        tensor = torch.tensor(values, dtype=torch.float64, device=self._device)
        torch.distributed.all_reduce(tensor, operation)
        return [float(value) for value in tensor]
