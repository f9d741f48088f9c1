"""How many tasks or trajectories each step of curation left."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Funnel:
    """Steps in order, each with what was left after it; counts never grow.

    >>> Funnel((("read", 10),)).then("mixed results", 4).dropped
    (('mixed results', 6),)
    """

    steps: tuple[tuple[str, int], ...] = ()

    def __post_init__(self) -> None:
        for (_, before), (name, kept) in zip(self.steps, self.steps[1:], strict=False):
            if not 0 <= kept <= before:
                raise ValueError(f"step {name!r} keeps {kept} of {before}")

    def then(self, name: str, kept: int) -> "Funnel":
        """This funnel with one more step."""
        return Funnel((*self.steps, (name, kept)))

    @property
    def dropped(self) -> tuple[tuple[str, int], ...]:
        """What every step but the first took out."""
        return tuple((name, before - kept) for (_, before), (name, kept) in zip(self.steps, self.steps[1:], strict=False))
