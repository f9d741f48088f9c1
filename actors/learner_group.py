"""The learner's ranks as Ray actors, driven together: every method is one collective call on all of them."""

import asyncio
import contextlib
import os
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import ray
from ray.exceptions import RayActorError, RayError

from actors.engine_pool import EnginePool
from actors.ray_calls import arrives, cause_of, make_actor
from actors.weight_sync import WeightBuffer, pack_weights
from configs.optimizer_config import LearnerConfig, OptimizerConfig
from trainers.batch_planning import plan_micro_batches
from trainers.loss_spec import LossSpec
from trainers.train_sample import TrainSample

START_S = 300.0
CLOSE_S = 20.0


class LearnerGroupError(RuntimeError):
    """A rank died, hung or failed; the group is closed and a new one goes on from the last checkpoint."""


class LearnerRank:
    """One rank: a DeepSpeedLearner in a process of its own. torch is imported in `start`, once its threads are set."""

    def __init__(self) -> None:
        self._learner: Any = None

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

    def packed_weights(self, version: int) -> tuple[bool, WeightBuffer | None]:
        """All parameters in one buffer on rank 0; the other ranks take part in gathering them and give None.

        Two Ray objects: the driver awaits the first and hands the second on without fetching it.
        """
        if self._learner.rank != 0:
            for _ in self._learner.weights():
                pass
            return True, None
        return True, pack_weights(dict(self._learner.weights()), version)


class LearnerGroup:
    """Learner ranks 0 to n-1, one actor each. After a LearnerGroupError the group is closed.

    >>> group = await LearnerGroup.start(model_dir, "float32", optimizer, learner, num_steps=25, seed=0)   # doctest: +SKIP
    >>> metrics = await group.train_step(samples, loss)                                                    # doctest: +SKIP
    """

    def __init__(self, ranks: list[Any], learner: LearnerConfig) -> None:
        self.ranks = ranks
        self._config = learner

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

    async def _logprobs(self, method: str, samples: Sequence[TrainSample]) -> list[npt.NDArray[np.float32]]:
        self._require_open(method)
        plans = plan_for_ranks([len(sample.token_ids) for sample in samples], self._config)
        shares = [[index for together in plan for index in together] for plan in plans]
        arguments = [(method, [samples[index] for index in share]) for share in shares]
        answers = await self._all("call", arguments, self._config.step_timeout_s)
        found = {index: row for share, rows in zip(shares, answers, strict=True) for index, row in zip(share, rows, strict=True)}
        return [found[index] for index in range(len(samples))]

    async def sync_weights(self, engines: EnginePool, version: int) -> float:
        """Give the engines the present weights as policy `version`; returns seconds. The driver never holds the weights."""
        began = asyncio.get_running_loop().time()
        self._require_open("sync_weights")
        refs = [rank.packed_weights.options(num_returns=2).remote(version) for rank in self.ranks]
        await self._finished([done for done, _ in refs], self._config.step_timeout_s, "packing weights")
        await engines.update_weights(refs[0][1], version)
        return asyncio.get_running_loop().time() - began

    async def save(self, folder: Path, client_state: dict[str, Any]) -> None:
        """A checkpoint (weights, optimizer, random states) that appears under its name only when whole."""
        await self._same("save_checkpoint", Path(folder), client_state)

    async def load(self, folder: Path) -> dict[str, Any]:
        """Go on from a checkpoint; returns its `client_state`."""
        state: dict[str, Any] = await self._same("load_checkpoint", Path(folder))
        return state

    async def export(self, folder: Path) -> None:
        """A Hugging Face folder that engines and transformers load."""
        await self._same("export_hf", Path(folder))

    async def reset(self, model_dir: str, optimizer: OptimizerConfig, num_steps: int) -> None:
        """Begin another training from `model_dir` in the same processes: fresh optimizer, schedule and random state."""
        await self._same("reset", Path(model_dir), optimizer, num_steps)

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
