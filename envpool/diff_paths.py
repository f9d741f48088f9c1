"""Which files a git diff touches, read from its headers alone; and whether it stays inside the repository."""

import re
from codecs import escape_decode
from pathlib import PurePosixPath

_HUNK = re.compile(r"@@ -\d+(?:,(?P<old>\d+))? \+\d+(?:,(?P<new>\d+))? @@")
_FILE_LINE = re.compile(r"(?:---|\+\+\+) (?P<path>\"(?:[^\"\\]|\\.)*\"|[^\t]+)")
_MOVE_LINE = re.compile(r"(?:rename|copy) (?:from|to) (?P<path>.+)")
_GIT_LINE = re.compile(r"diff --git (?P<old>\"(?:[^\"\\]|\\.)*\"|a/.+) (?P<new>\"(?:[^\"\\]|\\.)*\"|b/.+)")
_BINARY = re.compile(r"GIT binary patch$|Binary files .* differ$")


def header_lines(diff: str) -> list[str]:
    """The lines of a diff outside its hunks (hunk bodies are skipped by their counts, so `--- a/x` in a body is none)."""
    kept: list[str] = []
    old = new = 0
    for line in diff.split("\n"):
        if old > 0 or new > 0:
            old -= line[:1] in (" ", "-", "")
            new -= line[:1] in (" ", "+", "")
            if line[:1] != "\\":
                continue
        match = _HUNK.match(line)
        if match:
            old, new = int(match["old"] or 1), int(match["new"] or 1)
        elif line and not line.startswith("\\"):
            kept.append(line)
    return kept


def touched_paths(diff: str) -> tuple[str, ...]:
    """Every path a diff names, old and new, without `a/` and `b/`, each once; git's C-style quoting is undone.

    >>> touched_paths('diff --git a/x b/x\\n--- a/x\\n+++ b/x\\n@@ -1 +1 @@\\n-1\\n+2\\n')
    ('x',)
    """
    found: list[str] = []
    for line in header_lines(diff):
        if match := _GIT_LINE.fullmatch(line):
            found += [_plain(match["old"]), _plain(match["new"])]
        elif match := _FILE_LINE.match(line):
            if match["path"] != "/dev/null":
                found.append(_plain(match["path"]))
        elif match := _MOVE_LINE.fullmatch(line):
            found.append(_unquoted(match["path"]))
    return tuple(dict.fromkeys(found))


def leaves_repository(path: str) -> bool:
    """True for a path no diff of a repository may have: absolute, climbing out with `..`, inside `.git`, or empty.

    >>> [leaves_repository(path) for path in ("a/b.py", "../b.py", "/etc/passwd", ".git/hooks/x")]
    [False, True, True, True]
    """
    parts = PurePosixPath(path).parts
    return not parts or path.startswith("/") or ".." in parts or parts[0].lower() == ".git" or "\0" in path


def is_binary(diff: str) -> bool:
    """True when the diff has a binary section, with or without its content."""
    return any(_BINARY.match(line) for line in header_lines(diff))


def _plain(path: str) -> str:
    path = _unquoted(path)
    return path[2:] if path[:2] in ("a/", "b/") else path


def _unquoted(path: str) -> str:
    """`"b/caf\\303\\251"` -> `b/café`."""
    if len(path) > 1 and path.startswith('"') and path.endswith('"'):
        try:
            decoded, _ = escape_decode(path[1:-1].encode())
        except ValueError:  # an escape that git never writes
            return path
        return bytes(decoded).decode("utf-8", "replace")
    return path
