"""What a GRPO step plays and what it is worth, as far as that depends on the steps before it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from configs.grpo_config import GRPOConfig
from configs.verifier_config import VerifierConfig
from trainers.task_sampling import (
    GroupOutcome,
    banded_tasks,
    replacement_tasks,
    shuffled_tasks,
    solve_rates,
    tasks_in_band,
)
from verifier.reward import Group
from verifier.rewards import reshaped, reward_table
from verifier.truncation_credit import TRUNCATION_CREDITS

EVERYTHING = (0.0, 1.0)


@dataclass(frozen=True)
class StepPlan:
    """`outcomes_before(step)` gives what was recorded of the steps before `step`, oldest first.

    Tasks of a step depend only on steps that are surely trained when its rollouts may start (`max_staleness` earlier), rewards
    only on steps before it: a resumed run plans as an unbroken one.
    """

    grpo: GRPOConfig
    verifier: VerifierConfig
    task_ids: Sequence[str]
    seed: int
    outcomes_before: Callable[[int], list[GroupOutcome]]

    def tasks(self, step: int) -> list[str]:
        """The step's tasks: trainers.grpo_loop's Sampler."""
        planned = shuffled_tasks(self.task_ids, self.grpo.groups_per_step, self.seed, step)
        return banded_tasks(planned, self._in_band(step), self.seed, step)

    def spares(self, step: int, round_: int, used: set[str], count: int) -> list[str]:
        """Other tasks for a step whose groups lack spread: its Spares."""
        return replacement_tasks(self._in_band(step), used, count, self.seed, step, round_)

    def shape(self, step: int, groups: list[Group]) -> list[Group]:
        """The groups with the rewards of this step's alpha: its Shape."""
        table, alpha = reward_table(self.verifier), self.alpha(step)
        return [reshaped(group, table, alpha) for group in groups]

    def alpha(self, step: int) -> float:
        """Credit of a correct truncated episode at this step."""
        credit = TRUNCATION_CREDITS[self.verifier.truncated_schedule]
        return credit(self.verifier, step, [right for outcome in self.outcomes_before(step) for right in outcome.truncated])

    def _in_band(self, step: int) -> list[str]:
        if self.grpo.solve_rate_band == EVERYTHING:
            return list(self.task_ids)
        rates = solve_rates(self.outcomes_before(step - self.grpo.max_staleness), self.grpo.solve_rate_episodes)
        return tasks_in_band(self.task_ids, rates, self.grpo.solve_rate_band)
