"""R2E-Gym's record of a commit (`parsed_commit_content`), and the diff it describes."""

from collections.abc import Iterator, Mapping
from typing import Any

from envpool.dataset_rows.dataset_row import Row, RowError, mapping, row_id, text

_SIGNS = {"context": " ", "added": "+", "deleted": "-"}


def parsed_commit(row: Row, field: str) -> dict[str, Any]:
    """The commit record in `field` (an object or JSON text of one). Raises RowError."""
    return mapping(row, field)


def commit_diff(row: Row, field: str, *, tests: bool) -> str:
    """The diff of the commit's test files (`tests`) or of its other files, in git's format; "" when there are none.

    The record has `file_diffs`, each with `header.file.path`, `minus_file.path`, `plus_file.path` and `hunks` of a
    `descriptor` (`old_range`, `new_range`: start and length, `section`) and `line_group.all_lines` (`content`, `type`: context,
    added, deleted, note). Raises RowError, also for binary files and renames.
    """
    sections = parsed_commit(row, field).get("file_diffs")
    if not isinstance(sections, list):
        raise RowError(row_id(row), field, "has no list file_diffs")
    try:
        return "".join(_section(section) for section in sections if is_test_file(_path(section)) == tests)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise RowError(row_id(row), field, f"does not describe a diff ({type(error).__name__}: {str(error)[:60]})") from error


def is_test_file(path: str) -> bool:
    """True for paths that R2E-Gym counts as tests: in a folder `test` or `tests`, or named like one.

    >>> [is_test_file(path) for path in ("pkg/tests/data.py", "pkg/test_x.py", "pkg/x_test.py", "pkg/testing.py")]
    [True, True, True, False]
    """
    *folders, name = path.split("/")
    return bool({"test", "tests"} & set(folders)) or name.startswith("test_") or name.endswith("_test.py")


def expected_status(row: Row, field: str) -> tuple[tuple[str, str], ...]:
    """R2E-Gym's expected map (JSON text of test name to status word), in its order. Raises RowError."""
    expected = mapping(row, field)
    if not expected:
        raise RowError(row_id(row), field, "is empty: no test would tell a fix from none")
    for test, status in expected.items():
        text({"instance_id": row_id(row), field: status}, field)
        text({"instance_id": row_id(row), field: test}, field, default="")  # the empty name stands for a whole file
    return tuple(expected.items())


def _path(section: Mapping[str, Any]) -> str:
    path = section["header"]["file"]["path"]
    if not isinstance(path, str):
        raise TypeError("a path is no text")
    return path


def _section(section: Mapping[str, Any]) -> str:
    path = _path(section)
    if section.get("is_binary_file"):
        raise ValueError("a binary file")
    hunks = section["hunks"]
    if not hunks:
        return ""  # a change of mode, or an empty file
    old, new = section["minus_file"]["path"], section["plus_file"]["path"]
    if "/dev/null" not in (old, new) and (old, new) != (f"a/{path}", f"b/{path}"):
        raise ValueError("a renamed file")
    mode = section["header"].get("misc_line")
    head = [f"diff --git a/{path} b/{path}"]
    if old == "/dev/null" or new == "/dev/null":
        default = "new file mode 100644" if old == "/dev/null" else "deleted file mode 100644"
        head.append(mode if isinstance(mode, str) and mode.startswith(default[:12]) else default)
    lines = [*head, f"--- {old}", f"+++ {new}", *(line for hunk in hunks for line in _hunk(hunk))]
    return "\n".join(lines) + "\n"


def _hunk(hunk: Mapping[str, Any]) -> Iterator[str]:
    descriptor = hunk["descriptor"]
    section = descriptor.get("section") or ""
    yield f"@@ -{_range(descriptor['old_range'])} +{_range(descriptor['new_range'])} @@" + (f" {section}" if section else "")
    old, new = (descriptor[name].get("length") for name in ("old_range", "new_range"))
    old, new = 1 if old is None else old, 1 if new is None else new
    for line in hunk["line_group"]["all_lines"]:
        content, kind = line["content"], line["type"]
        if "\n" in content:
            raise ValueError("a line with a line break")
        if kind == "note":
            yield f"\\ {content.removeprefix(chr(92)).strip()}"
            continue
        if old == new == 0 and kind == "context" and not content:
            continue  # the record of a commit's last hunk ends with an empty line that no diff has
        old, new = old - (kind != "added"), new - (kind != "deleted")
        yield _SIGNS[kind] + content
    if (old, new) != (0, 0):
        raise ValueError("a hunk has another number of lines than its ranges say")


def _range(value: Mapping[str, Any]) -> str:
    start, length = value["start"], value.get("length")
    if not isinstance(start, int) or not isinstance(length, int | None):
        raise TypeError("a range is no pair of numbers")
    return f"{start}" if length is None else f"{start},{length}"
