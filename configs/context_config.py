"""What of its own history the model is shown."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ContextConfig:
    policy: str = "full"
    """One of envpool.agent.context_policies.CONTEXT_POLICIES: full, summary (old turns become a text that the policy writes),
    fold (the outputs of old turns become one line each)."""
    interval: int = 10
    """summary: turns per summary (SWE-Master's m); fold: turns whose outputs are folded at once, so that the engine's prefix
    cache holds in between."""
    recent: int = 5
    """Newest turns that are always shown as they were (SWE-Master's k)."""
    summary_tokens: int = 512
    """Tokens of one summary."""
    summary_timeout_s: float = 60.0
    """Wait for one summary; when it does not come, the history stays and it is tried again `interval` turns later."""
    train_summary: bool = False
    """Put loss on the summaries too. They are sampled by the policy, so their gradient is right, but one reward for acting and
    summing up is a noisy teacher of the latter."""
