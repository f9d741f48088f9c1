"""What a rollout worker needs for rollouts without containers: the world model and its grader."""

import zlib
from typing import Any

from configs.run_config import RunConfig
from envpool.chat.chat_format import ChatFormat
from envpool.endpoints.endpoint_policy import EndpointPolicy
from envpool.policy import Generate
from envpool.pool.sandbox_pool import SandboxPool
from envpool.simulation.simulated_sandbox import SimulateText
from verifier.audit import AuditRule
from verifier.calibration import calibration_from_dict
from verifier.curator_context import CuratorContext
from verifier.grade_cache import GradeCache
from verifier.hybrid_grading import Grader, HybridGrader
from verifier.scorer_prompt import ScorerContext
from verifier.simulated_scoring import Vote
from verifier.world_model_client import WorldModelClient


class Simulation:
    """`generate` None takes world_model.endpoint. With sandbox.backend=simulated, commands are simulated; with
    verifier.grader=hybrid, rewards are, and audits run in sandboxes of `pool`. Raises ValueError for a calibration that cannot be
    read."""

    def __init__(
        self,
        config: RunConfig,
        chat: ChatFormat,
        generate: Generate | None,
        calibration: dict[str, Any],
        pool: SandboxPool,
        cache: GradeCache,
    ) -> None:
        self._client = WorldModelClient(
            generate or _endpoint(config, chat), chat, config.world_model, config.engine.max_model_len
        )
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
        """Nothing to close here: the sandboxes are those of the worker's own pool."""

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
            rule=AuditRule(verifier.audit_share, slack=verifier.audit_slack, threshold=verifier.audit_threshold),
            context=config.world_model.context,
            grading_timeout_s=verifier.grading_timeout_s,
            protect_test_setup=verifier.protect_test_setup,
            seed=config.seed,
            cache=cache,
        )


def _endpoint(config: RunConfig, chat: ChatFormat) -> EndpointPolicy:
    endpoint = config.world_model.endpoint
    return EndpointPolicy(endpoint.base_url, endpoint.model, chat, endpoint.api_key_env, endpoint.request_timeout_s)


def _session(context: ScorerContext) -> str:
    """Patches of one issue go to one engine, whose prefix cache then holds what they share."""
    seen = context.deployable if isinstance(context, CuratorContext) else context
    return f"swr/{zlib.crc32(seen.problem_statement.encode('utf-8', 'replace'))}"
