"""View and edit files in the sandbox. Bytes that an edit does not touch stay as they are: tabs, line ends, odd encodings."""

import posixpath
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from configs.rollout_config import EpisodeConfig
from envpool.agent.edit_history import Edit, EditHistory
from envpool.sandbox import Sandbox
from envpool.tool import JsonSchema, Observation, ToolLimits, integer_pair

MAX_FILE_BYTES = 1_048_576
"""Larger files are neither shown nor edited."""
SNIPPET_LINES = 4
"""Lines shown around an edit, on each side (SWE-Master's observation format)."""
_NEEDED: dict[str, tuple[str, ...]] = {
    "view": (),
    "create": ("file_text",),
    "str_replace": ("old_str", "new_str"),
    "insert": ("insert_line", "new_str"),
    "undo_edit": (),
}
COMMANDS = tuple(_NEEDED)

_PARAMETERS: JsonSchema = {
    "type": "object",
    "properties": {
        "command": {"type": "string", "enum": list(COMMANDS), "description": "What to do."},
        "path": {"type": "string", "description": "File or directory, absolute or relative to the repository."},
        "file_text": {"type": "string", "description": "create: the new file's text."},
        "old_str": {"type": "string", "description": "str_replace: text that occurs exactly once, copied verbatim."},
        "new_str": {"type": "string", "description": "str_replace: what takes its place; insert: the lines to add."},
        "insert_line": {"type": "integer", "description": "insert: add after this line; 0 is before the first."},
        "view_range": {
            "type": "array",
            "items": {"type": "integer"},
            "description": "view: first and last line, counted from 1; -1 is the end of the file.",
        },
    },
    "required": ["command", "path"],
}


class _Refusal(Exception):
    """A wrong call, in both wordings."""

    def __init__(self, short: str, long: str) -> None:
        super().__init__(short, long)
        self.short, self.long = short, long


@dataclass(frozen=True)
class StrReplaceEditor:
    """`view`, `create`, `str_replace`, `insert` and `undo_edit`, as SWE-Master's tool but for text files of any name, tabs kept.

    `undo_edit` takes back the last edit that this tool made to the file in this episode, and the one before it when called
    again; it refuses when something else has changed the file since. The entry of TOOLS remembers nothing; `for_episode`
    gives one that does.
    """

    name: str = "str_replace_editor"
    description: str = (
        "View a file or directory, create a new file, replace a text that occurs exactly once, insert lines, or take back "
        "the last edit of a file. Replacing needs enough lines around the change to make old_str unique."
    )
    parameters: JsonSchema = field(default_factory=lambda: _PARAMETERS)
    history: EditHistory | None = field(default=None, compare=False)

    def for_episode(self, config: EpisodeConfig) -> "StrReplaceEditor":
        """One that remembers its edits."""
        return replace(self, history=EditHistory())

    async def close(self) -> None:
        """Nothing is running."""

    async def __call__(self, sandbox: Sandbox, arguments: Mapping[str, str], limits: ToolLimits) -> Observation:
        try:
            short, long = await _edit(sandbox, arguments, limits, self.history or EditHistory())
        except _Refusal as refusal:
            short, long = refusal.short, f"Error: {refusal.long}"
        return limits.say(short, f"Output of {self.name}:\n{long}")


async def _edit(sandbox: Sandbox, arguments: Mapping[str, str], limits: ToolLimits, history: EditHistory) -> tuple[str, str]:
    command = arguments["command"]
    for name in _NEEDED[command]:
        if name not in arguments:
            raise _Refusal(f"missing parameter {name}", f"{command} needs the parameter {name}.")
    path = _absolute(sandbox.workdir, arguments["path"])
    try:
        if command == "create":
            return await _create(sandbox, path, arguments["file_text"], history)
        if command == "undo_edit":
            return await _undo(sandbox, path, limits, history)
        if command == "view":
            return await _view(sandbox, path, arguments.get("view_range"), limits)
        text = await _read_text(sandbox, path)
        edit = _replace if command == "str_replace" else _insert
        changed, first, last = edit(text, path, arguments)
        before, after = (one.encode("utf-8", "surrogateescape") for one in (text, changed))
        await sandbox.write_file(path, after)
        history.add(Edit(path, before, after))
        return "edited", f"Edited {path}. The lines around the change:\n{_numbered(_lines(changed), first, last)}"
    except FileNotFoundError as error:
        raise _Refusal("no such file", f"there is no {path}.") from error
    except IsADirectoryError as error:
        raise _Refusal("is a directory", f"{path} is a directory; only view works on it.") from error
    except NotADirectoryError as error:
        raise _Refusal("not a directory", f"a parent of {path} is a file.") from error
    except PermissionError as error:
        raise _Refusal("not allowed", f"{path} cannot be reached or written from here.") from error


async def _create(sandbox: Sandbox, path: str, text: str, history: EditHistory) -> tuple[str, str]:
    try:
        await sandbox.read_file(path, 1)
    except FileNotFoundError:
        data = text.encode("utf-8", "surrogateescape")
        await sandbox.write_file(path, data)
        history.add(Edit(path, None, data))
        return "edited", f"Created {path} ({len(_lines(text))} lines)."
    raise _Refusal("file exists", f"{path} exists already; change it with str_replace or insert.")


async def _undo(sandbox: Sandbox, path: str, limits: ToolLimits, history: EditHistory) -> tuple[str, str]:
    edit = history.last(path)
    if edit is None:
        raise _Refusal("nothing to undo", f"{path} has no edit of this tool that could be taken back.")
    if await sandbox.read_file(path, len(edit.after) + 1) != edit.after:
        raise _Refusal("file has changed", f"{path} was changed otherwise since its last edit; nothing was taken back.")
    if edit.before is None:
        result = await sandbox.run(f"( rm -f -- {shlex.quote(path)} )", limits.timeout_s)
        if result.timed_out or result.exit_code:
            raise _Refusal("cannot delete", f"{path} could not be deleted (exit code {result.exit_code}).")
        history.forget(edit)
        return "undone", f"Took back the creation of {path}; the file is gone."
    await sandbox.write_file(path, edit.before)
    history.forget(edit)
    return "undone", f"Took back the last edit of {path}; it is as it was before."


async def _view(sandbox: Sandbox, path: str, view_range: str | None, limits: ToolLimits) -> tuple[str, str]:
    try:
        text = await _read_text(sandbox, path)
    except IsADirectoryError:
        if view_range is not None:
            raise _Refusal("view_range needs a file", f"{path} is a directory: leave view_range out.") from None
        return await _list_directory(sandbox, path, limits)
    shown = text.encode("utf-8", "surrogateescape").decode("utf-8", "replace").replace("\r\n", "\n")
    lines = _lines(shown)
    first, last = 1, len(lines)
    if view_range is not None:
        first, last = integer_pair(view_range) or (1, -1)
        last = len(lines) if last == -1 else min(last, len(lines))
        if not 1 <= first <= max(last, 1):
            raise _Refusal(
                f"view_range is not within 1 to {len(lines)}",
                f"view_range {view_range} does not fit: {path} has {len(lines)} lines.",
            )
    body = _numbered(lines, first, last) if lines else "(empty file)"
    return "\n".join(lines[first - 1 : last]), f"{path}, lines {first} to {last} of {len(lines)}:\n{body}"


async def _list_directory(sandbox: Sandbox, path: str, limits: ToolLimits) -> tuple[str, str]:
    """Two levels, hidden entries left out, directories with a slash. A subshell keeps the agent's working directory."""
    find = "find . -mindepth 1 -maxdepth 2 ! -path '*/.*' -exec ls -1dp {} + | LC_ALL=C sort"
    result = await sandbox.run(f"( cd {shlex.quote(path)} && {find} )", limits.timeout_s)
    if result.timed_out or result.exit_code:
        raise _Refusal("cannot list", f"{path} could not be listed (exit code {result.exit_code}).")
    entries = "\n".join(line.removeprefix("./") for line in result.output.splitlines())
    return entries, f"{path}, two levels, hidden entries left out:\n{entries or '(empty)'}"


def _replace(text: str, path: str, arguments: Mapping[str, str]) -> tuple[str, int, int]:
    old, new = arguments["old_str"], arguments["new_str"]
    if not old:
        raise _Refusal("old_str is empty", "old_str is empty; give the text to replace.")
    if old == new:
        raise _Refusal("no change", "old_str and new_str are equal; nothing was changed.")
    if old not in text and "\r\n" in text:  # the view shows Windows line ends as plain ones
        old, new = (part.replace("\r\n", "\n").replace("\n", "\r\n") for part in (old, new))
    count = text.count(old)
    if count == 0:
        raise _Refusal("old_str not found", f"old_str does not occur in {path}; copy it exactly, blanks included.")
    if count > 1:
        where = ", ".join(map(str, _match_lines(text, old, limit=10))) + (", ..." if count > 10 else "")
        raise _Refusal(
            f"old_str matches {count} times",
            f"old_str occurs {count} times in {path} (lines {where}); add lines around it until it is unique.",
        )
    before, after = text.split(old)
    start = before.count("\n") + 1
    return before + new + after, start - SNIPPET_LINES, start + new.count("\n") + SNIPPET_LINES


def _insert(text: str, path: str, arguments: Mapping[str, str]) -> tuple[str, int, int]:
    lines, at = _lines(text), int(arguments["insert_line"])
    if not 0 <= at <= len(lines):
        raise _Refusal(
            f"insert_line is not within 0 to {len(lines)}", f"insert_line {at} does not fit: {path} has {len(lines)} lines."
        )
    line_end = "\r\n" if "\r\n" in text else "\n"
    added = [line.removesuffix("\r") for line in arguments["new_str"].removesuffix("\n").split("\n")]
    head, tail = lines[:at], lines[at:]
    merged = "\n".join([*head, *(line + line_end[:-1] for line in added), *tail])
    ends_with_newline = not text or text.endswith("\n") or not tail
    return merged + "\n" * ends_with_newline, at + 1 - SNIPPET_LINES, at + len(added) + SNIPPET_LINES


async def _read_text(sandbox: Sandbox, path: str) -> str:
    """A text file, decoded so that encoding it again with surrogateescape gives the same bytes."""
    data = await sandbox.read_file(path, MAX_FILE_BYTES + 1)
    if len(data) > MAX_FILE_BYTES:
        raise _Refusal("file too large", f"{path} is larger than {MAX_FILE_BYTES} bytes; use execute_bash on parts of it.")
    if b"\0" in data[:8192]:
        raise _Refusal("binary file", f"{path} is a binary file.")
    return data.decode("utf-8", "surrogateescape")


def _absolute(workdir: str, path: str) -> str:
    path = path.strip()
    if not path or "\0" in path or len(path) > 4096:
        raise _Refusal("bad path", "path is empty, too long or holds a NUL byte.")
    return posixpath.normpath(posixpath.join(workdir, path))


def _lines(text: str) -> list[str]:
    """Lines without their newline; a final newline ends the last line and starts none."""
    return text.removesuffix("\n").split("\n") if text else []


def _numbered(lines: list[str], first: int, last: int) -> str:
    """Lines first to last (clipped), each after its number in six columns."""
    first = max(first, 1)
    return "\n".join(f"{number:6d} {line}" for number, line in enumerate(lines[first - 1 : last], first))


def _match_lines(text: str, old: str, limit: int) -> list[int]:
    """Line numbers of the first matches."""
    found: list[int] = []
    at = text.find(old)
    while at >= 0 and len(found) < limit:
        found.append(text.count("\n", 0, at) + 1)
        at = text.find(old, at + len(old))
    return found
