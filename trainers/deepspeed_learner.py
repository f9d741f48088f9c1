"""One rank of the learner: samples in, an optimizer step out; weights, checkpoints and exports."""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from configs.optimizer_config import LearnerConfig, OptimizerConfig
from trainers.checkpoint import CheckpointError, clear_folder, partial_folder, publish_folder, require_space
from trainers.deepspeed_engine import engine_settings, join_process_group, start_engine, take_step
from trainers.engine_state import load_engine_state, ranks_of_checkpoint, save_engine_state, state_bytes
from trainers.layer_compiling import compile_layers
from trainers.learner_facts import learner_facts
from trainers.loss_spec import LossSpec
from trainers.losses import LOSSES, TokenLoss
from trainers.low_rank_adapters import add_adapters
from trainers.lr_schedule import learning_rate_at
from trainers.packing import MicroBatch, empty_micro_batch, pack
from trainers.pretrained_lm import TOKENIZER_FILES, load_pretrained_lm, without_weights
from trainers.reference_lm import ReferenceLM
from trainers.sample_fitting import check_token_ids
from trainers.sequence_parallel import make_sequence_group, use_ulysses
from trainers.token_rows import token_rows
from trainers.train_sample import TrainSample
from trainers.training_speed import LearnerFacts
from trainers.weight_buckets import WeightBuckets, as_array

WHOLE_TRAJECTORY_LOSSES = ("gspo",)
"""Losses with a mean over each trajectory's tokens, which no single rank of a sequence group holds."""


class LearnerError(RuntimeError):
    """The learner cannot do what it was asked to."""


class DeepSpeedLearner:
    """All ranks call every method together (each is a collective), with their own share of the samples.

    With `sequence_parallel` s, each s neighbouring ranks form a group, are given the same samples and compute each row
    together. `weights_dtype` says what `weights` yields: "float32", or "bfloat16" as a uint16 view (numpy has no bfloat16).
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
        self._sequence = make_sequence_group(rank, world_size, learner.sequence_parallel)
        self._engine: Any = None
        self._reference: ReferenceLM | None = None
        self.reset(model_path, optimizer, num_steps)

    def reset(self, model_path: Path, optimizer: OptimizerConfig, num_steps: int, temperature: float = 1.0) -> None:
        """Start again from the model in `model_path`: fresh optimizer, schedule, step count and random state.

        All log-probs from then on are of softmax(logits / temperature): the distribution that the samples are drawn from.
        Cheaper than a new process, which pays for imports and the process group again.
        """
        self.close()
        self._reference = None
        torch.manual_seed(self._seed)
        self._model_path, self._optimizer, self._num_steps = model_path, optimizer, num_steps
        self.steps_done = self.steps_skipped = 0
        zero3 = engine_settings(self.weights_dtype, optimizer, self._config) if self._config.zero_stage == 3 else None
        self._module = load_pretrained_lm(model_path, self.weights_dtype, zero3)
        self._module.logprobs.temperature = temperature
        if self._sequence.size > 1:
            self._module.lm.set_attn_implementation(use_ulysses(self._module.lm.config, self._sequence))
        if self._config.lora_rank:
            add_adapters(self._module.lm, self._config)
        self._module.save_activation_memory(self._config.activation_checkpointing, self._config.activation_offload)
        if self._config.compile_layers:
            compile_layers(self._module.lm)
        self._engine = start_engine(self._module, self.weights_dtype, optimizer, self._config)

    # ---- training -----------------------------------------------------------------------------------------------------

    def train_step(
        self, samples: list[TrainSample], loss: LossSpec, plan: Sequence[Sequence[int]] | None = None
    ) -> dict[str, float]:
        """One optimizer step on the union of all ranks' samples. Every rank returns the same metrics.

        `plan` says which of this rank's samples share a micro-batch (indices into `samples`); None plans here.

        `loss`, `grad_norm` (before clipping), `lr`, `tokens` (processed), `trained_tokens`, `samples`, `step`, `skipped` (1
        when nothing could be trained on, a gradient was not finite, or their norm reached optimizer.skip_grad_norm: weights
        unchanged), `skipped_total`, and the mean over trained tokens of the loss's own metrics; `logprob_gap_max` is their
        largest |policy - rollout| log-prob.
        """
        if self._sequence.size > 1 and loss.name in WHOLE_TRAJECTORY_LOSSES:
            raise LearnerError(f"the loss {loss.name} needs whole trajectories: learner.sequence_parallel must be 1")
        check_token_ids(samples, self._module.lm.config.vocab_size)
        token_loss = LOSSES[loss.name](loss)
        batches = pack(samples, self._config.tokens_per_micro_batch, token_loss.weights, plan)
        trained = sum(int((batch.loss_mask != 0).sum()) for batch in batches)
        counts = self._sum_over_groups([
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
            self.steps_skipped += 1
            return metrics | {"loss": 0.0, "grad_norm": 0.0, "skipped": 1.0, "skipped_total": float(self.steps_skipped)}
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
        for whole in (batch.to(self._device) for batch in batches):
            batch, mine = self._sequence.stretch(whole)
            rows = token_rows(whole.predicted, whole.lengths)[mine]
            logprobs = self._engine(batch)
            losses = token_loss.token_losses(logprobs, batch.rollout_logprobs, batch.advantages, rows)
            total = (losses * batch.weights).sum() / normaliser
            self._engine.backward(total * self.world_size)  # DeepSpeed averages over ranks; ours is already the global mean
            with torch.no_grad():
                on = (batch.loss_mask != 0).float()
                figures = token_loss.token_metrics(logprobs, batch.rollout_logprobs, batch.advantages, batch.loss_mask, rows)
                for name, values in figures.items():
                    sums[name] = sums.get(name, zero) + (values * on).sum()
                sums["loss"] = sums.get("loss", zero) + total
                if "logprob_gap" in figures and len(on):
                    largest_gap = torch.maximum(largest_gap, (figures["logprob_gap"] * on).max())
        return {name: float(value) for name, value in sums.items()}, float(largest_gap)

    def _reduce_sums(self, sums: dict[str, float], trained_tokens: float) -> dict[str, float]:
        names = sorted(sums)
        totals = dict(zip(names, self._sum([sums[name] for name in names]), strict=True))
        return {name: total if name == "loss" else total / max(trained_tokens, 1.0) for name, total in totals.items()}

    def _apply_gradients(self, lr: float) -> dict[str, float]:
        for group in self._engine.optimizer.param_groups:
            group["lr"] = lr
        applied, norm = take_step(self._engine, self._config.zero_stage, self._optimizer.skip_grad_norm)
        self.steps_skipped += not applied
        return {
            "grad_norm": norm,
            "skipped": float(not applied),
            "skipped_total": float(self.steps_skipped),
        }

    @torch.no_grad()
    def token_logprobs(self, samples: list[TrainSample]) -> list[npt.NDArray[np.float32]]:
        """Log-prob of every token of each of this rank's samples given what precedes it, (T,); the first token's is 0."""
        result = [np.zeros(len(sample.token_ids), dtype=np.float32) for sample in samples]
        batches = pack(samples, self._config.tokens_per_micro_batch, lambda sample: np.ones(len(sample.token_ids), np.float32))
        batches += [empty_micro_batch()] * (int(self._max(float(len(batches)))) - len(batches))
        for batch in (batch.to(self._device) for batch in batches):
            stretch, mine = self._sequence.stretch(batch)
            values = torch.zeros(batch.token_ids.shape[1], device=self._device)
            values[batch.predicted[mine]] = self._engine(stretch)
            if self._sequence.group is not None:
                torch.distributed.all_reduce(values, group=self._sequence.group)
            for index, row in zip(batch.sample_indices, values.cpu().split(batch.lengths), strict=False):
                result[index][:] = row.numpy()
        return result

    def reference_logprobs(self, samples: list[TrainSample]) -> list[npt.NDArray[np.float32]]:
        """As `token_logprobs`, under the weights the training began with (loaded whole when first asked); not a collective."""
        if self._reference is None:
            temperature = self._module.logprobs.temperature
            self._reference = ReferenceLM(self._model_path, self.weights_dtype, self._device, temperature)
        return self._reference.token_logprobs(samples, self._config.tokens_per_micro_batch)

    def facts(self) -> LearnerFacts:
        """Model size, device and memory; not a collective."""
        return learner_facts(self._module.lm, self._device)

    # ---- weights and files --------------------------------------------------------------------------------------------

    def weights(self) -> Iterator[tuple[str, npt.NDArray[Any]]]:
        """(Hugging Face name, copy of the values) of every parameter, one gathered at a time; tied ones once.

        Low-rank adapters come merged into the weights they adapt. Every rank must run the iterator to its end. float32 arrays,
        or uint16 views of bfloat16 (see `weights_dtype`).
        """
        buckets = self.weight_buckets(0)
        for index in range(len(buckets)):
            with buckets.gathered(index) as tensors:
                copies = {name: as_array(values.to("cpu", copy=True)) for name, values in tensors.items()}
            yield from copies.items()

    @property
    def device(self) -> torch.device:
        """Where this rank computes."""
        return self._device

    def weight_buckets(self, bucket_bytes: int) -> WeightBuckets:
        """The weights in buckets of up to `bucket_bytes`; every rank must gather the same buckets in the same order."""
        return WeightBuckets(self._module.lm, self._config.zero_stage == 3, bucket_bytes)

    def save_checkpoint(self, folder: Path, client_state: dict[str, Any]) -> None:
        """Weights, optimizer, schedule position and random states, such that `folder` exists only when it is whole.

        With several machines `folder` must be on a file system that all of them share. Raises CheckpointError on every rank
        when one of them could not write; the checkpoints before it are untouched.
        """
        with self._written_together(folder, state_bytes(self._module)) as partial:
            state = {
                "client_state": client_state,
                "steps_done": self.steps_done,
                "steps_skipped": self.steps_skipped,
                "world_size": self.world_size,
            }
            save_engine_state(self._engine, partial, state, self.rank, self._config.zero_stage)

    def load_checkpoint(self, folder: Path) -> dict[str, Any]:
        """Go on from a checkpoint of the same model and ZeRO stage, by any number of ranks; returns its `client_state`.

        With the same number of ranks the next step is bit-equal to that of a run never stopped. With another number, weights,
        optimizer and schedule are the same, and random states start from the seed. Raises LearnerError.
        """
        try:
            self._all_wrote(None)  # nobody reads before everybody is here
            state = load_engine_state(self._engine, self._module, folder, self.rank, self.world_size, self._config.zero_stage)
        except CheckpointError as error:
            raise LearnerError(str(error)) from error
        if ranks_of_checkpoint(folder) != self.world_size:
            torch.manual_seed(self._seed + state["steps_done"])
        self.steps_done, self.steps_skipped = state["steps_done"], state["steps_skipped"]
        client_state: dict[str, Any] = state["client_state"]
        return client_state

    def export_hf(self, folder: Path) -> None:
        """A Hugging Face folder (config, safetensors, tokenizer files) that transformers and vLLM load."""
        with self._written_together(folder, state_bytes(self._module, weights_only=True)) as partial:
            state = {}
            for name, values in self.weights():
                if self.rank == 0:
                    tensor = torch.from_numpy(values)
                    state[name] = tensor.view(torch.bfloat16) if self.weights_dtype == "bfloat16" else tensor
            if self.rank == 0:
                without_weights(self._module.lm).save_pretrained(partial, state_dict=state)
                for name in TOKENIZER_FILES:
                    if (self._model_path / name).is_file():
                        shutil.copy2(self._model_path / name, partial / name)

    @contextmanager
    def _written_together(self, folder: Path, num_bytes: int) -> Iterator[Path]:
        """A partial folder that all ranks write into and rank 0 renames to `folder` once all have finished.

        When a rank fails, all raise CheckpointError and nothing is renamed.
        """
        partial = partial_folder(folder)
        failure: Exception | None = None
        try:
            if self.rank == 0:
                clear_folder(partial)
                require_space(partial, num_bytes)
        except OSError as error:
            failure = error
        self._all_wrote(failure, folder)
        try:
            yield partial
        except (OSError, RuntimeError) as error:  # torch's writer raises RuntimeError when the disk is full
            failure = error
        try:
            self._all_wrote(failure, folder)
        except CheckpointError:
            if self.rank == 0:
                shutil.rmtree(partial, ignore_errors=True)
            raise
        if self.rank == 0:
            publish_folder(partial, folder)
        self._sum([0.0])

    def _all_wrote(self, failure: Exception | None, folder: Path | None = None) -> None:
        """A barrier. Raises CheckpointError on every rank when one has failed."""
        failed = int(self._sum([float(failure is not None)])[0])
        if failed:
            why = f": {failure}" if failure else ""
            raise CheckpointError(f"{folder} was not written, {failed} of {self.world_size} ranks failed{why}") from failure

    def close(self) -> None:
        """Free the engine. Idempotent. The process group stays: DeepSpeed cannot start a second one in the same process."""
        if self._engine is not None:
            self._engine.destroy()
            self._engine = None

    # ---- numbers of all ranks -----------------------------------------------------------------------------------------

    def _sum_over_groups(self, values: list[float]) -> list[float]:
        """Sum over data-parallel groups: the ranks of a sequence group hold the same samples, and one of them counts."""
        return self._sum(values if self._sequence.index == 0 else [0.0] * len(values))

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
