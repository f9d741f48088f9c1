"""What an editor changed in one episode, so that it can be taken back."""

from dataclasses import dataclass, field

MAX_EDITS = 100
MAX_BYTES = 16_777_216
"""Of old and new contents together; the oldest edits are forgotten first."""


@dataclass(frozen=True)
class Edit:
    """One file before and after an edit; `before` is None for a file that was created."""

    path: str
    before: bytes | None
    after: bytes

    @property
    def num_bytes(self) -> int:
        return len(self.before or b"") + len(self.after)


@dataclass
class EditHistory:
    """The edits of an episode that can still be taken back, oldest first."""

    edits: list[Edit] = field(default_factory=list)

    def add(self, edit: Edit) -> None:
        self.edits.append(edit)
        held = sum(one.num_bytes for one in self.edits)
        while len(self.edits) > MAX_EDITS or (held > MAX_BYTES and len(self.edits) > 1):
            held -= self.edits.pop(0).num_bytes

    def last(self, path: str) -> Edit | None:
        """The latest edit of that file, None when there is none left."""
        return next((edit for edit in reversed(self.edits) if edit.path == path), None)

    def forget(self, edit: Edit) -> None:
        """After it was taken back."""
        self.edits = [one for one in self.edits if one is not edit]
