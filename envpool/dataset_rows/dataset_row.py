"""One row of somebody else's dataset, and reading its fields without trusting it."""

import json
from collections.abc import Mapping
from typing import Any

Row = Mapping[str, Any]


class RowError(ValueError):
    """One broken row: `row_id` (its instance id, else its position), the `field` at fault and the `reason`.

    >>> str(RowError("astropy__astropy-1", "patch", "is missing"))
    'row astropy__astropy-1: field patch is missing'
    """

    def __init__(self, row_id: str, field: str, reason: str) -> None:
        super().__init__(row_id, field, reason)  # the three arguments survive pickling
        self.row_id, self.field, self.reason = row_id, field, reason

    def __str__(self) -> str:
        return " ".join(f"row {self.row_id}: field {self.field} {self.reason}".split())  # one line, whatever the row holds


def row_id(row: Row) -> str:
    """The row's instance id for messages, `?` where it has none."""
    value = row.get("instance_id")
    return value if isinstance(value, str) and value else "?"


def text(row: Row, field: str, *, default: str | None = None) -> str:
    """A string field. Missing, null or empty gives `default`, or RowError without one; another type is a RowError.

    >>> text({"repo": "a/b"}, "repo")
    'a/b'
    """
    value = row.get(field)
    if value is None or value == "":
        if default is None:
            raise RowError(row_id(row), field, "is missing")
        return default
    if not isinstance(value, str):
        raise RowError(row_id(row), field, f"is {_kind(value)}, not text")
    if not value.isascii() and any("\ud800" <= char <= "\udfff" for char in value):
        raise RowError(row_id(row), field, "is not valid Unicode text")
    return value


def string_list(row: Row, field: str, *, empty: bool = False) -> tuple[str, ...]:
    """A list of strings, given as a list or as JSON text of one; order kept. Anything else is a RowError, and so is an empty
    string in it unless `empty`.

    >>> string_list({"FAIL_TO_PASS": '["a", "b"]'}, "FAIL_TO_PASS")
    ('a', 'b')
    """
    value = row.get(field)
    if value is None:
        raise RowError(row_id(row), field, "is missing")
    if isinstance(value, str):
        value = _from_json(row, field, value)
    if not isinstance(value, list | tuple):
        raise RowError(row_id(row), field, f"is {_kind(value)}, not a list of strings")
    default = "" if empty else None
    if empty and None in value:
        raise RowError(row_id(row), field, "holds null, not text")
    return tuple(text({"instance_id": row_id(row), field: item}, field, default=default) for item in value)


def mapping(row: Row, field: str) -> dict[str, Any]:
    """An object field, given as one or as JSON text of one. Anything else is a RowError."""
    value = row.get(field)
    if value is None:
        raise RowError(row_id(row), field, "is missing")
    if isinstance(value, str):
        value = _from_json(row, field, value)
    if not isinstance(value, Mapping):
        raise RowError(row_id(row), field, f"is {_kind(value)}, not an object")
    return {str(key): item for key, item in value.items()}


def _from_json(row: Row, field: str, value: str) -> Any:
    try:
        return json.loads(value)
    except (ValueError, RecursionError) as error:
        raise RowError(row_id(row), field, "is not JSON text") from error


def _kind(value: object) -> str:
    return "null" if value is None else type(value).__name__
