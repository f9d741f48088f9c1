"""Test-time scaling and evaluation."""

from dataclasses import dataclass


@dataclass(frozen=True)
class TTSConfig:
    num_candidates: int = 8
    """K: episodes per task to choose from."""
    temperature: float = 1.0
    """Sampling temperature of the candidates."""
    agreement_weight: float = 0.0
    """Added to the score times the share of candidates with the same patch (self-consistency); no oracle needed."""
    existing_tests_weight: float = 0.0
    """Added to the score when the repository's tests near the patch pass in a sandbox; 0: they are not run."""
    reproduction_weight: float = 0.0
    """Added to the score times the share of the candidates' own new tests that pass on the patch; 0: they are not run."""
    max_scorer_tokens: int = 0
    """Prompt and answer tokens that all scoring may take, earlier runs included; later candidates stay unscored. 0: no limit."""
    max_scorer_s: float = 0.0
    """Seconds that votes and signals together may take, earlier runs of the stage included; 0: no limit."""
    turn_budgets: tuple[int, ...] = ()
    """Sequential scaling: `eval` also plays the held-out tasks with these limits of turns (SWE-Master: 25 to 150)."""
    turn_budget_samples: int = 2
    """Episodes per task and turn budget."""
    num_bootstrap: int = 2000
    """Resamples of the tasks for the intervals."""
    seed: int = 0
    """Seeds ties and the bootstrap."""
