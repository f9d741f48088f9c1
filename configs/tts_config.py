"""Test-time scaling and evaluation."""

from dataclasses import dataclass


@dataclass(frozen=True)
class TTSConfig:
    num_candidates: int = 8
    """K: episodes per task to choose from."""
    temperature: float = 1.0
    """Sampling temperature of the candidates."""
    num_bootstrap: int = 2000
    """Resamples of the tasks for the intervals."""
    seed: int = 0
    """Seeds ties and the bootstrap."""
