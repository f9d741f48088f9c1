"""The learner's ranks as Ray actors, driven together: every method is one collective call on all of them."""

import asyncio
import contextlib
import functools
import os
import socket
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import ray
from ray.exceptions import RayActorError, RayError

from actors.engine_pool import EnginePool
from actors.ray_calls import arrives, cause_of, make_actor
from actors.weight_packing import ByteArray, WeightBucket, WeightsGoneError, pack_weights
from configs.optimizer_config import LearnerConfig, OptimizerConfig
from trainers.batch_planning import plan_micro_batches
from trainers.loss_spec import LossSpec
from trainers.train_sample import TrainSample
from trainers.training_speed import LearnerFacts

START_S = 300.0
CLOSE_S = 20.0
NATIVE_S = 240.0
"""One control message of a native transfer; below the pool's own limit for an update."""


class LearnerGroupError(RuntimeError):
    """A rank died, hung or failed; the group is closed and a new one goes on from the last checkpoint."""


class LearnerRank:
    """One rank: a DeepSpeedLearner in a process of its own. torch is imported in `start`, once its threads are set."""

    def __init__(self) -> None:
        self._learner: Any = None
        self._scratch: ByteArray | None = None
        self._sender: Any = None

    def meeting_point(self) -> tuple[str, int]:
        """This node's address and a port that is free now: where the ranks of the process group meet."""
        with socket.socket() as free:
            free.bind(("", 0))
            return ray.util.get_node_ip_address(), free.getsockname()[1]

    def start(
        self,
        model_path: str,
        dtype: str,
        optimizer: OptimizerConfig,
        learner: LearnerConfig,
        num_steps: int,
        rank: int,
        seed: int,
        meeting_point: tuple[str, int],
    ) -> None:
        """Join the process group and load the model."""
        os.environ["OMP_NUM_THREADS"] = str(learner.num_threads)
        from trainers.deepspeed_learner import DeepSpeedLearner

        address, port = meeting_point
        self._learner = DeepSpeedLearner(
            Path(model_path), dtype, optimizer, learner, num_steps, rank, learner.num_ranks, port, seed, address
        )

    def call(self, method: str, *args: Any) -> Any:
        """A method of the learner that returns plain data."""
        return getattr(self._learner, method)(*args)

    def packed_bucket(self, version: int, index: int, bucket_bytes: int) -> tuple[int, WeightBucket | None]:
        """How many buckets there are, and the `index`-th on rank 0; the other ranks take part in gathering it and give None.

        Two Ray objects: the driver awaits the first and hands the second on without fetching it.
        """
        buckets = self._learner.weight_buckets(bucket_bytes)
        count = len(buckets)
        packed = None
        with buckets.gathered(index) as tensors:
            if self._learner.rank == 0:
                from trainers.weight_buckets import as_array

                arrays = {name: as_array(values.cpu()) for name, values in tensors.items()}
                packed = pack_weights(arrays, version, index, count, self._scratch)
                self._scratch = packed.data if self._scratch is None or len(packed.data) > len(self._scratch) else self._scratch
        if index == count - 1:
            self._scratch = None
        return count, packed

    def connect_natively(
        self, backend: str, handles: list[Any], workers_per_engine: int, meeting_point: tuple[str, int], bucket_bytes: int
    ) -> None:
        """Join engines and this rank in a transfer group of vLLM's, in place of an earlier one."""
        from actors.native_transfer import BucketSource, EngineControl, NativeSender, trainer_info

        self.disconnect_natively()
        info = trainer_info(backend, self._learner.rank, len(handles) * workers_per_engine, meeting_point, bucket_bytes)
        source = BucketSource(self._learner.weight_buckets(bucket_bytes), self._learner.device)
        self._sender = NativeSender(info, EngineControl(handles, workers_per_engine, NATIVE_S), source)

    def disconnect_natively(self) -> None:
        """Leave the transfer group. Idempotent."""
        sender, self._sender = self._sender, None
        if sender is not None:
            sender.close()

    def send_natively(self, version: int) -> None:
        """This rank's part in a transfer of the present weights."""
        self._sender.send(version)

    def release_memory(self) -> None:
        """Give cached GPU memory back to the engine that shares the GPU."""
        import torch

        if torch.cuda.is_available():
            torch.cuda.empty_cache()


class LearnerGroup:
    """Learner ranks 0 to n-1, one actor each. After a LearnerGroupError the group is closed.

    >>> group = await LearnerGroup.start(model_dir, "float32", optimizer, learner, num_steps=25, seed=0)   # doctest: +SKIP
    >>> metrics = await group.train_step(samples, loss)                                                    # doctest: +SKIP
    """

    def __init__(self, ranks: list[Any], learner: LearnerConfig) -> None:
        self.ranks = ranks
        self._config = learner
        self._connected: tuple[int, int, tuple[int, ...]] | None = None
        self._changes = 0  # of the weights: steps, loaded checkpoints, resets
        self.temperature = 1.0
        """That of the distribution whose log-probs the ranks compute."""

    @classmethod
    async def start(
        cls,
        model_dir: str,
        dtype: str,
        optimizer: OptimizerConfig,
        learner: LearnerConfig,
        num_steps: int,
        seed: int,
        *,
        num_cpus: float = 0.0,
        num_gpus: float = 0.0,
        placement_group: Any = None,
    ) -> "LearnerGroup":
        """Start `learner.num_ranks` ranks, one in each bundle of `placement_group`. Raises LearnerGroupError."""
        options = {"num_cpus": num_cpus, "num_gpus": num_gpus}
        ranks = [make_actor(LearnerRank, placement_group, bundle, **options) for bundle in range(learner.num_ranks)]
        group = cls(ranks, learner)
        try:
            meeting_point = (await group._all("meeting_point", [()], START_S, ranks[:1]))[0]
            arguments = [
                (model_dir, dtype, optimizer, learner, num_steps, rank, seed, meeting_point) for rank in range(len(ranks))
            ]
            await group._all("start", arguments, START_S)
        except BaseException:
            group._kill()
            raise
        return group

    async def train_step(self, samples: Sequence[TrainSample], loss: LossSpec) -> dict[str, float]:
        """One optimizer step on all samples, shared out so that the ranks process similar numbers of tokens.

        Returns the metrics of DeepSpeedLearner.train_step; they hold for the union of the samples.
        """
        self._require_open("train_step")
        self._changes += 1
        arguments = []
        for plan in plan_for_ranks([planned_tokens(sample, loss) for sample in samples], self._config):
            share = [index for together in plan for index in together]
            place = {index: position for position, index in enumerate(share)}
            rows = [[place[index] for index in together] for together in plan]
            arguments.append(("train_step", [samples[index] for index in share], loss, rows))
        metrics: dict[str, float] = (await self._all("call", arguments, self._config.step_timeout_s))[0]
        return metrics

    async def token_logprobs(self, samples: Sequence[TrainSample]) -> list[npt.NDArray[np.float32]]:
        """Log-prob of every token of every sample, in the order of `samples`; the first token's is 0."""
        return await self._logprobs("token_logprobs", samples)

    async def reference_logprobs(self, samples: Sequence[TrainSample]) -> list[npt.NDArray[np.float32]]:
        """As `token_logprobs`, under the weights that the training began with; every rank then holds a frozen copy of them."""
        return await self._logprobs("reference_logprobs", samples)

    async def facts(self) -> LearnerFacts:
        """Of rank 0."""
        self._require_open("facts")
        facts: LearnerFacts = (await self._all("call", [("facts",)], START_S, self.ranks[:1]))[0]
        return facts

    async def _logprobs(self, method: str, samples: Sequence[TrainSample]) -> list[npt.NDArray[np.float32]]:
        self._require_open(method)
        plans = plan_for_ranks([len(sample.token_ids) for sample in samples], self._config)
        shares = [[index for together in plan for index in together] for plan in plans]
        arguments = [(method, [samples[index] for index in share]) for share in shares]
        answers = await self._all("call", arguments, self._config.step_timeout_s)
        found = {index: row for share, rows in zip(shares, answers, strict=True) for index, row in zip(share, rows, strict=True)}
        return [found[index] for index in range(len(samples))]

    async def sync_weights(self, engines: EnginePool, version: int) -> float:
        """Give the engines the present weights as policy `version`; returns seconds. The driver never holds the weights.

        They are gathered, packed and sent a bucket at a time (`learner.weight_bucket_mib`).
        """
        began = asyncio.get_running_loop().time()
        self._require_open("sync_weights")
        if engines.native_backend:

            async def send(taking: list[int]) -> None:
                await self._connect(engines, taking)
                await self._all("send_natively", [(version,)] * len(self.ranks), self._config.step_timeout_s)

            later = functools.partial(self._weight_refs, version, self._changes)
            await engines.update_natively(send, later, version)
        else:
            await engines.update_weights(self._weight_refs(version, self._changes), version)
        return asyncio.get_running_loop().time() - began

    async def _connect(self, engines: EnginePool, taking: list[int]) -> None:
        """A transfer group of these ranks and the engines `taking` as they are now; a restarted engine needs a new one."""
        wanted = (id(engines), engines.generation, tuple(taking))
        if self._connected != wanted:
            self._connected = None
            meeting_point = (await self._all("meeting_point", [()], START_S, self.ranks[:1]))[0]
            arguments = (
                engines.native_backend, [engines.handles[index] for index in taking], engines.workers_per_engine, meeting_point,
                self._config.weight_bucket_mib << 20,
            )  # fmt: skip
            await self._all("connect_natively", [arguments] * len(self.ranks), START_S)
            self._connected = wanted

    async def release_memory(self) -> None:
        """Before engines on the same GPUs wake up."""
        await self._all("release_memory", [()] * len(self.ranks), START_S)

    async def _weight_refs(self, version: int, changes: int) -> AsyncIterator[Any]:
        """Buckets of the weights as they were after so many `changes`. Raises WeightsGoneError where they are not any more: the
        ranks do one call after the other, so a bucket that is asked for before a step holds what was there before it."""
        bucket_bytes = self._config.weight_bucket_mib << 20
        index, count = 0, 1
        while index < count:
            if not self.ranks or self._changes != changes:
                raise WeightsGoneError(f"the learner does not hold version {version} any more")
            calls = [rank.packed_bucket.options(num_returns=2).remote(version, index, bucket_bytes) for rank in self.ranks]
            counts = await self._finished([count for count, _ in calls], self._config.step_timeout_s, "packing weights")
            yield calls[0][1]
            index, count = index + 1, counts[0]

    async def save(self, folder: Path, client_state: dict[str, Any]) -> None:
        """A checkpoint (weights, optimizer, random states) that appears under its name only when whole."""
        await self._same("save_checkpoint", Path(folder), client_state)

    async def load(self, folder: Path) -> dict[str, Any]:
        """Go on from a checkpoint; returns its `client_state`."""
        self._changes += 1
        state: dict[str, Any] = await self._same("load_checkpoint", Path(folder))
        return state

    async def export(self, folder: Path) -> None:
        """A Hugging Face folder that engines and transformers load."""
        await self._same("export_hf", Path(folder))

    async def reset(self, model_dir: str, optimizer: OptimizerConfig, num_steps: int, temperature: float = 1.0) -> None:
        """Begin another training from `model_dir` in the same processes: fresh optimizer, schedule and random state. Log-probs
        are then of softmax(logits / temperature)."""
        self._changes += 1
        await self._same("reset", Path(model_dir), optimizer, num_steps, temperature)
        self.temperature = temperature

    async def close(self) -> None:
        """End all ranks. Idempotent."""
        ranks, self.ranks = self.ranks, []
        leaving = asyncio.gather(*(arrives(rank.call.remote("close")) for rank in ranks), return_exceptions=True)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(leaving, CLOSE_S)
        for rank in ranks:
            ray.kill(rank)

    async def _same(self, method: str, *args: Any) -> Any:
        """The same call on every rank; rank 0's answer."""
        self._require_open(method)
        return (await self._all("call", [(method, *args)] * len(self.ranks), self._config.step_timeout_s))[0]

    async def _all(
        self, method: str, arguments: list[tuple[Any, ...]], timeout_s: float, ranks: list[Any] | None = None
    ) -> list[Any]:
        what = str(arguments[0][0]) if method == "call" else method
        ranks = self.ranks if ranks is None else ranks
        refs = [getattr(rank, method).remote(*args) for rank, args in zip(ranks, arguments, strict=True)]
        return await self._finished(refs, timeout_s, what)

    async def _finished(self, refs: list[Any], timeout_s: float, what: str) -> list[Any]:
        """All ranks' answers. When one fails the others would wait for it in a collective for ever: they are ended."""
        failed: int | None = None

        async def one(rank: int, ref: Any) -> Any:
            nonlocal failed
            try:
                return await ref
            except RayError:
                failed = rank if failed is None else failed
                raise

        waiting = asyncio.gather(*(one(rank, ref) for rank, ref in enumerate(refs)))
        try:
            return await asyncio.wait_for(waiting, timeout_s)
        except TimeoutError as error:
            reason = f"{what}: not finished within {timeout_s:g} s (learner.step_timeout_s)"
            self._kill()
            raise LearnerGroupError(reason) from error
        except RayError as error:
            reason = "died" if isinstance(error, RayActorError) else cause_of(error)
            self._kill()
            raise LearnerGroupError(f"{what}: learner rank {failed} of {len(refs)}: {reason}") from error

    def _require_open(self, what: str) -> None:
        if not self.ranks:
            raise LearnerGroupError(f"{what}: the learner group is closed")

    def _kill(self) -> None:
        ranks, self.ranks = self.ranks, []
        for rank in ranks:
            ray.kill(rank)


def planned_tokens(sample: TrainSample, loss: LossSpec) -> int:
    """Tokens the learner will compute for a sample: none when no token of it can have a weight in the loss.

    Such a sample still goes to a rank, which counts it.
    """
    trains = sample.advantages.any() or loss.context_loss_weight or loss.name == "cross_entropy"
    return len(sample.token_ids) if trains else 0


def plan_for_ranks(tokens: Sequence[int], learner: LearnerConfig) -> list[list[list[int]]]:
    """By rank, by micro-batch: indices of samples. The ranks of a sequence group get the same ones.

    >>> plan_for_ranks([5, 1, 4, 2], LearnerConfig(num_ranks=2, tokens_per_micro_batch=8))
    [[[0, 1]], [[2, 3]]]
    """
    size = learner.sequence_parallel
    groups = plan_micro_batches(tokens, max(learner.num_ranks // size, 1), learner.tokens_per_micro_batch)
    return [groups[rank // size] for rank in range(learner.num_ranks)]
