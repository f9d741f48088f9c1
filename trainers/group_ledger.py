"""What outlives the process: which groups were begun, which are finished, which step trained which."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from trainers.group_key import GroupKey
from verifier.reward import Group


@dataclass(frozen=True)
class LedgerState:
    """What earlier processes of the run left, seen from the checkpoint that this one begins with.

    `taken` are the steps from that checkpoint on that were trained or about to be: they are trained again, on the same groups.
    `playing` (key to policy version at its start) are groups that were not finished, `complete` those that were and that no
    step has taken; groups of steps before the checkpoint are only in the counts. `rejected` came to nothing.
    """

    taken: Mapping[int, Sequence[GroupKey]] = field(default_factory=dict)
    playing: Mapping[GroupKey, int] = field(default_factory=dict)
    complete: Mapping[GroupKey, int] = field(default_factory=dict)
    next_position: int = 0
    accepted: int = 0
    rejected: Collection[GroupKey] = ()


class GroupNotKeptError(RuntimeError):
    """A finished group could not be put on record (a full disk?); the run ends rather than lose it."""


class GroupLedger(Protocol):
    """Every method returns when the fact would survive a kill -9."""

    def opened(self) -> LedgerState:
        """What is there to go on with."""
        ...

    def submitted(self, key: GroupKey, version: int) -> None:
        """The group is being played, begun with weights of `version`; what was recorded of it before counts no more."""
        ...

    async def completed(self, key: GroupKey, group: Group) -> None:
        """The group is finished and waits for a step."""
        ...

    def load(self, key: GroupKey) -> Group:
        """A finished group."""
        ...

    def taken(self, step: int, keys: Sequence[GroupKey]) -> None:
        """Step `step` trains on exactly these groups; written before it does."""
        ...

    def rejected(self, key: GroupKey, reason: str) -> None:
        """The group will never train."""
        ...


class NoLedger:
    """Nothing outlives the process: a resumed run begins its groups anew at its checkpoint's step."""

    def __init__(self, start_step: int = 0, groups_per_step: int = 0) -> None:
        self._next = start_step * groups_per_step

    def opened(self) -> LedgerState:
        return LedgerState(next_position=self._next)

    def submitted(self, key: GroupKey, version: int) -> None:
        """Forgotten."""

    async def completed(self, key: GroupKey, group: Group) -> None:
        """Forgotten."""

    def load(self, key: GroupKey) -> Group:
        raise KeyError(f"no group {key}: nothing is kept")

    def taken(self, step: int, keys: Sequence[GroupKey]) -> None:
        """Forgotten."""

    def rejected(self, key: GroupKey, reason: str) -> None:
        """Forgotten."""
