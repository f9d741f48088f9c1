"""Which parts of a shell command execute code (python, pytest, ...), and which code that is.

A command is read as a shell would cut it: quotes, here-documents and substitutions are respected, so `rm`, `grep python`, an
editor's here-document or a path with "python" in it are not taken for an execution.
"""

import posixpath
import re
import shlex
from dataclasses import dataclass

from envpool.sandbox import Sandbox
from envpool.sandbox_errors import SandboxError

EXECUTORS = frozenset(
    [
        "python",
        "pypy",
        "ipython",
        "pytest",
        "py.test",
        "tox",
        "nox",
        "coverage",
        "pip",
        "uv",
        "make",
        "npm",
        "npx",
        "yarn",
        "node",
        "deno",
        "go",
        "cargo",
        "mvn",
        "gradle",
        "ruby",
        "rspec",
        "perl",
        "java",
        "ctest",
        "bash",
        "sh",
    ]
)
"""Programs that execute a repository's code (`bash`, `sh`: scripts of it). Versions (`python3.11`) and paths count as well."""
WRAPPERS = frozenset(
    [
        "env",
        "timeout",
        "time",
        "nice",
        "nohup",
        "command",
        "exec",
        "stdbuf",
        "sudo",
        "builtin",
        "xargs",
        "then",
        "do",
        "else",
        "if",
        "elif",
        "while",
        "until",
        "!",
    ]
)
"""What may stand before the program of a simple command."""
OPTIONS_WITH_ARGUMENT = {
    "env": ("-u", "--unset", "-C", "--chdir"),
    "timeout": ("-k", "--kill-after", "-s", "--signal"),
    "time": ("-f", "--format", "-o", "--output"),
    "nice": ("-n", "--adjustment"),
    "stdbuf": ("-i", "--input", "-o", "--output", "-e", "--error"),
    "sudo": ("-u", "--user", "-g", "--group", "-D", "--chdir", "-h", "--host", "-p", "--prompt"),
    "xargs": ("-I", "-n", "-P", "-d", "-L", "-s", "-a", "-E", "--max-args", "--max-procs", "--delimiter", "--arg-file"),
    "exec": ("-a",),
}
"""By wrapper: the options whose value is the next word."""
COMPOUND = frozenset(["for", "while", "until", "if", "case", "select", "function", "{", "("])
HEREDOC = re.compile(r"<<-?\s*(?P<quote>['\"]?)(?P<word>[A-Za-z_][\w.-]*)(?P=quote)")
COMMAND_START = re.compile(r"(?:^|[;&|({`\n]|\b(?:do|then|else)\b)\s*([^;&|(){}`\n]*)")
SHELL_SCRIPT = re.compile(r"""\b(?:ba)?sh +-\w*c +(?:'([^']*)'|"((?:[^"\\]|\\.)*)")""")
VERSION = re.compile(r"-?[0-9.]+$")
CODE_FILE = re.compile(r"[\w@./+-]+\.(?:py|pyi|rst|txt|dat|html|cfg|toml|ini|sh|js|ts|go|rs|rb|pl|c|h|cpp|java)\b")
IMPORT = re.compile(r"^[ \t]*(?:from[ \t]+([\w.]+)[ \t]+import[ \t]+\(?([\w, \t]*)|import[ \t]+([\w., \t]+))", re.MULTILINE)
MAX_FILES = 20
MAX_FILE_BYTES = 65_536
LIST_TIMEOUT_S = 10.0


@dataclass(frozen=True)
class CommandPart:
    """A piece of a command list: how it hangs on the piece before ("" for the first, ";", "&&", "||"), its text, and whether it
    executes code."""

    joint: str
    text: str
    executes: bool


def command_parts(command: str) -> tuple[CommandPart, ...]:
    """The pieces of a command list in order. A list with a loop, condition or group in it stays one piece.

    >>> [(part.joint, part.text, part.executes) for part in command_parts("cd src && python3 -m pytest -q; ls")]
    [('', 'cd src', False), ('&&', 'python3 -m pytest -q', True), (';', 'ls', False)]
    """
    pieces = _split(command)
    if any(text.split(None, 1)[0] in COMPOUND or text[0] in "({" for _, text in pieces):
        return (CommandPart("", command, executes_code(command)),)
    return tuple(CommandPart(joint, text, executes_code(text)) for joint, text in pieces)


def executes_code(command: str) -> bool:
    """Whether some simple command in it, also inside `$(...)`, pipelines and loops, is one of EXECUTORS or a script by path.

    >>> executes_code("grep -rn python src | head"), executes_code("PYTHONPATH=. timeout 60 python3.11 run.py | tail -3")
    (False, True)
    """
    scripts = [found[1] or found[2] for found in SHELL_SCRIPT.finditer(command)]
    return any(_is_executor(words) for words in _simple_commands(command)) or any(executes_code(script) for script in scripts)


def _simple_commands(command: str) -> list[list[str]]:
    text = _without_literals(command)
    return [found[1].split() for found in COMMAND_START.finditer(text) if found[1].strip()]


def _is_executor(words: list[str]) -> bool:
    wrapper, is_value = "", False
    for index, word in enumerate(words):
        if is_value:
            is_value = False
            continue
        if word in WRAPPERS or re.fullmatch(r"\w+=.*", word):
            wrapper = word if word in WRAPPERS else wrapper
            continue
        if index and (word.startswith("-") or re.fullmatch(r"[0-9.]+[smhd]?", word)):
            is_value = word in OPTIONS_WITH_ARGUMENT.get(wrapper, ())
            continue  # options and durations of a wrapper
        name = posixpath.basename(word)
        if word.startswith("./") or (word.startswith("/") and name.endswith((".py", ".sh"))):
            return True
        plain = VERSION.sub("", name)
        if plain in ("bash", "sh"):  # a script by name; what follows -c is looked into
            return any(not option.startswith("-") for option in words[index + 1 : index + 2])
        return plain in EXECUTORS
    return False


def _without_literals(command: str) -> str:
    """The command with quoted text blanked (double quotes that substitute stay) and bodies of here-documents left out."""
    lines: list[str] = []
    ends: list[str] = []
    for line in command.split("\n"):
        if ends:
            if line.strip() == ends[0]:
                ends.pop(0)
            continue
        ends = [found["word"] for found in HEREDOC.finditer(line)]
        lines.append(line)
    text = "\n".join(lines)
    text = re.sub(r"\\.|\{\}", "_", text, flags=re.DOTALL)  # `{}` is where xargs and find put a name, no group
    text = re.sub(r"'[^']*'", "_", text)
    return re.sub(r'"[^"]*"', lambda found: found[0].replace('"', " ") if re.search(r"\$\(|`", found[0]) else "_", text)


def _split(command: str) -> list[tuple[str, str]]:
    """(joint, text) of a list, cut at `;`, `&&`, `||` and line ends outside quotes, substitutions and here-documents. The body of
    a here-document stays with the piece that opens it."""
    pieces: list[tuple[str, str]] = []
    lines = command.split("\n")
    at = 0
    while at < len(lines):
        line = lines[at]
        while _open_quote(line) and at + 1 < len(lines):
            at += 1
            line += "\n" + lines[at]
        while line.endswith("\\") and at + 1 < len(lines):
            at += 1
            line += "\n" + lines[at]
        at += 1
        for joint, text in _split_line(line):
            body: list[str] = []
            for found in HEREDOC.finditer(text):
                while at < len(lines):
                    body.append(lines[at])
                    at += 1
                    if body[-1].strip() == found["word"]:
                        break
            text = "\n".join([text, *body])
            if text.strip():
                pieces.append((joint if pieces else "", text.strip("\n") if body else text.strip()))
    return pieces


def _split_line(line: str) -> list[tuple[str, str]]:
    pieces, joint, start, at, quote, depth = [], ";", 0, 0, "", 0
    while at < len(line):
        char = line[at]
        if char == "\\" and quote != "'":
            at += 2
            continue
        if quote:
            quote = "" if char == quote else quote
        elif char in "'\"`":
            quote = char
        elif char in "({":
            depth += 1
        elif char in ")}":
            depth -= 1
        elif depth == 0 and (char == ";" or line.startswith(("&&", "||"), at)):
            pieces.append((joint, line[start:at]))
            joint = ";" if char == ";" else line[at : at + 2]
            at += len(joint)
            start = at
            continue
        at += 1
    return [*pieces, (joint, line[start:])]


def _open_quote(line: str) -> bool:
    quote, at = "", 0
    while at < len(line):
        char = line[at]
        if char == "\\" and quote != "'":
            at += 1
        elif quote:
            quote = "" if char == quote else quote
        elif char in "'\"":
            quote = char
        elif char == "#" and (at == 0 or line[at - 1].isspace()):
            return False
        at += 1
    return bool(quote)


async def code_to_execute(sandbox: Sandbox, command: str, max_files: int = MAX_FILES) -> dict[str, str]:
    """The files that a command names (of a folder: its Python files), then the repository's modules that these import, path ->
    text; at most `max_files`, at most 64 KiB each. What cannot be read is left out. Raises SandboxError."""
    wanted = [match.rstrip(".") for match in CODE_FILE.findall(command)]
    wanted += await _files_of_folders(sandbox, command)
    found: dict[str, str] = {}
    seen: set[str] = set()
    while wanted and len(found) < max_files:
        path = posixpath.normpath(wanted.pop(0))
        if path in seen or len(seen) > 8 * max_files:
            continue
        seen.add(path)
        text = await _text_of(sandbox, path)
        if text is not None:
            found[path] = text
            wanted += _imported_paths(path, text)
    return found


async def _files_of_folders(sandbox: Sandbox, command: str) -> list[str]:
    """Python files below folders that an executing part names (`pytest tests/unit`), listed by one `find`."""
    words = [word for part in command_parts(command) if part.executes for word in part.text.split()]
    named = [word.rstrip("/") for word in words if re.fullmatch(r"[\w@+-][\w@/+-]*/[\w@/+-]*", word)]
    folders = [word for word in named if not posixpath.isabs(word)]
    if not folders:
        return []
    names = " ".join(map(shlex.quote, folders[:4]))
    listed = await sandbox.run(f"find {names} -name '*.py' -type f 2>/dev/null | sort | head -{MAX_FILES}", LIST_TIMEOUT_S)
    return listed.output.splitlines()


async def _text_of(sandbox: Sandbox, path: str) -> str | None:
    try:
        data = await sandbox.read_file(path, MAX_FILE_BYTES + 1)
        return data.decode() if len(data) <= MAX_FILE_BYTES else None
    except SandboxError:
        raise
    except (OSError, ValueError):
        return None


def _imported_paths(path: str, text: str) -> list[str]:
    """Where modules that a Python file imports may lie: beside it, below the workdir, below src."""
    if not path.endswith(".py"):
        return []
    names: list[str] = []
    for source, members, plain in IMPORT.findall(text):
        for name in [source] if source else [part.split()[0] for part in plain.split(",") if part.split()]:
            names.append(name.strip(".").replace(".", "/"))
            names += [f"{names[-1]}/{member.split()[0]}" for member in members.split(",") if member.split()] if source else []
    folders = dict.fromkeys((posixpath.dirname(path), "", "src"))
    return [
        posixpath.join(folder, f"{name}{end}") for name in names if name for folder in folders for end in (".py", "/__init__.py")
    ]
