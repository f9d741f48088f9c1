"""A model's patch: a unified diff and what it touches."""

from dataclasses import dataclass
from functools import cached_property

from unidiff import PatchSet
from unidiff.errors import UnidiffParseError


@dataclass(frozen=True)
class Patch:
    """A unified diff in git's format; the empty string is the empty patch.

    >>> Patch("").is_empty
    True
    """

    diff: str

    @property
    def is_empty(self) -> bool:
        return not self.diff.strip()

    @cached_property
    def files(self) -> tuple[str, ...]:
        """Paths the diff touches, in order. Raises ValueError when the diff cannot be read."""
        try:
            return tuple(file.path for file in PatchSet(self.diff))
        except UnidiffParseError as error:
            raise ValueError(f"not a unified diff: {error}") from error
