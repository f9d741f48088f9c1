"""How patches are graded and rewarded."""

from dataclasses import dataclass


@dataclass(frozen=True)
class VerifierConfig:
    grading_timeout_s: float = 60.0
    """Deadline of one run of the hidden tests; SWE tasks want 1800."""
    reward: str = "swe_master"
    """Reward table, one of verifier.rewards.REWARDS: swe_master, deepswe, swe_world, outcome."""
    truncated_factor: float = 0.5
    """alpha: credit of a correct work tree that was not submitted (SWE-Master: 0.5)."""
    collect_context: bool = True
    """Keep what a scorer may see of each graded patch (touched files, visible tests); world-model and tts need it."""
    protect_test_setup: bool = True
    """Leave a patch's edits of conftest, pytest's configuration, test folders and shadowing modules out of the grading."""
