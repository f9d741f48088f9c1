"""The engine, its mailbox and its admission gate in one Ray actor."""

import asyncio
import time
from dataclasses import replace

from actors.busy_clock import BusyClock
from actors.engine_mailbox import Answer, EngineRequest, Mailbox
from actors.engines.vllm_engine import VLLMEngine
from actors.kv_admission import AdmissionGate, KVAdmission
from configs.model_config import EngineConfig
from envpool.policy import Completion

LOOK_S = 0.02
"""While the next step is waited for."""


class EngineActor(VLLMEngine):
    """What the pool makes Ray actors of. Requests come in through `exchange` only."""

    def __init__(self) -> None:
        super().__init__()
        self._mailbox = Mailbox(self._serve)
        self._busy = BusyClock()
        self._let_in: dict[str, float] = {}
        """`gauges.worked_s` when a request that runs was let in."""
        self._gate = AdmissionGate(KVAdmission(limit=1, ceiling=1))

    async def start(self, model_dir: str, engine: EngineConfig, dtype: str, stale: bool = False, sleeps: bool = False) -> float:
        """See VLLMEngine.start. Admission begins at `engine.max_num_seqs` and gives way to the KV cache's pressure."""
        ceiling = engine.max_num_seqs
        self._gate = AdmissionGate(KVAdmission(limit=ceiling, ceiling=ceiling))
        self.gauges.on_observed = self._gate.observe
        return await super().start(model_dir, engine, dtype, stale, sleeps)

    async def exchange(self, caller: str, requests: list[EngineRequest]) -> list[Answer]:
        """See `Mailbox.exchange`."""
        return await self._mailbox.exchange(caller, requests)

    async def abort(self, request_id: str) -> None:
        """Stop a request nobody waits for any more, in the engine or before it."""
        self._mailbox.cancel(request_id)

    async def model_s(self, request_id: str) -> float:
        """Seconds the engine has worked (see EngineGauges.worked_s) since it let this request in; 0 for one that waits, or that
        is not here.

        Known after its next step, which is waited for, but no longer than one may take: then the engine hangs.
        """
        if (began := self._let_in.get(request_id)) is None:
            return 0.0
        gauges = self.gauges
        steps, hangs = gauges.steps, time.monotonic() + gauges.longest_step_s
        while gauges.steps == steps and request_id in self._let_in and time.monotonic() < hangs:  # noqa: ASYNC110
            await asyncio.sleep(LOOK_S)
        return gauges.worked_s - began

    async def stats(self) -> dict[str, float]:
        """See VLLMEngine.stats; also `admission_limit`, `admission_cuts`, `admitted` and `admission_waiting` requests, and the
        sums of `BusyClock`."""
        gate = self._gate
        return {
            **await super().stats(),
            "admission_limit": gate.admission.limit,
            "admission_cuts": gate.admission.cuts,
            "admitted": gate.running,
            "admission_waiting": gate.waiting,
            "busy_s": self._busy.busy_s,
            "request_s": self._busy.request_s,
            "waiting_s": self._busy.waiting_s,
        }

    async def _serve(self, request: EngineRequest) -> Completion:
        with self._busy.request() as let_in:
            async with self._gate.admitted(request.session_id):
                let_in()
                began = self._let_in[request.request_id] = self.gauges.worked_s
                try:
                    completion = await self.generate(
                        request.request_id, request.prompt_ids, request.max_tokens, request.temperature, request.seed
                    )
                finally:
                    del self._let_in[request.request_id]
                return replace(completion, model_s=self.gauges.worked_s - began)
