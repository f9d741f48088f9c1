"""What an episode's seconds went into, from asking for a slot to its reward."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from envpool.trajectory import Turn


@dataclass(frozen=True)
class EpisodeSeconds:
    """All 0: not recorded (a file of an earlier version, a trajectory from elsewhere)."""

    generate: float = 0.0
    """Completions, a wait inside the engine included."""
    tool: float = 0.0
    """Tool calls."""
    queue: float = 0.0
    """Waiting for a slot and for a sandbox, its start included."""
    grade: float = 0.0
    """Grading, its sandbox included; of a grade that episodes share, what this one waited."""
    total: float = 0.0

    @property
    def other(self) -> float:
        """Preparing the sandbox, taking the patch, tries that broke."""
        return self.total - self.generate - self.tool - self.queue - self.grade

    def after_waiting(self, seconds: float) -> "EpisodeSeconds":
        """The same after `seconds` more in a queue."""
        return replace(self, queue=self.queue + seconds, total=self.total + seconds)

    def parts(self) -> dict[str, float]:
        """By label; they sum to `total`.

        >>> EpisodeSeconds(4.0, 3.0, 1.0, 1.5, 10.0).parts()
        {'generate': 4.0, 'tool': 3.0, 'queue': 1.0, 'grade': 1.5, 'other': 0.5}
        """
        return {
            "generate": self.generate,
            "tool": self.tool,
            "queue": self.queue,
            "grade": self.grade,
            "other": self.other,
        }


def episode_seconds(turns: Sequence[Turn], queue: float, grade: float, total: float) -> EpisodeSeconds:
    """Of an episode that took `total`. Turns that an earlier process played took their seconds before it, so they are added."""
    generate, tool = sum(turn.generate_s for turn in turns), sum(turn.tool_s for turn in turns)
    return EpisodeSeconds(generate, tool, queue, grade, max(total, generate + tool + queue + grade))
