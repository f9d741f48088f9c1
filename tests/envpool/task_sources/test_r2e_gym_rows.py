"""R2E-Gym. No real row is at hand: these are reconstructed from the documented columns; the commit record's shape is that of
a real SWE-bench Verified row in R2E-Gym's edition, which is tried too where it is at hand."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from envpool.dataset_rows.dataset_row import RowError
from envpool.dataset_rows.parsed_commit import commit_diff
from envpool.oracle import Oracle
from envpool.preparation import Preparation
from envpool.problem import Problem
from envpool.task_sources import TASK_SOURCES
from envpool.task_sources.r2e_gym_rows import EVAL_SCRIPT, HIDDEN, SET_UP
from tests.envpool.task_sources.row_examples import COMMIT, file_diff_record, r2e_row

VERIFIED = Path(__file__).parents[4] / "shared/data/swe_master/tasks/test_swe_bench_verified_full_ip_demo.json"
GOLD = (
    "diff --git a/pkg/code.py b/pkg/code.py\n--- a/pkg/code.py\n+++ b/pkg/code.py\n@@ -7,2 +7,2 @@ def f():\n"
    " a = 1\n-b = 1\n+b = 2\n"
)


def test_a_row_by_literal() -> None:
    task = TASK_SOURCES["r2e_gym"](r2e_row())
    instance_id = f"orange3__{COMMIT}"
    assert task.problem == Problem(
        instance_id, "biolab/orange3", f"{COMMIT}^", f"docker:namanjain12/orange3_final:{COMMIT}", "/testbed", "It breaks."
    )
    assert task.oracle == Oracle(
        instance_id=instance_id,
        gold_patch=GOLD,
        test_patch="",
        fail_to_pass=(),
        pass_to_pass=(),
        eval_script="cd /testbed\nrm -rf r2e_tests\ncp -a /r2e_hidden/r2e_tests r2e_tests\nbash /r2e_hidden/run_tests.sh\n",
        log_parser="parse_log_r2e",
        timeout_s=1800.0,
        resolution="exact_map",
        expected_status=(("TestCode.test_a", "PASSED"), ("test_b[x - y]", "FAILED"), ("", "ERROR")),
    )
    hidden = ("/r2e_hidden", "/r2e_tests", "/run_tests.sh", "r2e_tests", "run_tests.sh")
    assert task.preparation == Preparation(SET_UP, hidden)
    assert (task.language, task.source) == ("python", "r2e_gym")


def test_set_up_and_script_in_a_real_shell(tmp_path: Path) -> None:
    """The image's tests leave the work tree and come back for grading, whatever the agent put in their place."""
    testbed, root = tmp_path / "testbed", tmp_path

    def run(script: str) -> subprocess.CompletedProcess[str]:
        for name in (HIDDEN, "/testbed", "/r2e_tests", "/run_tests.sh"):
            script = script.replace(f" {name}", f" {root}{name}").replace(f"[ -e {root}{root}", f"[ -e {root}")
        return subprocess.run(["sh", "-c", script], cwd=testbed, capture_output=True, text=True, timeout=30, check=False)

    testbed.mkdir()
    (testbed / "run_tests.sh").write_text("cat r2e_tests/test_1.py\n")
    (testbed / "r2e_tests").symlink_to(root / "r2e_tests")
    assert run(SET_UP).returncode != 0  # an image without the tests is noticed
    for path in (root / "r2e_hidden").iterdir():
        path.rename(testbed / path.name)
    (root / "r2e_tests").mkdir()
    (root / "r2e_tests" / "test_1.py").write_text("hidden\n")
    assert run(SET_UP).returncode == 0
    assert list(testbed.iterdir()) == []
    (testbed / "r2e_tests").mkdir()
    (testbed / "r2e_tests" / "test_1.py").write_text("the agent's\n")
    (testbed / "run_tests.sh").write_text("echo all passed\n")
    assert run(EVAL_SCRIPT).stdout == "hidden\n"


@pytest.mark.skipif(not VERIFIED.is_file(), reason="the released rows (../shared/data/swe_master) are not here")
def test_a_real_commit_record_gives_the_real_patches() -> None:
    row = json.loads(VERIFIED.read_text())[0]
    assert commit_diff(row, "parsed_commit", tests=False) == row["patch"]
    assert commit_diff(row, "parsed_commit", tests=True) == row["test_patch"]


def test_new_and_deleted_files_and_missing_line_ends() -> None:
    new = file_diff_record("a.py", [("added", "x"), ("note", "\\ No newline at end of file")])
    new["minus_file"] = {"path": "/dev/null"}
    new["header"]["misc_line"] = "new file mode 100755"
    old = file_diff_record("b.py", [("deleted", "y")])
    old["plus_file"] = {"path": "/dev/null"}
    row = {"instance_id": "x", "commit": {"file_diffs": [new, old, file_diff_record("c.py", []) | {"hunks": []}]}}
    assert commit_diff(row, "commit", tests=False) == (
        "diff --git a/a.py b/a.py\nnew file mode 100755\n--- /dev/null\n+++ b/a.py\n@@ -1,0 +1,1 @@ def f():\n+x\n"
        "\\ No newline at end of file\n"
        "diff --git a/b.py b/b.py\ndeleted file mode 100644\n--- a/b.py\n+++ /dev/null\n@@ -1,1 +1,0 @@ def f():\n-y\n"
    )


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"docker_image": None}, "docker_image"),
        ({"commit_hash": "main"}, "commit_hash"),
        ({"expected_output_json": "{}"}, "expected_output_json"),
        ({"expected_output_json": '{"a": 1}'}, "expected_output_json"),
        ({"parsed_commit_content": "{}"}, "parsed_commit_content"),
        ({"parsed_commit_content": {"file_diffs": [file_diff_record("tests/a.py", [("added", "x")])]}}, "parsed_commit_content"),
        ({"parsed_commit_content": {"file_diffs": [file_diff_record("../a.py", [("added", "x")])]}}, "parsed_commit_content"),
        ({"parsed_commit_content": {"file_diffs": [{"is_binary_file": True}]}}, "parsed_commit_content"),
    ],
)
def test_the_field_at_fault_is_named(fields: dict[str, Any], field: str) -> None:
    with pytest.raises(RowError) as caught:
        TASK_SOURCES["r2e_gym"](r2e_row(**fields))
    assert caught.value.field == field
