"""Do engine and learner hold the same weights? Both give log-probs for tokens that the engine sampled after a sync.

They differ by rounding (float32 1e-6, bfloat16 1e-2 nats on average); more means a wrong transfer, a stale cache or another
computation, and then importance weights and rewards are about a policy that nobody trains.
"""

import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import numpy as np

from actors.engine_pool import EnginePool
from actors.weight_packing import WeightSyncError
from configs.model_config import SyncCheckConfig
from envpool.policy import Completion, FloatArray, GenerateRequest, IntArray, PolicyError
from trainers.train_sample import TrainSample

logger = logging.getLogger(__name__)

TokenLogprobs = Callable[[Sequence[TrainSample]], Awaitable[list[FloatArray]]]


class LogprobGapError(WeightSyncError):
    """Engine and learner disagree by more than `engine.sync_check.stop_gap`."""


@dataclass(frozen=True)
class LogprobGap:
    """Over tokens that the engine sampled: mean and largest |difference| in nats, and k3, an estimate of KL(engine, learner)
    (mean of r - 1 - log r, r = p_learner / p_engine; http://joschu.net/blog/kl-approx.html)."""

    mean: float
    largest: float
    kl: float
    num_tokens: int

    def metrics(self) -> dict[str, float]:
        """As they go to the log."""
        return {
            "sync/gap_mean": self.mean,
            "sync/gap_max": self.largest,
            "sync/gap_kl": self.kl,
            "sync/gap_tokens": self.num_tokens,
        }


def measure_gap(engine: Sequence[FloatArray], learner: Sequence[FloatArray]) -> LogprobGap:
    """The gap over rows of log-probs of the same tokens. NaN where one of them is counts as infinite.

    >>> measure_gap([np.float32([-1.0, -2.0])], [np.float32([-1.0, -2.5])]).mean
    0.25
    """
    logs = np.concatenate([theirs.astype(np.float64) - ours for ours, theirs in zip(engine, learner, strict=True)])
    logs[~np.isfinite(logs)] = np.inf
    size = np.abs(logs)
    with np.errstate(over="ignore", invalid="ignore"):
        kl = np.where(np.isfinite(logs), np.expm1(logs) - logs, np.inf)
    return LogprobGap(float(size.mean()), float(size.max()), float(kl.mean()), len(logs))


def require_small_gap(gap: LogprobGap, config: SyncCheckConfig, what: str) -> None:
    """Warn above `warn_gap`. Raises LogprobGapError above `stop_gap`."""
    text = (
        f"{what}: engine and learner differ by {gap.mean:.3g} nats per token on average, {gap.largest:.3g} at most "
        f"(KL {gap.kl:.3g}, {gap.num_tokens} tokens)"
    )
    if 0 < config.stop_gap < gap.mean:
        raise LogprobGapError(f"{text}; engine.sync_check.stop_gap is {config.stop_gap:g}")
    if 0 < config.warn_gap < gap.mean:
        logger.warning("%s; engine.sync_check.warn_gap is %g", text, config.warn_gap)


async def sync_metrics(
    pool: EnginePool,
    token_logprobs: TokenLogprobs,
    prompts: Sequence[IntArray],
    version: int,
    config: SyncCheckConfig,
    temperature: float,
) -> dict[str, float]:
    """The metrics of `check_sync`. An engine that breaks during the check costs the check, not the run: a warning, and 0
    `sync/gap_tokens`. Raises LogprobGapError and WeightSyncError."""
    try:
        return (await check_sync(pool, token_logprobs, prompts, version, config, temperature)).metrics()
    except PolicyError as error:
        logger.warning("version %d: log-probs of engine and learner were not compared: %s", version, error)
        return {"sync/gap_tokens": 0.0}


async def check_sync(
    pool: EnginePool,
    token_logprobs: TokenLogprobs,
    prompts: Sequence[IntArray],
    version: int,
    config: SyncCheckConfig,
    temperature: float = 1.0,
) -> LogprobGap:
    """Let every engine go on from the beginnings of `prompts`, let the learner score what they sampled, compare.

    `temperature` is that of the log-probs which `token_logprobs` gives. Raises LogprobGapError; WeightSyncError when an engine
    samples from another version than `version`; PolicyError when an engine broke meanwhile.
    """
    longest = min(config.prompt_tokens, pool.max_model_len - config.num_tokens)
    requests = [
        GenerateRequest(f"sync-check-{index}", (), prompt[:longest], config.num_tokens, temperature, seed=index)
        for index, prompt in enumerate(prompts[: config.num_prompts])
    ]
    answers = await pool.ask_each(requests)
    for index, completion in ((index, completion) for index, row in answers.items() for completion in row):
        if (found := set(completion.policy_versions.tolist())) != {version}:
            raise WeightSyncError(f"engine {index} samples from version {sorted(found)} after it took version {version}")
    pairs = [(request, completion) for row in answers.values() for request, completion in zip(requests, row, strict=True)]
    scored = await token_logprobs([_sample(request, completion) for request, completion in pairs])
    learner = [row[-len(completion.token_ids) :] for row, (_, completion) in zip(scored, pairs, strict=True)]
    gap = measure_gap([completion.rollout_logprobs for _, completion in pairs], learner)
    require_small_gap(gap, config, f"version {version}")
    return gap


def _sample(request: GenerateRequest, completion: Completion) -> TrainSample:
    ids = np.concatenate([request.prompt_ids, completion.token_ids]).astype(np.int32)
    zeros = np.zeros(len(ids), np.float32)
    return TrainSample(ids, np.zeros(len(ids), np.int8), zeros, zeros, np.zeros(len(ids), np.int32), "sync-check")
