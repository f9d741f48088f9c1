"""Which groups are in flight and what the next step may take: the books of the rollout window, without clock or tasks."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from trainers.group_key import GroupKey

LATE_GROUPS = ("cut", "mask", "drop")
"""What happens to a group that one more step would make too old; see GRPOConfig.late_groups."""


class WindowStateError(RuntimeError):
    """The books do not balance: a bug."""


@dataclass
class WindowState:
    """`playing` and `complete` map a group in flight to the policy version that it was begun with.

    submitted - accepted - rejected = len(playing) + len(complete) holds after every call and is checked.
    """

    groups_per_step: int
    max_staleness: int
    late_groups: str
    playing: dict[GroupKey, int] = field(default_factory=dict)
    complete: dict[GroupKey, int] = field(default_factory=dict)
    submitted: int = 0
    accepted: int = 0
    rejected: int = 0

    def room(self, step: int, num_steps: int, position: int) -> int:
        """How many groups may be begun with the weights of `step`: so many that the youngest trains `max_staleness` steps
        later, and none that no step would train. `position`: how many of the plan were begun. A synchronous step plays its own
        plan only, so that what failed in it is not made up for."""
        ahead = min(self.max_staleness + 1, num_steps - step)
        room = ahead * self.groups_per_step - self.num_running
        if self.max_staleness == 0:
            room = min(room, (step + 1) * self.groups_per_step - position)
        return max(room, 0)

    @property
    def num_running(self) -> int:
        return len(self.playing) + len(self.complete)

    def submit(self, key: GroupKey, version: int) -> None:
        if key in self.playing or key in self.complete:
            raise WindowStateError(f"group {key} is in flight already")
        self.playing[key] = version
        self.submitted += 1
        self.check()

    def forgive(self) -> None:
        """A group that an earlier process had rejected is going to be submitted again: it counts once."""
        self.submitted -= 1
        self.rejected -= 1
        self.check()

    def finish(self, key: GroupKey) -> None:
        self.complete[key] = self.playing.pop(key)
        self.check()

    def reject(self, key: GroupKey) -> None:
        place = self.playing if key in self.playing else self.complete
        del place[key]
        self.rejected += 1
        self.check()

    def accept(self, keys: Sequence[GroupKey]) -> None:
        for key in keys:
            del self.complete[key]
        self.accepted += len(keys)
        self.check()

    def overdue(self, step: int) -> list[GroupKey]:
        """Groups still played that a step after `step` could not train on, oldest first."""
        return sorted(key for key in self._planned(self.playing, step) if self.playing[key] <= step - self.max_staleness)

    def must_wait(self, step: int) -> bool:
        """Whether step `step` is short of groups and more may come, or must not go on without an overdue one."""
        if not self._planned(self.playing, step):
            return False
        return len(self._planned(self.complete, step)) < self.groups_per_step or (
            self.late_groups == "cut" and bool(self.overdue(step))
        )

    def to_cut(self, step: int) -> list[GroupKey]:
        """Once the step's time is up: what must end with the members it has. Oldest first: everything overdue, and more until
        the step is full. Nothing when late groups are masked or dropped later on instead."""
        if self.late_groups != "cut":
            return []
        overdue = self.overdue(step)
        others = sorted(set(self._planned(self.playing, step)) - set(overdue))
        missing = self.groups_per_step - len(self._planned(self.complete, step)) - len(overdue)
        return overdue + others[: max(missing, 0)]

    def batch(self, step: int) -> list[GroupKey]:
        """What step `step` trains on, oldest first: every finished group that a later step could not, then the oldest others."""
        finished = self._planned(self.complete, step)
        last_chance = [key for key in finished if self.complete[key] <= step - self.max_staleness]
        others = sorted(set(finished) - set(last_chance))
        return sorted(last_chance + others[: max(self.groups_per_step - len(last_chance), 0)])

    def _planned(self, keys: Iterable[GroupKey], step: int) -> list[GroupKey]:
        """Without the step's own replacements (left by a process that died): the step asks for them when it needs them."""
        return [key for key in keys if key.step != step or key.index < self.groups_per_step]

    def metrics(self) -> dict[str, float]:
        return {
            "window/submitted": float(self.submitted),
            "window/accepted": float(self.accepted),
            "window/rejected": float(self.rejected),
            "window/running": float(self.num_running),
            "window/waiting": float(len(self.complete)),
        }

    def check(self) -> None:
        """Raises WindowStateError when a group was lost or counted twice."""
        if self.submitted - self.accepted - self.rejected != self.num_running or self.playing.keys() & self.complete.keys():
            raise WindowStateError(
                f"{self.submitted} groups submitted, {self.accepted} accepted and {self.rejected} rejected do not leave the "
                f"{len(self.playing)} played and {len(self.complete)} finished ones"
            )
