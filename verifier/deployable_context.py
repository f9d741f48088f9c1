"""What a scorer may see of a finished episode: nothing here comes from the oracle, so it exists for a new issue too."""

from dataclasses import asdict, dataclass
from typing import Any, ClassVar


@dataclass(frozen=True)
class DeployableContext:
    """Issue, patch, the touched files and the visible tests as they are after the patch (path -> text, relative paths), read
    from the state an agent starts from. The patch is without what is never graded (`verifier.section_rules`).

    `observed` is what the episode itself last saw a command print after its last edit; "" when it ran none.
    """

    kind: ClassVar[str] = "deployable"

    problem_statement: str
    patch: str
    files: dict[str, str]
    tests: dict[str, str]
    observed: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON; `DeployableContext(**context.as_dict()) == context`."""
        return asdict(self)
