"""Which files of a test patch a runner is given."""

import pytest

from envpool.dataset_rows.eval_script import runnable_test_files

ADDED = "diff --git a/t.py b/t.py\n--- a/t.py\n+++ b/t.py\n"
DELETED = "diff --git a/old.py b/old.py\ndeleted file mode 100644\n--- a/old.py\n+++ /dev/null\n"


@pytest.mark.parametrize(
    ("patch", "files"),
    [
        ("", ()),
        ("--- a/t.py\n+++ b/t.py\n", ()),  # no git header: nothing to name
        (ADDED, ("t.py",)),
        (DELETED + ADDED + ADDED, ("t.py",)),
        ("text before\n" + ADDED, ("t.py",)),
    ],
)
def test_files_of_a_patch(patch: str, files: tuple[str, ...]) -> None:
    assert runnable_test_files(patch) == files
