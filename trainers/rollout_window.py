"""The rollouts in flight: begins groups ahead of the learner, hands each step its own, never lets one grow too old."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Protocol

from configs.grpo_config import GRPOConfig
from envpool.policy import PolicyError
from envpool.sandbox_errors import SandboxError
from trainers.group_key import GroupKey
from trainers.group_ledger import GroupLedger, GroupNotKeptError
from trainers.rollout_metrics import newest_version
from trainers.window_state import WindowState
from verifier.reward import Group

logger = logging.getLogger(__name__)

CUT_S = 60.0
"""A group that was cut has this long to end with the members it has."""
CANCEL_S = 60.0
"""Cancelled rollouts have this long to close their sandboxes."""

INFRASTRUCTURE = (SandboxError, PolicyError, OSError)
"""What may break under a group without ending the run: sandboxes, engines, the machine (TimeoutError and ConnectionError are
OSErrors). Anything else is a bug."""

Sampler = Callable[[int], list[str]]
"""The `groups_per_step` task ids of a step."""
Played = tuple[GroupKey, Group]


class Rollouts(Protocol):
    async def play(self, key: GroupKey, version: int, resumed: bool) -> Group:
        """All episodes of a group, by weights of at least `version` (= batches trained on). `resumed`: a process that is gone
        began it; what it finished is not played again. Raises one of INFRASTRUCTURE when the group is lost; any other error
        ends the run."""
        ...

    async def cut(self, key: GroupKey) -> None:
        """Let a group that is being played end soon, with the members that are finished."""
        ...


class RolloutsFailedError(RuntimeError):
    """No group of a step could be played."""


class RolloutWindow:
    """Owned by one run of the loop. Who wakes whom: `collect` sleeps until a group ends or the step's time is up;
    groups wait for nothing but their episodes."""

    def __init__(self, config: GRPOConfig, sampler: Sampler, rollouts: Rollouts, ledger: GroupLedger) -> None:
        self._config, self._sampler, self._rollouts, self._ledger = config, sampler, rollouts, ledger
        self._tasks: dict[GroupKey, asyncio.Task[Group]] = {}
        self._leaving: list[asyncio.Task[Group]] = []
        self._groups: dict[GroupKey, Group] = {}
        self._errors: list[str] = []
        before = ledger.opened()
        self._taken = dict(before.taken)
        self._unfinished = dict(before.playing)
        self._given_up = set(before.rejected)
        self._position = before.next_position
        taken = sum(len(keys) for keys in before.taken.values())
        self.state = WindowState(
            config.groups_per_step,
            config.max_staleness,
            config.late_groups,
            playing=dict(before.playing),
            complete=dict(before.complete),
            submitted=before.accepted + len(before.rejected) + len(before.playing) + len(before.complete),
            accepted=before.accepted,
            rejected=len(before.rejected),
        )
        self.state.check()
        if taken:
            logger.info("steps %s are trained again on their own groups", sorted(before.taken))

    def taken_before(self, step: int) -> list[Group] | None:
        """The groups that this step trained on in an earlier life of the run; None when it has not been trained yet."""
        keys = self._taken.pop(step, None)
        return None if keys is None else [self._ledger.load(key) for key in keys]

    def open(self, step: int) -> None:
        """Begin what may be begun with the weights of `step`; go on with what an earlier process began.

        A synchronous step has its own groups and no others: those that came to nothing in an earlier process are tried again,
        and replacements of an earlier step that it did without are dropped.
        """
        unfinished, self._unfinished = self._unfinished, {}
        for key, version in sorted(unfinished.items()):
            self._start(key, version, resumed=True)
        if self._config.max_staleness == 0:
            for key in [key for key in (*self.state.playing, *self.state.complete) if key.step < step]:
                self._drop(key, f"step {key.step} did without it")
            for key in sorted(key for key in self._given_up if key.step == step and key.index < self._config.groups_per_step):
                self._submit(key, step)
        for _ in range(self.state.room(step, self._config.num_steps, self._position)):
            planned, index = divmod(self._position, self._config.groups_per_step)
            self._submit(GroupKey(planned, index, self._sampler(planned)[index]), step)
            self._position += 1

    async def collect(self, step: int) -> tuple[list[Played], dict[str, float]]:
        """The groups that step `step` trains on, oldest first, and what became of others.

        Waits until `groups_per_step` groups are finished and, with late_groups=cut, none is left that a later step could not
        train; at most `step_timeout_s`, then takes what there is. Raises RolloutsFailedError when that is nothing.
        """
        rejected, late = self.state.rejected, 0
        if not await self._wait(lambda: self.state.must_wait(step)):
            late = await self._cut(self.state.to_cut(step))
        self._drop_too_old(step)
        keys = self.state.batch(step)
        if not keys:
            raise RolloutsFailedError(self._why_nothing(step, late))
        batch = [(key, self._group(key)) for key in keys]
        return batch, {
            "rollout/late_groups": float(late),
            "rollout/rejected_groups": float(self.state.rejected - rejected),
        }

    async def play_now(self, step: int, index: int, task_ids: Sequence[str]) -> list[Played]:
        """Groups of further tasks for a step, with the step's own weights; those that are late or fail are left out."""
        keys = [GroupKey(step, index + offset, task_id) for offset, task_id in enumerate(task_ids)]
        for key in keys:
            if key not in self._tasks and key not in self.state.complete:
                self._submit(key, step)
        if not await self._wait(lambda: any(key in self.state.playing for key in keys)):
            await self._cut([key for key in keys if key in self.state.playing])
        return [(key, self._group(key)) for key in keys if key in self.state.complete]

    def take(self, step: int, batch: Sequence[Played]) -> None:
        """Step `step` trains on these groups and no other step will: on record before it happens."""
        keys = [key for key, _ in batch]
        self._ledger.taken(step, keys)
        self.state.accept(keys)
        for key in keys:
            self._groups.pop(key, None)

    async def close(self) -> None:
        """Cancel everything that still runs and wait until it has ended."""
        tasks, self._tasks = [*self._tasks.values(), *self._leaving], {}
        await _cancel(tasks)

    def _submit(self, key: GroupKey, version: int) -> None:
        self._ledger.submitted(key, version)
        again = key in self._given_up
        if again:
            self._given_up.remove(key)
            self.state.forgive()
        self.state.submit(key, version)
        self._start(key, version, resumed=again)

    def _start(self, key: GroupKey, version: int, resumed: bool) -> None:
        self._tasks[key] = asyncio.create_task(self._play(key, version, resumed), name=f"group {key}")

    async def _play(self, key: GroupKey, version: int, resumed: bool) -> Group:
        group = await self._rollouts.play(key, version, resumed)
        if group.members:
            try:
                await self._ledger.completed(key, group)
            except Exception as error:
                raise GroupNotKeptError(f"group {key} is finished but cannot be kept: {error}") from error
        return group

    async def _wait(self, more: Callable[[], bool]) -> bool:
        """Settle groups as they end until `more` is false; False when `step_timeout_s` was over first."""
        clock = asyncio.get_running_loop()
        deadline = clock.time() + self._config.step_timeout_s
        self._settle()
        while more():
            left = deadline - clock.time()
            if left <= 0:
                return False
            await asyncio.wait(self._tasks.values(), timeout=left, return_when=asyncio.FIRST_COMPLETED)
            self._settle()
        return True

    def _settle(self) -> None:
        for key in [key for key, task in self._tasks.items() if task.done()]:
            task = self._tasks.pop(key)
            error = None if task.cancelled() else task.exception()
            if error is not None and not isinstance(error, INFRASTRUCTURE):
                raise error
            if task.cancelled() or error is not None:
                logger.warning("group %s was lost: %r", key, error)
                self._reject(key, f"{type(error).__name__}: {error}" if error else "cancelled")
            elif not task.result().members:
                lost = task.result().lost
                self._reject(key, lost[0].error if lost else "no episode")
            else:
                self._groups[key] = task.result()
                self.state.finish(key)

    async def _cut(self, keys: list[GroupKey]) -> int:
        """Make groups end now; returns how many there were."""
        tasks = {key: self._tasks[key] for key in keys}
        if tasks:
            logger.warning("time is up (grpo.step_timeout_s): %s end with the members they have", ", ".join(map(str, keys)))
            await asyncio.gather(*(self._rollouts.cut(key) for key in keys))
            await asyncio.wait(tasks.values(), timeout=CUT_S)
            await _cancel([task for task in tasks.values() if not task.done()])
            self._settle()
        return len(keys)

    def _drop_too_old(self, step: int) -> None:
        """late_groups=drop: groups still played that no later step could train; mask: finished ones without a token to train."""
        oldest = step - self._config.max_staleness
        if self._config.late_groups == "drop":
            for key in self.state.overdue(step):
                self._drop(key, f"too old for the steps after {step}")
        for key in sorted(self.state.complete):
            if newest_version(self._group(key)) < oldest:
                self._reject(key, f"every token is older than version {oldest}")

    def _drop(self, key: GroupKey, reason: str) -> None:
        """Reject a group that may still be played."""
        if (task := self._tasks.pop(key, None)) is not None:
            task.cancel()
            self._leaving = [other for other in self._leaving if not other.done()] + [task]
        self._reject(key, reason)

    def _reject(self, key: GroupKey, reason: str) -> None:
        self._errors = [*self._errors[-4:], reason]
        self._ledger.rejected(key, reason)
        self.state.reject(key)
        self._groups.pop(key, None)

    def _group(self, key: GroupKey) -> Group:
        if key not in self._groups:
            self._groups[key] = self._ledger.load(key)
        return self._groups[key]

    def _why_nothing(self, step: int, late: int) -> str:
        recent = f"; the last: {self._errors[-1]}" if self._errors else ""
        return (
            f"step {step + 1}: no episode to train on ({late} groups cut, {len(self.state.playing)} not there after "
            f"{self._config.step_timeout_s:g} s (grpo.step_timeout_s), {self.state.rejected} rejected in this run){recent}"
        )


async def _cancel(tasks: list[asyncio.Task[Group]]) -> None:
    for task in tasks:
        task.cancel()
    if tasks:
        _, stubborn = await asyncio.wait(tasks, timeout=CANCEL_S)
        for task in stubborn:
            logger.error("%s does not end %g s after it was cancelled and is left behind", task.get_name(), CANCEL_S)
        for task in tasks:
            if task.done() and not task.cancelled():
                task.exception()  # seen, so that asyncio does not complain about it
