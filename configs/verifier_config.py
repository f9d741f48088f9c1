"""How patches are graded and rewarded."""

from dataclasses import dataclass, field

STOP_REASONS = (
    "submitted", "submitted_last_turn", "submitted_late", "submitted_last_tokens", "max_turns", "max_tokens", "context_full",
    "deadline", "command_timeouts", "no_call", "garbled", "prompt_too_long", "encode_error",
)  # fmt: skip
"""Names of envpool.trajectory.StopReason, for checks that run before it is imported; a test holds them equal."""


@dataclass(frozen=True)
class RewardRuleConfig:
    """What one way to end an episode is worth; see verifier.rewards."""

    graded: bool = True
    """The hidden tests decide; False: the reward is `value`."""
    factor: float | str = 1.0
    """What a resolved issue is worth: a number, or `alpha` (truncated_factor)."""
    value: float = 0.0
    """The reward when the hidden tests do not decide (SWE-World: -0.5 for garbled output)."""
    train: bool = True
    """False masks the loss of the whole trajectory and leaves it out of its group's baseline."""


@dataclass(frozen=True)
class VerifierConfig:
    grading_timeout_s: float = 60.0
    """Deadline of one run of the hidden tests; SWE tasks want 1800."""
    reward: str = "swe_master"
    """Reward table, one of verifier.rewards.REWARDS: swe_master, deepswe, swe_world, outcome."""
    truncated_factor: float = 0.5
    """alpha: credit of a correct work tree that was not submitted (SWE-Master: 0.5)."""
    reward_rules: dict[str, RewardRuleConfig] = field(default_factory=dict)
    """Rows that replace the table's, by stop reason (STOP_REASONS)."""
    truncated_schedule: str = "constant"
    """alpha in GRPO: constant, linear (from truncated_factor to truncated_factor_end), or measured_share."""
    truncated_factor_end: float = 0.5
    """linear: alpha from step truncated_steps on; measured_share: alpha is at most this."""
    truncated_steps: int = 50
    """linear: steps of the way."""
    truncated_window: int = 64
    """measured_share: alpha is the share of correct ones among so many last episodes whose row has the factor alpha."""
    collect_context: bool = True
    """Keep what a scorer may see of each graded patch (touched files, visible tests); world-model and tts need it."""
    collect_executions: bool = True
    """Keep what commands that run code were given and really did, for the transition model."""
    grader: str = "tests"
    """Who decides: tests (the hidden tests are really run) or hybrid (the reward model, real tests on an audited share)."""
    audit_share: float = 0.1
    """hybrid: share of the patches whose tests are really run; it doubles when the model's probabilities drift."""
    audit_slack: float = 0.1
    """hybrid: mean error of the probabilities that is never noticed."""
    audit_threshold: float = 4.0
    """hybrid: sum of errors beyond the slack that raises the alarm (a bias b is noticed after threshold / (b - slack) audits)."""
    protect_test_setup: bool = True
    """Leave a patch's edits of conftest, pytest's configuration, test folders and shadowing modules out of the grading."""
