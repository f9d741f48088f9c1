"""What a rollout worker needs for rollouts without containers: the world model and its grader."""

import hashlib
import zlib
from dataclasses import asdict
from pathlib import Path
from typing import Any

import orjson

from actors.worker_policies import WORLD_LEDGERS, world_model_policy
from configs.run_config import RunConfig
from envpool.chat.chat_format import ChatFormat
from envpool.policy import Generate
from envpool.pool.sandbox_pool import SandboxPool
from envpool.simulation.simulated_sandbox import SimulateText
from verifier.audit import AuditRule, AuditState
from verifier.calibration import calibration_from_dict
from verifier.curator_context import CuratorContext
from verifier.grade_cache import GradeCache
from verifier.hybrid_grading import Grader, HybridGrader
from verifier.reward_record import RewardRecord, read_record, write_record
from verifier.scorer_prompt import ScorerContext
from verifier.simulated_scoring import Vote
from verifier.world_model_client import WorldModelClient


class Simulation:
    """`generate` None takes world_model.endpoint. With sandbox.backend=simulated, commands are simulated; with
    verifier.grader=hybrid, rewards are, and audits run in sandboxes of `pool`. `record` is the file in which this worker's costs
    and audits are kept: it goes on where an earlier process of it ended; an endpoint's ledger lies in a folder beside its own.
    Raises ValueError for a calibration that cannot be read."""

    def __init__(
        self,
        config: RunConfig,
        chat: ChatFormat,
        generate: Generate | None,
        calibration: dict[str, Any],
        pool: SandboxPool,
        cache: GradeCache,
        record: Path | None = None,
    ) -> None:
        ledger = None if record is None else record.parent.parent / WORLD_LEDGERS / f"{record.stem}.jsonl"
        self._endpoint = None if generate else world_model_policy(config, chat, ledger, config.cluster.num_rollout_workers)
        asked = generate or self._endpoint
        assert asked is not None
        verifier = config.verifier
        self._rule = AuditRule(verifier.audit_share, slack=verifier.audit_slack, threshold=verifier.audit_threshold)
        self._path, self._watched = record, _watch(config, calibration, self._rule)
        fresh = RewardRecord(AuditState(self._rule.base_share))
        self._record = fresh if record is None else read_record(record, fresh, self._watched)
        self._client = WorldModelClient(asked, chat, config.world_model, config.engine.max_model_len, self._record.usage)
        self._grader = self._hybrid_grader(config, calibration, pool, cache)
        self.simulate: SimulateText | None = self._client.simulate if config.sandbox.backend == "simulated" else None
        """Answers for commands that execute code; None where they really run."""

    @property
    def grader(self) -> Grader | None:
        """None where hidden tests decide."""
        return self._grader

    def figures(self) -> dict[str, float]:
        """Calls and tokens of the world model; costs, share and alarms of the audits."""
        usage = self._client.usage
        counts = {"world_calls": usage.calls, "world_prompt_tokens": usage.prompt_tokens, "world_tokens": usage.answer_tokens}
        return {**counts, **(self._grader.figures() if self._grader is not None else {})}

    async def close(self) -> None:
        """Write the record and close the endpoint; the sandboxes are those of the worker's own pool."""
        self._save(self._record)
        if self._endpoint is not None:
            await self._endpoint.close()

    def _hybrid_grader(
        self, config: RunConfig, calibration: dict[str, Any], pool: SandboxPool, cache: GradeCache
    ) -> HybridGrader | None:
        verifier = config.verifier
        if verifier.grader != "hybrid":
            return None

        async def score(context: ScorerContext, seed: int) -> tuple[Vote | None, ...]:
            return await self._client.votes(_session(context), context, seed)

        return HybridGrader(
            score=score,
            calibrate=calibration_from_dict(calibration),
            pool=pool,
            rule=self._rule,
            context=config.world_model.context,
            grading_timeout_s=verifier.grading_timeout_s,
            protect_test_setup=verifier.protect_test_setup,
            seed=config.seed,
            cache=cache,
            record=self._record,
            save=self._save,
        )

    def _save(self, record: RewardRecord) -> None:
        if self._path is not None:
            write_record(self._path, record, self._watched)


def _watch(config: RunConfig, calibration: dict[str, Any], rule: AuditRule) -> str:
    """A short name of what the audits are about: scorer, calibration and rule."""
    world = config.world_model
    told = [calibration, asdict(rule), world.context, world.show_observed, world.endpoint.base_url, world.endpoint.model]
    return hashlib.sha256(orjson.dumps(told, option=orjson.OPT_SORT_KEYS)).hexdigest()[:16]


def _session(context: ScorerContext) -> str:
    """Patches of one issue go to one engine, whose prefix cache then holds what they share."""
    seen = context.deployable if isinstance(context, CuratorContext) else context
    return f"swr/{zlib.crc32(seen.problem_statement.encode('utf-8', 'replace'))}"
