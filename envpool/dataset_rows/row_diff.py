"""A diff field of a row: read, checked, and given back in a form `git apply` takes."""

import re

from envpool.dataset_rows.dataset_row import Row, RowError, row_id, text
from envpool.diff_paths import is_binary, leaves_repository, touched_paths
from envpool.patch import Patch

_CHANGE = re.compile(r"^(?:@@ -|rename to |copy to |new mode |new file mode |deleted file mode )", re.MULTILINE)


def diff(row: Row, field: str) -> str:
    """A unified diff of text files inside the repository, at least one. Raises RowError.

    A diff saved with CRLF line ends throughout comes back with LF; one with CRLF in its headers only is an error.
    """
    return checked_diff(row_id(row), field, text(row, field))


def checked_diff(owner: str, field: str, value: str) -> str:
    """The checks of `diff` on a text; `owner` and `field` name it in errors. Raises RowError."""
    value = _line_ends(owner, field, value)
    if "\0" in value:
        raise RowError(owner, field, "holds a NUL byte")
    if is_binary(value):
        raise RowError(owner, field, "holds a binary file: it cannot be read or reversed as text")
    try:
        files = Patch(value).files
    except ValueError as error:
        raise RowError(owner, field, "is not a unified diff") from error
    if not files:
        raise RowError(owner, field, "is not a unified diff: it touches no file")
    if not _CHANGE.search(value):
        raise RowError(owner, field, "changes nothing: it has file headers only")
    for path in touched_paths(value):
        if leaves_repository(path):
            raise RowError(owner, field, f"leaves the repository: {path[:80]!r}")
    return value


def _line_ends(owner: str, field: str, value: str) -> str:
    converted = any(line.startswith(("diff --git ", "@@ ")) and line.endswith("\r") for line in value.split("\n"))
    if not converted:  # a carriage return in a hunk's body belongs to the file
        return value
    if value.count("\r\n") != value.count("\n"):
        raise RowError(owner, field, "has CRLF line ends in its headers but not throughout")
    return value.replace("\r\n", "\n")
