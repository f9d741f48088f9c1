"""SWE-smith. No real row is at hand: these are reconstructed from the documented columns."""

import subprocess
from pathlib import Path
from typing import Any

import pytest

from envpool.dataset_rows.dataset_row import RowError
from envpool.oracle import Oracle
from envpool.problem import Problem
from envpool.task_sources import TASK_SOURCES
from tests.envpool.task_sources.row_examples import DIFF, smith_row

GOLD = (
    "diff --git a/bleach/code.py b/bleach/code.py\n--- a/bleach/code.py\n+++ b/bleach/code.py\n"
    "@@ -3,2 +3,3 @@ def f():\n x\n-wrong\n+right\n+kept\n"
)
ENTER = ". /opt/miniconda3/bin/activate\nconda activate testbed\ncd /testbed\n"


def test_a_row_by_literal() -> None:
    row = smith_row()
    task = TASK_SOURCES["swe_smith"](row)
    instance_id = "mozilla__bleach.73871d76.func_basic__0"
    assert task.problem == Problem(
        instance_id,
        "mozilla/bleach",
        "73871d76",
        "docker:swebench/swesmith.x86_64.mozilla_1776_bleach.73871d76",
        "/testbed",
        "It breaks.",
    )
    assert task.oracle == Oracle(
        instance_id=instance_id,
        gold_patch=GOLD,
        test_patch="",
        fail_to_pass=("tests/test_code.py::test_a", "tests/test_code.py::TestB::test_c"),
        pass_to_pass=("tests/test_other.py::test_b",),
        eval_script=f"{ENTER}pytest --disable-warnings --color=no --tb=no --verbose\n",
        log_parser="parse_log_pytest_verbose",
        timeout_s=1800.0,
        junit=True,
    )
    lines = task.preparation.setup_script.split("\n")
    assert lines[0].startswith("git apply --whitespace=nowarn - <<'BUG_")
    assert "\n".join(lines[1:-2]) + "\n" == row["patch"]
    assert lines[-2:] == [lines[0][-21:-1], ""]
    assert task.preparation.hidden_paths == ("tests/test_code.py",)
    assert (task.language, task.source) == ("python", "swe_smith")


def test_the_set_up_breaks_and_the_gold_patch_mends(tmp_path: Path) -> None:
    def git(*words: str, text: str = "") -> None:
        subprocess.run(["git", *words], cwd=tmp_path, input=text, text=True, check=True, capture_output=True, timeout=30)

    healthy = "a\nb\nx\nright\nkept\n"
    (tmp_path / "bleach").mkdir()
    (tmp_path / "bleach" / "code.py").write_text(healthy)
    git("init", "-q")
    task = TASK_SOURCES["swe_smith"](smith_row())
    subprocess.run(["sh", "-c", task.preparation.setup_script], cwd=tmp_path, check=True, capture_output=True, timeout=30)
    assert (tmp_path / "bleach" / "code.py").read_text() == "a\nb\nx\nwrong\n"
    git("apply", "-", text=task.oracle.gold_patch)
    assert (tmp_path / "bleach" / "code.py").read_text() == healthy


@pytest.mark.parametrize(
    ("repo", "command", "parser", "junit"),
    [
        (
            "mido__mido.a0158ff9",
            "pytest --disable-warnings --color=no --tb=no --verbose -rs -c /dev/null",
            "parse_log_pytest_verbose",
            True,
        ),
        ("paramiko__paramiko.23f92003", "pytest -rA --color=no --disable-warnings", "parse_log_pytest", True),
        (
            "pydantic__pydantic.acb0f10f",
            "/root/.local/bin/uv run pytest --disable-warnings --color=no --tb=no --verbose",
            "parse_log_pytest_verbose",
            False,
        ),
        (
            "getmoto__moto.694ce1f4",
            "pytest --disable-warnings --color=no --tb=no --verbose tests/test_code.py tests/test_other.py",
            "parse_log_pytest_verbose",
            True,
        ),
    ],
)
def test_profiles_that_differ(repo: str, command: str, parser: str, junit: bool) -> None:
    oracle = TASK_SOURCES["swe_smith"](smith_row(repo=f"swesmith/{repo}")).oracle
    assert (oracle.eval_script, oracle.log_parser, oracle.junit) == (f"{ENTER}{command}\n", parser, junit)


def test_what_the_row_says_comes_first() -> None:
    task = TASK_SOURCES["swe_smith"](
        smith_row(language="go", test_cmd="go test ./...", log_parser="parse_log_gotest", image_name=None, base_commit="abc")
    )
    assert (task.oracle.eval_script, task.oracle.log_parser) == (f"{ENTER}go test ./...\n", "parse_log_gotest")
    assert task.problem.image == "docker:swebench/swesmith.x86_64.mozilla_1776_bleach.73871d76"
    assert (task.problem.base_commit, task.language, task.oracle.junit) == ("abc", "go", False)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"repo": "mozilla/bleach"}, "repo"),
        ({"repo": "swesmith/tornadoweb__tornado.d5ac65c1"}, "test_cmd"),
        ({"language": "rust"}, "test_cmd"),
        ({"test_cmd": "pytest"}, "log_parser"),
        ({"patch": "diff --git a/a b/b\nsimilarity index 90%\nrename from a\nrename to b\n"}, "patch"),
        ({"patch": DIFF.format("../x.py")}, "patch"),
        ({"FAIL_TO_PASS": ["../tests/test_a.py::x"]}, "FAIL_TO_PASS"),
        ({"FAIL_TO_PASS": []}, "FAIL_TO_PASS"),
    ],
)
def test_the_field_at_fault_is_named(fields: dict[str, Any], field: str) -> None:
    with pytest.raises(RowError) as caught:
        TASK_SOURCES["swe_smith"](smith_row(**fields))
    assert caught.value.field == field
