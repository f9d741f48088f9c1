"""The shell script that runs a task's hidden tests: composing it, and taking the patching out of somebody else's.

The grader restores and patches the test files itself, in a fresh sandbox, so a script here only prepares the environment and
runs the tests. The test command comes last: its exit code is the script's.
"""

import re
import shlex

# What SWE-bench's own harness never hands to a test runner.
_DATA_SUFFIXES = (".json", ".png", ".csv", ".txt", ".md", ".jpg", ".jpeg", ".pkl", ".yml", ".yaml", ".toml")
_FILE_HEADER = re.compile(r"^diff --git a/.+ b/(?P<path>.+)$", re.MULTILINE)
_HERE_DOCUMENT = re.compile(r"^git apply\b.*<<-?\s*['\"]?(?P<end>\w+)['\"]?\s*$")
_DROPPED = re.compile(
    r"^(?:#!.*|set -[a-z]*(?: pipefail)?|: '>>>>> (?:Start|End) Test Output'|git status|git show"
    r"|git (?:-c \S+ )?diff [0-9a-f]{7,40}|git checkout [0-9a-f]{7,40} .*)$"
)


def runnable_test_files(test_patch: str) -> tuple[str, ...]:
    """Paths that a test patch adds or changes and that a test runner can be given, in the patch's order.

    >>> runnable_test_files("diff --git a/t.py b/t.py\\n--- a/t.py\\n+++ b/t.py\\ndiff --git a/d.json b/d.json\\n")
    ('t.py',)
    """
    headers = list(_FILE_HEADER.finditer(test_patch))
    ends = [header.start() for header in headers[1:]] + [len(test_patch)]
    paths = []
    for header, end in zip(headers, ends, strict=True):
        deleted = "\ndeleted file mode " in test_patch[header.end() : end].split("\n@@", 1)[0]
        if not deleted and not header["path"].endswith(_DATA_SUFFIXES):
            paths.append(header["path"])
    return tuple(dict.fromkeys(paths))


def compose_eval_script(setup: tuple[str, ...], test_command: str, files: tuple[str, ...]) -> str:
    """Setup lines, then the test command with the files to run.

    >>> compose_eval_script(("cd /testbed",), "pytest -rA", ("tests/test_a.py",))
    'cd /testbed\\npytest -rA tests/test_a.py\\n'
    """
    return "\n".join((*setup, " ".join((test_command, *map(shlex.quote, files))))) + "\n"


def without_test_patch(script: str) -> str:
    """A SWE-bench evaluation script without what the grader does itself: restoring and patching test files, markers, tracing.

    `source` becomes the POSIX dot. Raises ValueError when a here-document never ends.
    """
    kept: list[str] = []
    here_document_end = ""
    for line in script.replace("\r\n", "\n").split("\n"):
        if here_document_end:
            here_document_end = "" if line == here_document_end else here_document_end
        elif match := _HERE_DOCUMENT.match(line):
            here_document_end = match["end"]
        elif line and not _DROPPED.match(line):
            kept.append(re.sub(r"^source ", ". ", line))
    if here_document_end:
        raise ValueError(f"has a here-document that never ends ({here_document_end})")
    return "\n".join(kept) + "\n"
