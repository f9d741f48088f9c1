"""Diffs in rows: paths, binary parts, line ends; and turning them round, against git itself."""

import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envpool.dataset_rows.dataset_row import RowError
from envpool.dataset_rows.reverse_diff import reverse_diff
from envpool.dataset_rows.row_diff import diff
from envpool.diff_paths import touched_paths
from envpool.unified_diff import file_diff
from tests.envpool.task_sources.row_examples import DIFF

QUOTED = (
    'diff --git "a/caf\\303\\251.py" "b/caf\\303\\251.py"\n--- "a/caf\\303\\251.py"\n'
    '+++ "b/caf\\303\\251.py"\n@@ -1 +1 @@\n-x\n+y\n'
)
IN_BODY = "diff --git a/x.sql b/x.sql\n--- a/x.sql\n+++ b/x.sql\n@@ -1,2 +1,2 @@\n--- /etc/passwd\n+++ ../up\n z\n"
RENAME = "diff --git a/a.py b/{0}\nsimilarity index 100%\nrename from a.py\nrename to {0}\n"


def test_paths() -> None:
    assert touched_paths(QUOTED) == ("café.py",)
    assert touched_paths(IN_BODY) == ("x.sql",)
    assert touched_paths(RENAME.format("b.py")) == ("a.py", "b.py")


@pytest.mark.parametrize(
    "value",
    [
        DIFF.format("../x"),
        DIFF.format("/etc/passwd"),
        DIFF.format("a/../../x"),
        DIFF.format(".git/hooks/pre-commit"),
        DIFF.format("fine.py") + DIFF.format("../x"),
        RENAME.format("../b.py"),
        QUOTED.replace("caf\\303\\251", "..\\057up"),
        "--- a/../x\n+++ b/../x\n@@ -1 +1 @@\n-a\n+b\n",
    ],
)
def test_paths_that_leave_the_repository_are_refused(value: str) -> None:
    with pytest.raises(RowError, match=r"leaves the repository|not a unified diff"):
        diff({"instance_id": "x", "patch": value}, "patch")


@pytest.mark.parametrize(
    "part",
    [
        "diff --git a/i.png b/i.png\nindex 1..2 100644\nBinary files a/i.png and b/i.png differ\n",
        "diff --git a/i.png b/i.png\nindex 1..2 100644\nGIT binary patch\nliteral 3\nKcmZQzV{&E\n\nliteral 0\nHcmV?d00001\n\n",
    ],
)
def test_binary_parts_are_refused(part: str) -> None:
    with pytest.raises(RowError, match=r"binary file|not a unified diff"):
        diff({"instance_id": "x", "patch": DIFF.format("a.py") + part}, "patch")


def test_line_ends() -> None:
    plain = DIFF.format("a.py")
    in_file = plain.replace("-old\n+new\n", "-old\r\n+new\r\n")
    assert diff({"patch": plain.replace("\n", "\r\n")}, "patch") == plain
    assert diff({"patch": in_file}, "patch") == in_file
    assert diff({"patch": in_file.replace("\n", "\r\n")}, "patch") == in_file
    with pytest.raises(RowError, match="CRLF line ends in its headers but not throughout"):
        diff({"patch": plain.replace("@@\n", "@@\r\n")}, "patch")


@pytest.mark.parametrize("value", ["no diff", "diff --git a/x b/x\n", "@@ -1 +1 @@\n-a\n+b\n", DIFF.format("a\0b")])
def test_what_is_no_diff(value: str) -> None:
    with pytest.raises(RowError):
        diff({"instance_id": "x", "patch": value}, "patch")


def test_reversing_headers() -> None:
    forward = (
        "diff --git a/n.py b/n.py\nnew file mode 100644\nindex 0000000..1234567\n--- /dev/null\n+++ b/n.py\n@@ -0,0 +1 @@\n+x\n"
        "\\ No newline at end of file\n"
        "diff --git a/m.sh b/m.sh\nold mode 100644\nnew mode 100755\n"
    )
    backward = (
        "diff --git a/n.py b/n.py\ndeleted file mode 100644\nindex 1234567..0000000\n--- a/n.py\n+++ /dev/null\n"
        "@@ -1 +0,0 @@\n-x\n"
        "\\ No newline at end of file\n"
        "diff --git a/m.sh b/m.sh\nold mode 100755\nnew mode 100644\n"
    )
    assert reverse_diff(forward) == backward
    assert reverse_diff(backward) == forward


@pytest.mark.parametrize(
    "value", [RENAME.format("b.py"), DIFF.format("a.py").replace("+1 @@", "+1,4 @@"), DIFF.format("a.py").replace("-old", "?old")]
)
def test_what_cannot_be_reversed(value: str) -> None:
    with pytest.raises(ValueError, match=r"cannot be reversed|number of lines|no diff line"):
        reverse_diff(value)


LINES = st.lists(st.sampled_from(["a", "b", "--- a/x", "+++ b/y", "@@ -1 +1 @@", "\\ x", "", "c\r"]), max_size=8)
CONTENT = st.none() | st.builds(lambda lines, end: "\n".join(lines) + end, LINES, st.sampled_from(["", "\n"]))


@settings(max_examples=40, deadline=None)
@given(before=CONTENT, after=CONTENT)
def test_git_takes_a_reversed_diff_back(tmp_path_factory: pytest.TempPathFactory, before: str | None, after: str | None) -> None:
    forward = file_diff("d/x", before, after)
    if not forward or "@@" not in forward:
        return
    folder: Path = tmp_path_factory.mktemp("reverse")
    if before is not None:
        (folder / "d").mkdir()
        (folder / "d" / "x").write_bytes(before.encode())
    for text in (forward, reverse_diff(forward)):
        command = ["git", "apply", "--whitespace=nowarn", "-"]
        subprocess.run(command, cwd=folder, input=text.encode(), check=True, timeout=30)
    assert ((folder / "d" / "x").read_bytes().decode() if (folder / "d" / "x").exists() else None) == before
