"""How the tests of one repository are run, by version: the tables behind datasets whose rows do not say it."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from envpool.dataset_rows.dataset_row import Row, RowError, row_id, text


@dataclass(frozen=True)
class RepoSuite:
    """Commands for the versions from `since` on, up to the next entry of the same repository.

    `setup` comes before, `install` after the environment is entered a second time, as in SWE-bench's own scripts;
    `log_parser` is the name of the parser that reads the output.
    """

    test_command: str
    install: str
    log_parser: str
    setup: tuple[str, ...] = ()
    since: str = "0"


Suites = Mapping[str, tuple[RepoSuite, ...]]
"""By repository in lower case; entries in rising order of `since`."""


def suite_of(row: Row, suites: Suites) -> RepoSuite:
    """The entry for the row's `repo` and `version`. Raises RowError where the table has none."""
    repo, version = text(row, "repo"), text(row, "version")
    entries = suites.get(repo.lower())
    if entries is None:
        raise RowError(row_id(row), "repo", f"has no entry in the table of test commands: {repo[:80]}")
    wanted = version_key(version)
    if not wanted:
        raise RowError(row_id(row), "version", f"is no version number: {version[:40]!r}")
    fitting = [entry for entry in entries if version_key(entry.since) <= wanted]
    if not fitting:
        raise RowError(row_id(row), "version", f"{version[:40]} of {repo[:80]} is older than the table of test commands")
    return fitting[-1]


def version_key(version: str) -> tuple[int, ...]:
    """`v5.3` -> (5, 3), `2022.03` -> (2022, 3); () for what is no version."""
    if not re.fullmatch(r"v?\d{1,12}(?:\.\d{1,12}){0,5}", version, re.ASCII):
        return ()
    return tuple(int(part) for part in version.removeprefix("v").split("."))
