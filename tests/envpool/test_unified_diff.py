"""Diffs that git applies."""

import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envpool.unified_diff import file_diff

LINES = st.lists(st.text(alphabet="ab \r\x0c\x85é", max_size=4), max_size=6).map("\n".join)


@given(before=st.none() | LINES, after=st.none() | LINES)
def test_diffs_apply(tmp_path_factory: pytest.TempPathFactory, before: str | None, after: str | None) -> None:
    """git itself turns `before` into `after`."""
    diff = file_diff("f.txt", before, after)
    assert (diff == "") == (before == after)
    if not diff or (before or after or "") == "":
        return
    folder = tmp_path_factory.mktemp("apply")
    if before is not None:
        (folder / "f.txt").write_bytes(before.encode())
    subprocess.run(["git", "apply", "--whitespace=nowarn", "-"], cwd=folder, input=diff.encode(), check=True, capture_output=True)
    assert ((folder / "f.txt").read_bytes().decode() if (folder / "f.txt").exists() else None) == after
