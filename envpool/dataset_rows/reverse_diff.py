"""Turning a diff round: what takes `b` back to `a`."""

import re

_HUNK = re.compile(r"@@ -(?P<old>\d+(?:,\d+)?) \+(?P<new>\d+(?:,\d+)?) @@(?P<rest>.*)", re.DOTALL)
_SWAPPED = {
    "new file mode": "deleted file mode",
    "deleted file mode": "new file mode",
    "old mode": "new mode",
    "new mode": "old mode",
}
_HEADER = re.compile(rf"(?P<name>{'|'.join(_SWAPPED)}) (?P<mode>\d+)")
_INDEX = re.compile(r"index (?P<old>[0-9a-f]+)\.\.(?P<new>[0-9a-f]+)(?P<mode>.*)")


def reverse_diff(diff: str) -> str:
    """The inverse of a git diff of text files.

    >>> print(reverse_diff("diff --git a/x b/x\\n--- a/x\\n+++ b/x\\n@@ -1 +1,2 @@\\n-1\\n+2\\n+3\\n"), end="")
    diff --git a/x b/x
    --- a/x
    +++ b/x
    @@ -1,2 +1 @@
    -2
    -3
    +1

    Raises ValueError for renames, copies, binary sections and hunks whose lines do not add up.
    """
    lines = diff.split("\n")
    if lines[-1] == "":
        lines.pop()
    out: list[str] = []
    modes: list[str] = []
    index = 0
    while index < len(lines):
        line = lines[index]
        if match := _HUNK.fullmatch(line):
            out.append(f"@@ -{match['new']} +{match['old']} @@{match['rest']}")
            body, index = _reversed_hunk(lines, index + 1, _length(match["old"]), _length(match["new"]))
            out += body
            continue
        if line.startswith("--- ") and index + 1 < len(lines) and lines[index + 1].startswith("+++ "):
            old, new = line[4:], lines[index + 1][4:]
            out += [f"--- {_side(new, 'a')}", f"+++ {_side(old, 'b')}"]
            index += 2
            continue
        if match := _HEADER.fullmatch(line):
            modes.append(f"{_SWAPPED[match['name']]} {match['mode']}")
            following = _HEADER.fullmatch(lines[index + 1]) if index + 1 < len(lines) else None
            if following is None:
                out += reversed(modes)  # git writes the old mode before the new one
                modes.clear()
        elif match := _INDEX.fullmatch(line):
            out.append(f"index {match['new']}..{match['old']}{match['mode']}")
        elif line.startswith(("rename ", "copy ", "GIT binary patch", "Binary files ")):
            raise ValueError(f"cannot be reversed: {line[:60]}")
        else:
            out.append(line)
        index += 1
    return "\n".join(out) + "\n"


def _reversed_hunk(lines: list[str], start: int, old: int, new: int) -> tuple[list[str], int]:
    """The hunk's body turned round, removals before additions, and the index after it."""
    out: list[str] = []
    removed: list[str] = []
    added: list[str] = []
    index = start
    target = out
    while index < len(lines) and (old > 0 or new > 0 or lines[index].startswith("\\")):
        line = lines[index]
        sign = line[:1] or " "
        if sign == "\\":
            target.append(line)
        elif sign == "-":
            target, old = added, old - 1
            added.append("+" + line[1:])
        elif sign == "+":
            target, new = removed, new - 1
            removed.append("-" + line[1:])
        elif sign == " ":
            out += removed + added
            removed, added = [], []
            target, old, new = out, old - 1, new - 1
            out.append(line)
        else:
            raise ValueError("a hunk holds a line that is no diff line")
        index += 1
    if old != 0 or new != 0:
        raise ValueError("a hunk has another number of lines than its header says")
    return out + removed + added, index


def _length(part: str) -> int:
    return int(part.partition(",")[2] or 1)


def _side(path: str, side: str) -> str:
    if path == "/dev/null":
        return path
    return f'"{side}{path[2:]}' if path.startswith('"') else f"{side}{path[1:]}"
