"""A git diff as text sections, one per file: what dropping, comparing and showing parts of a patch needs.

Sections are cut as text, so that binary hunks, mode changes and renames survive as they are.
"""

import re
from codecs import escape_decode
from collections.abc import Iterable
from dataclasses import dataclass

SECTION_START = re.compile(r"^diff --git ", re.MULTILINE)
PATH_LINE = re.compile(r"^(?:---|\+\+\+|rename from|rename to|copy from|copy to) (.+?)\t?$")
UNQUOTED_HEADER = re.compile(r"a/(.+) b/\1")
HUNK_START = re.compile(r"@@ -(\d+)(?:,\d+)? \+\d")
HEADER_PATHS = re.compile(r'("a/(?:[^"\\]|\\.)*"|a/\S+) ("b/(?:[^"\\]|\\.)*"|b/\S+)')


@dataclass(frozen=True)
class PatchSection:
    """The part of a diff that concerns one file. `paths`: its old and new path (one when equal), without `a/`, `b/`."""

    text: str
    paths: tuple[str, ...]

    @property
    def adds_file(self) -> bool:
        """Whether the section makes a path that was not there: a new file, a rename or a copy."""
        head = self.text.partition("\n@@ ")[0]
        return any(mark in f"{head}\n" for mark in ("\nnew file mode ", "\nrename to ", "\ncopy to ", "\n--- /dev/null\n"))


def patch_sections(diff: str) -> tuple[PatchSection, ...]:
    """The sections of a git diff in order; a diff without `diff --git` lines is cut where a `---`, `+++`, `@@` triple starts.

    >>> patch_sections("diff --git a/x b/x\\n--- a/x\\n+++ b/x\\n@@ -1 +1 @@\\n-1\\n+2\\n")[0].paths
    ('x',)
    """
    starts = [match.start() for match in SECTION_START.finditer(diff)]
    if not starts:
        starts = [match.start() for match in re.finditer(r"^--- .*\n\+\+\+ .*\n@@ ", diff, re.MULTILINE)]
    ends = [*starts, len(diff)][1:]
    texts = [diff[start:end] for start, end in zip(starts, ends, strict=True)] if starts else []
    return tuple(PatchSection(text, _paths(text)) for text in texts)


def drop_paths(diff: str, hidden: Iterable[str]) -> str:
    """The diff without the sections that touch a hidden path, a folder on the way to one, or something below one."""
    hidden = tuple(hidden)
    kept = [
        section.text for section in patch_sections(diff) if not any(paths_collide(p, h) for p in section.paths for h in hidden)
    ]
    return "".join(kept)


def normalised_diff(diff: str) -> str:
    """What the diff changes and where, without new positions, blob hashes and context: equal for equal edits of one base.

    Changes keep their place in the old file, so that the same change in two places is two edits. Sections are sorted by path;
    one without changed lines (a mode change, a rename) keeps its header.

    >>> normalised_diff("--- a/x\\n+++ b/x\\n@@ -4,3 +9,3 @@ def f():\\n same\\n-1\\n+2\\n same\\n")
    'x\\n@5\\n-1\\n+2\\n'
    """
    return "".join(sorted(_normalised(section) for section in patch_sections(diff)))


def changed_lines(section: PatchSection) -> str:
    """The `-` and `+` lines of the hunks, in order, ending in a newline ("" for a section without hunks)."""
    _, _, hunks = section.text.partition("\n@@ ")
    return "".join(f"{line}\n" for line in hunks.splitlines()[1:] if line[:1] in ("+", "-"))


def _normalised(section: PatchSection) -> str:
    lines = _placed_lines(section)
    if not lines:
        header = [line for line in section.text.splitlines()[1:] if not line.startswith("index ")]
        lines = "".join(f"{line}\n" for line in header)
    return "\n".join((*section.paths, lines))


def _placed_lines(section: PatchSection) -> str:
    """The changed lines, each run of them after the number of the old file's line that it begins at."""
    _, start, hunks = section.text.partition("\n@@ ")
    placed: list[str] = []
    old, in_run = 0, False
    for line in f"@@ {hunks}".split("\n") if start else ():
        if (header := HUNK_START.match(line)) is not None:
            old, in_run = int(header[1]), False
        elif line[:1] in ("+", "-"):
            placed += [line] if in_run else [f"@{old}", line]
            old, in_run = old + (line[0] == "-"), True
        elif not line.startswith("\\"):
            old, in_run = old + 1, False
    return "".join(f"{line}\n" for line in placed)


def _paths(text: str) -> tuple[str, ...]:
    head = text.partition("\n@@ ")[0].splitlines()
    found = [_plain_path(match[1]) for line in head if (match := PATH_LINE.match(line))]
    header = head[0].removeprefix("diff --git ") if head else ""
    if (same := UNQUOTED_HEADER.fullmatch(header)) is not None:
        found.append(same[1])
    elif not found and (pair := HEADER_PATHS.fullmatch(header)) is not None:
        found.extend(_plain_path(path) for path in pair.groups())
    return tuple(dict.fromkeys(path for path in found if path != "/dev/null"))


def _plain_path(path: str) -> str:
    """`"b/caf\\303\\251"` -> `café`, `a/x.py` -> `x.py`: git quotes paths with unusual bytes in C style."""
    if path.startswith('"') and path.endswith('"'):
        decoded, _ = escape_decode(path[1:-1].encode())
        path = bytes(decoded).decode("utf-8", "replace")
    return path[2:] if path[:2] in ("a/", "b/") else path


def paths_collide(path: str, hidden: str) -> bool:
    """Whether two paths are equal or one lies below the other."""
    return path == hidden or path.startswith(f"{hidden}/") or hidden.startswith(f"{path}/")
