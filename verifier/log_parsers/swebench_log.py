"""The log parsers that swebench ships (57 names, eight languages), reached by name and imported only when one is asked for."""

from collections.abc import Callable
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version

from verifier.test_report import TestStatus


class LogParserMissingError(LookupError):
    """A task names a log parser that neither this project nor an installed swebench has."""


def swebench_parser(name: str) -> Callable[[str], dict[str, TestStatus]]:
    """swebench's parser `name` with its status words as `TestStatus`. Raises LogParserMissingError."""
    try:
        registry = import_module("swebench.harness.log_parsers").PARSER_REGISTRY
    except ImportError as error:
        raise LogParserMissingError(
            f"log parser {name!r} is not one of ours and swebench 5 is not installed: pip install 'swe-master-ray[grade]'"
        ) from error
    if name not in registry:
        raise LogParserMissingError(f"log parser {name!r} is neither one of ours nor one of swebench's {len(registry)}")
    parse = registry[name]

    def parse_log(log: str) -> dict[str, TestStatus]:
        return {test: status_from_word(word) for test, word in parse(log, None).items()}

    return parse_log


def swebench_version() -> str:
    """The installed swebench's version, "none" without one."""
    try:
        return version("swebench")
    except PackageNotFoundError:
        return "none"


def status_from_word(word: str) -> TestStatus:
    """`PASSED` -> TestStatus.PASSED; a word we do not know counts as an error of the test."""
    try:
        return TestStatus(word.lower())
    except ValueError:
        return TestStatus.ERROR
