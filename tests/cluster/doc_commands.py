"""Commands out of Markdown: fenced shell blocks, and single commands inside them."""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

FENCE = re.compile(r"^```(\w+)([^\n]*)\n(.*?)^```", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class ShellBlock:
    """A fenced block; `run` when a test runs it as it stands."""

    path: Path
    text: str
    run: bool


def shell_blocks(path: Path) -> list[ShellBlock]:
    """Blocks fenced as sh."""
    found = FENCE.findall(path.read_text(encoding="utf-8"))
    return [ShellBlock(path, text, "run" in info.split()) for language, info, text in found if language == "sh"]


def commands(block: ShellBlock) -> list[list[str]]:
    """The block's commands as words: continued lines joined, here-documents, comments and what comes after a pipe left out."""
    text = re.sub(r"<<'?(\w+)'?\n.*?^\1$", "", block.text, flags=re.MULTILINE | re.DOTALL)
    text = re.sub(r"\\\n\s*", " ", text)
    words = [shlex.split(line.split("| ")[0].split(" && ")[0], comments=True) for line in text.splitlines()]
    return [line for line in words if line]
