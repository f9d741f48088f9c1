"""Cutting a git diff into files, against git's own output."""

import subprocess
from pathlib import Path

import pytest

from tests.verifier.small_repo import file_diff
from verifier.patch_sections import changed_lines, drop_paths, normalised_diff, patch_sections

TWO = (
    "diff --git a/a.py b/a.py\nindex 111..222 100644\n--- a/a.py\n+++ b/a.py\n"
    "@@ -1,2 +1,2 @@ def f():\n x\n-diff --git a b\n+--- y\n"
    "diff --git a/tests/t.py b/tests/t.py\nnew file mode 100644\n--- /dev/null\n+++ b/tests/t.py\n@@ -0,0 +1 @@\n+1\n"
)


def test_sections_join_to_the_whole() -> None:
    sections = patch_sections(TWO)
    assert [section.paths for section in sections] == [("a.py",), ("tests/t.py",)]
    assert "".join(section.text for section in sections) == TWO
    assert changed_lines(sections[0]) == "-diff --git a b\n+--- y\n"
    assert patch_sections("") == ()


@pytest.mark.parametrize(
    ("hidden", "kept"),
    [
        (("tests/t.py",), ["a.py"]),
        (("a.py", "tests/t.py"), []),
        (("b.py",), ["a.py", "tests/t.py"]),
        (("tests/t.py/x",), ["a.py"]),
    ],
)
def test_hidden_files_are_dropped_with_what_stands_in_their_way(hidden: tuple[str, ...], kept: list[str]) -> None:
    assert [section.paths[0] for section in patch_sections(drop_paths(TWO, hidden))] == kept


def test_equal_edits_have_one_normal_form() -> None:
    other = TWO.replace("@@ -1,2 +1,2 @@ def f():\n x\n", "@@ -2 +9 @@\n").replace("111..222", "333..444")
    assert normalised_diff(other) == normalised_diff(TWO)
    assert normalised_diff(TWO) == "a.py\n@2\n-diff --git a b\n+--- y\ntests/t.py\n@0\n+1\n"
    assert normalised_diff(TWO.replace("+1\n", "+2\n")) != normalised_diff(TWO)
    assert normalised_diff(TWO.replace("a.py", "b.py")) != normalised_diff(TWO)


def test_the_same_change_in_two_places_is_two_edits() -> None:
    twice = "def f(a, b):\n    return a - b\ndef g(a, b):\n    return a - b\n"
    first, second = (file_diff("m.py", twice, "+".join(parts)) for parts in (twice.split("-", 1), twice.rsplit("-", 1)))
    assert changed_lines(patch_sections(first)[0]) == changed_lines(patch_sections(second)[0])
    assert normalised_diff(first) == "m.py\n@2\n-    return a - b\n+    return a + b\n"
    assert normalised_diff(second) == "m.py\n@4\n-    return a - b\n+    return a + b\n"
    both = file_diff("m.py", twice, twice.replace("-", "+"))
    assert normalised_diff(both) == normalised_diff(first) + normalised_diff(second).removeprefix("m.py\n")
    grown = file_diff("m.py", twice, "import x\n" + "+".join(twice.rsplit("-", 1)))  # the new position moves, the old does not
    assert normalised_diff(grown) == normalised_diff(second).replace("m.py\n", "m.py\n@1\n+import x\n")


def test_a_plain_diff_is_cut_at_its_headers() -> None:
    plain = "--- a/x.py\n+++ b/x.py\n@@ -1 +1 @@\n--- old\n+++ new\n--- a/y.py\n+++ b/y.py\n@@ -1 +1 @@\n-1\n+2\n"
    assert [section.paths for section in patch_sections(plain)] == [("x.py",), ("y.py",)]


def test_renames_modes_quotes_and_binaries_of_real_git(tmp_path: Path) -> None:
    def git(*arguments: str) -> str:
        command = ["git", "-c", "user.name=a", "-c", "user.email=a@b", *arguments]
        return subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True, timeout=30).stdout

    git("init", "-q")
    names = ["plain.py", "old name.py", "mode.sh", "café.py", "data.bin"]
    for name in names:
        (tmp_path / name).write_bytes(b"\0\1" if name.endswith("bin") else b"one\ntwo\nthree\nfour\n")
    git("add", "-A")
    git("commit", "-qm", "base")
    (tmp_path / "old name.py").rename(tmp_path / "new name.py")
    (tmp_path / "mode.sh").chmod(0o755)
    (tmp_path / "café.py").write_text("one\n")
    (tmp_path / "data.bin").write_bytes(b"\0\2")
    (tmp_path / "plain.py").unlink()
    git("add", "-A")
    diff = git("diff", "--cached", "--binary", "-M")
    paths = {section.paths for section in patch_sections(diff)}
    assert paths == {("café.py",), ("data.bin",), ("mode.sh",), ("old name.py", "new name.py"), ("plain.py",)}
    for name in ("café.py", "data.bin", "old name.py"):
        rest = drop_paths(diff, [name])
        assert len(patch_sections(rest)) == 4
        git("reset", "-q", "--hard")
        (tmp_path / "rest.diff").write_text(rest)
        git("apply", "--check", "rest.diff")
