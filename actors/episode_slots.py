"""How many episodes of a rollout worker run at once, and who is next."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

LETS_PASS = 32
"""So many training groups may go before a waiting evaluation; then it is next, or training that always fills the slots would
keep it waiting for ever."""


@dataclass
class _Claim:
    count: int
    evaluation: bool
    passed: int = 0  # training groups that got slots while this one waited
    held: bool = False
    granted: asyncio.Event = field(default_factory=asyncio.Event)


class EpisodeSlots:
    """Lets at most `total` episodes run at once; a group takes all of its slots together.

    Training groups go first, in the order they came; evaluations follow in theirs, and hold at most half of the slots (or one
    group's), so that training finds room at once. A group larger than `total` takes all there are: its episodes still run at
    once.
    """

    def __init__(self, total: int) -> None:
        self._total = self._free = total
        self._evaluating = 0
        self._waiting: list[_Claim] = []

    @asynccontextmanager
    async def take(self, count: int, evaluation: bool = False) -> AsyncIterator[None]:
        """Hold `count` slots; waits for them as long as the caller does."""
        claim = _Claim(min(count, self._total), evaluation)
        self._waiting.append(claim)
        self._hand_out()
        try:
            await claim.granted.wait()
            yield
        finally:
            if claim.held:
                self._free += claim.count
                self._evaluating -= claim.count * evaluation
            else:
                self._waiting.remove(claim)
            self._hand_out()

    def _hand_out(self) -> None:
        """Slots to whoever is next, until it needs more than are free: nobody overtakes it then."""
        while (claim := self._next()) is not None and claim.count <= self._free:
            self._waiting.remove(claim)
            self._free -= claim.count
            self._evaluating += claim.count * claim.evaluation
            for other in self._waiting:
                other.passed += not claim.evaluation
            claim.held = True
            claim.granted.set()

    def _next(self) -> _Claim | None:
        training = [claim for claim in self._waiting if not claim.evaluation]
        evaluations = [claim for claim in self._waiting if claim.evaluation and self._may_evaluate(claim.count)]
        patient = [claim for claim in evaluations if claim.passed >= LETS_PASS]
        return next(iter(patient or training or evaluations), None)

    def _may_evaluate(self, count: int) -> bool:
        return self._evaluating == 0 or self._evaluating + count <= self._total // 2
