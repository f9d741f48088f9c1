"""Parsers from a test log to a status per test, by the name a task's oracle carries (`Oracle.log_parser`).

To add one: write `verifier/log_parsers/<name>_log.py` with a function `(log: str) -> dict[str, TestStatus]` and add a line to
`LOG_PARSERS`. Names that are not in the dict are looked up in swebench's registry (the optional extra `grade`), so a dataset
row that names one of its parsers works without code here.
"""

from collections.abc import Callable

from verifier.log_parsers.pytest_log import parse_log_pytest
from verifier.log_parsers.pytest_verbose_log import parse_log_pytest_verbose
from verifier.log_parsers.r2e_log import parse_log_r2e
from verifier.log_parsers.swebench_log import swebench_parser, swebench_version
from verifier.test_report import TestStatus

LogParser = Callable[[str], dict[str, TestStatus]]

LOG_PARSERS: dict[str, LogParser] = {
    "parse_log_pytest": parse_log_pytest,
    "parse_log_pytest_verbose": parse_log_pytest_verbose,
    "parse_log_r2e": parse_log_r2e,
}


def log_parser(name: str) -> LogParser:
    """The parser of that name, ours first, then swebench's. Raises `LogParserMissingError` with what to do."""
    return LOG_PARSERS[name] if name in LOG_PARSERS else swebench_parser(name)


def parser_version(name: str) -> str:
    """The parser's name with the version of the library it comes from, for reports.

    >>> parser_version("parse_log_pytest")
    'parse_log_pytest'
    """
    return name if name in LOG_PARSERS or name == "exit_code" else f"{name} (swebench {swebench_version()})"
