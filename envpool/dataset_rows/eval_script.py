"""The shell script that runs a task's hidden tests: composing it, and taking the patching out of somebody else's.

The grader restores and patches the test files itself, in a fresh sandbox, so a script here only prepares the environment and
runs the tests. The test command comes last: its exit code is the script's.
"""

import re
import shlex
from dataclasses import dataclass

# What SWE-bench's own harness never hands to a test runner.
_DATA_SUFFIXES = (".json", ".png", ".csv", ".txt", ".md", ".jpg", ".jpeg", ".pkl", ".yml", ".yaml", ".toml")
_FILE_HEADER = re.compile(r"^diff --git a/.+ b/(?P<path>.+)$", re.MULTILINE)
_HERE_DOCUMENT = re.compile(r"^git apply\b.*<<-?\s*['\"]?(?P<end>\w+)['\"]?\s*$")
_MYPY_CASE = re.compile(r"\[case ([^\]\n]+)\]")
ENTER_ENVIRONMENT = (". /opt/miniconda3/bin/activate", "conda activate testbed")

WHY_LEFT_OUT = {
    "shell options": re.compile(r"#!.*|set -[a-z]*(?: pipefail)?"),
    "marker": re.compile(r": '>>>>> (?:Start|End) Test Output'|\w+=\$\?|echo \"(?:>>>>> )?Test Exit Code: .*\""),
    "tracing": re.compile(r"git status|git show|git (?:-c \S+ )?diff [0-9a-f]{7,40}"),
    "test files restored": re.compile(r"git checkout [0-9a-f]{7,40} .*"),
}
"""Lines of SWE-bench's scripts that are the grader's own work or no part of a run, by reason; so is a `git apply` of a
here-document."""
TEST_PATCH_APPLIED = "test patch applied"


@dataclass(frozen=True)
class SplitScript:
    """A script taken apart: the lines that are kept, and (reason, line) of each that is left out, both in order."""

    kept: tuple[str, ...]
    left_out: tuple[tuple[str, str], ...]


def runnable_test_files(test_patch: str) -> tuple[str, ...]:
    """Paths that a test patch adds or changes and that a test runner can be given, in the patch's order.

    >>> runnable_test_files("diff --git a/t.py b/t.py\\n--- a/t.py\\n+++ b/t.py\\ndiff --git a/d.json b/d.json\\n")
    ('t.py',)
    """
    headers = list(_FILE_HEADER.finditer(test_patch))
    ends = [*(header.start() for header in headers), len(test_patch)][1:]
    paths = []
    for header, end in zip(headers, ends, strict=True):
        deleted = "\ndeleted file mode " in test_patch[header.end() : end].split("\n@@", 1)[0]
        if not deleted and not header["path"].endswith(_DATA_SUFFIXES):
            paths.append(header["path"])
    return tuple(dict.fromkeys(paths))


def command_on_files(command: str, files: tuple[str, ...]) -> str:
    """The command with the files to run, quoted for the shell.

    >>> command_on_files("pytest -rA", ("a b.py", "c.py"))
    "pytest -rA 'a b.py' c.py"
    """
    return " ".join((command, *map(shlex.quote, files)))


def django_labels(files: tuple[str, ...]) -> tuple[str, ...]:
    """Django's runner takes modules, not files.

    >>> django_labels(("tests/admin_views/test_nav.py",))
    ('admin_views.test_nav',)
    """
    return tuple(file.removesuffix(".py").removeprefix("tests/").replace("/", ".") for file in files)


def mypy_cases(test_patch: str) -> str:
    """The `-k` expression of the data-driven cases in a mypy test patch, those of its context lines too.

    >>> mypy_cases("+[case testFirst]\\n x\\n [case testSecond]\\n")
    'testFirst or testSecond'
    """
    return " or ".join(_MYPY_CASE.findall(test_patch))


def compose_eval_script(setup: tuple[str, ...], install: tuple[str, ...], test_command: str, workdir: str) -> str:
    """The script in the form SWE-bench's harness gives it, without what `split_script` leaves out.

    >>> print(compose_eval_script(("export A=1",), ("pip install .",), "pytest -rA t.py", "/testbed"), end="")
    . /opt/miniconda3/bin/activate
    conda activate testbed
    cd /testbed
    export A=1
    git config --global --add safe.directory /testbed
    cd /testbed
    . /opt/miniconda3/bin/activate
    conda activate testbed
    pip install .
    pytest -rA t.py
    """
    enter = (*ENTER_ENVIRONMENT, f"cd {workdir}")
    safe = (f"git config --global --add safe.directory {workdir}", f"cd {workdir}")
    return "\n".join((*enter, *setup, *safe, *ENTER_ENVIRONMENT, *install, test_command)) + "\n"


def split_script(script: str) -> SplitScript:
    """Take a SWE-bench evaluation script apart. `source` becomes the POSIX dot; empty lines go without mention.

    Raises ValueError when a here-document never ends.
    """
    kept: list[str] = []
    left_out: list[tuple[str, str]] = []
    here_document_end = ""
    for line in script.replace("\r\n", "\n").split("\n"):
        if here_document_end:
            left_out.append((TEST_PATCH_APPLIED, line))
            here_document_end = "" if line == here_document_end else here_document_end
        elif match := _HERE_DOCUMENT.match(line):
            here_document_end = match["end"]
            left_out.append((TEST_PATCH_APPLIED, line))
        elif why := next((why for why, pattern in WHY_LEFT_OUT.items() if pattern.fullmatch(line)), None):
            left_out.append((why, line))
        elif line:
            kept.append(re.sub(r"^source ", ". ", line))
    if here_document_end:
        raise ValueError(f"has a here-document that never ends ({here_document_end})")
    return SplitScript(tuple(kept), tuple(left_out))


def without_test_patch(script: str) -> str:
    """What `split_script` keeps, as a script. Raises ValueError, also when nothing is kept."""
    kept = split_script(script).kept
    if not kept:
        raise ValueError("holds no command")
    return "\n".join(kept) + "\n"


_PREFIX = r"(?:cd \S+ && )?(?:[A-Za-z_]\w*=(?:'[^']*'|\"[^\"]*\"|[^\s'\"]*) )*"
_PYTEST = re.compile(_PREFIX + r"(?:python[\d.]* (?:-W \S+ |-[a-zA-Z]+ )*?-m )?(?:pytest|py\.test)(?= |$)")


def starts_pytest(script: str) -> bool:
    """True when the script starts pytest once, as its last command, and in a way that heeds PYTEST_ADDOPTS.

    Not so through tox or a script of the repository, nor when the options or the report are set otherwise.

    >>> [starts_pytest(s) for s in ("pip install .\\npytest -rA t.py\\n", "tox -e py39\\n", "./tests/runtests.py\\n")]
    [True, False, False]
    """
    lines = script.strip().split("\n")
    if any(word in script for word in ("PYTEST_ADDOPTS", "junit", "env -i")):
        return False
    return bool(_PYTEST.match(lines[-1])) and not any(_PYTEST.match(line) for line in lines[:-1])
