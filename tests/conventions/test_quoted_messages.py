"""docs/troubleshooting.md quotes messages that the code really prints."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("configs", "envpool", "verifier", "trainers", "actors", "cluster")
BY_LIBRARIES = ("Key 'NAME' not in 'CONFIG'", "No space left on device")
PLACEHOLDER = re.compile(r"\b[A-Z]+\b")
VALUE = "\0"


def quoted() -> list[str]:
    """The messages in the first column of the page's table."""
    rows = re.findall(r"^\| ([^|]+) \|", (ROOT / "docs" / "troubleshooting.md").read_text(), re.MULTILINE)
    return [message for row in rows for message in re.findall(r"`([^`]+)`", row) if message not in BY_LIBRARIES]


def texts() -> str:
    """Every text of the product, one after another; a value that is put into a text is `VALUE`."""
    found = []
    for path in (path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                parts = (part.value if isinstance(part, ast.Constant) else VALUE for part in node.values)
                found.append("".join(map(str, parts)))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
    return "\n".join(found)


@pytest.fixture(scope="module")
def printed() -> str:
    return texts()


@pytest.mark.parametrize("message", quoted())
def test_a_quoted_message_is_printed(message: str, printed: str) -> None:
    """Words in capitals stand for values."""
    assert PLACEHOLDER.sub(VALUE, message) in printed


def test_the_page_quotes_messages() -> None:
    assert len(quoted()) > 10
