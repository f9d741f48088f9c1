"""What a scorer may see of a finished episode: nothing here comes from the oracle, so it exists for a new issue too."""

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class DeployableContext:
    """Issue, patch, the touched files and the visible tests as they are after the patch (path -> text, relative paths)."""

    problem_statement: str
    patch: str
    files: dict[str, str]
    tests: dict[str, str]

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON; `DeployableContext(**context.as_dict()) == context`."""
        return asdict(self)
