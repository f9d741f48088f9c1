"""Commands that try to read a repository's history. Nothing is forbidden: the history is not there; attempts are counted."""

import re
from collections.abc import Iterable

_GIT = r"\bgit\b(?:\s+(?:-[cC]\s*\S+|--[\w-]+(?:=\S+)?|-\w))*\s+"
_VERBS = (
    r"log|show|reflog|blame|annotate|rev-list|whatchanged|cat-file|fsck|shortlog|bisect|stash\s+(?:list|show|pop|apply)|bundle"
    r"|fetch|pull|clone|ls-remote|unpack-objects|verify-pack|cherry-pick|format-patch|checkout\s+\S*(?:~|\^|@\{)|diff\s+\S*(?:~|\^|@\{)"
)
_READS = re.compile(rf"{_GIT}(?:{_VERBS})\b|\.git/(?:objects|logs|packed-refs|refs|ORIG_HEAD|FETCH_HEAD)|\bpip3?\s+download\b")


def reads_history(command: str) -> bool:
    """Whether a shell command looks for other commits, or for a released version of the package.

    >>> reads_history("cd /testbed && git  -C . log --all -p"), reads_history("git diff && git status")
    (True, False)
    """
    return _READS.search(command) is not None


def num_history_reads(actions: Iterable[str]) -> int:
    """How many of a trajectory's tool calls (canonical XML) try it."""
    return sum(reads_history(action) for action in actions)
