"""alpha, the credit of a correct work tree that was not submitted, over the course of a run.

To add a schedule: a pure function `(config, step, outcomes) -> alpha` here and a line in `TRUNCATION_CREDITS`. `step` is the
number of optimizer steps done, `outcomes` says of every truncated episode of the run so far (its row of the reward table has
the factor alpha), oldest first, whether its work tree was correct.
"""

from collections.abc import Callable, Sequence

from configs.verifier_config import VerifierConfig


def constant(config: VerifierConfig, step: int, outcomes: Sequence[bool]) -> float:
    """SWE-Master: one number for the whole run."""
    return config.truncated_factor


def linear(config: VerifierConfig, step: int, outcomes: Sequence[bool]) -> float:
    """From truncated_factor at step 0 to truncated_factor_end at truncated_steps, then flat.

    0.5 to 0 in 10 steps: 0.5 at 0, 0.25 at 5, 0 at 10 and after.
    """
    way = min(step / config.truncated_steps, 1.0) if config.truncated_steps > 0 else 1.0
    return config.truncated_factor + (config.truncated_factor_end - config.truncated_factor) * way


def measured_share(config: VerifierConfig, step: int, outcomes: Sequence[bool]) -> float:
    """The share of correct ones among the last `truncated_window` truncated episodes, at most truncated_factor_end;
    truncated_factor until there are so many.

    The rarer a truncated episode is right, the less being cut short pays. Ours; SWE-Master measured 24 % early in its run.
    """
    window = outcomes[-config.truncated_window :]
    if len(window) < config.truncated_window:
        return config.truncated_factor
    return min(sum(window) / len(window), config.truncated_factor_end)


TRUNCATION_CREDITS: dict[str, Callable[[VerifierConfig, int, Sequence[bool]], float]] = {
    "constant": constant,
    "linear": linear,
    "measured_share": measured_share,
}
