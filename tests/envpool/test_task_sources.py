"""Dataset adapters: real rows of SWE-Master where they are at hand, literal rows, random rows."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envpool.dataset_row import RowError
from envpool.eval_script import compose_eval_script, runnable_test_files, without_test_patch
from envpool.task import Task
from envpool.task_rows import import_tasks
from envpool.task_sources import TASK_SOURCES

DATA = Path(__file__).parents[3] / "shared" / "data" / "swe_master"
REBENCH = DATA / "tasks" / "equal_0.3999999_0.9999999_swe-gym_and_rebench_demo.json"
REBENCH_WITH_SPECS = DATA / "tasks" / "equal_0.3999999_0.9999999_swe-gym_and_rebench_demo_add_make_test_spec.json"
VERIFIED = DATA / "tasks" / "test_swe_bench_verified_full_ip_demo.json"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="the released rows (../shared/data/swe_master) are not here")

COMMIT = "0123456789abcdef0123456789abcdef01234567"
DIFF = "diff --git a/{0} b/{0}\n--- a/{0}\n+++ b/{0}\n@@ -1 +1 @@\n-old\n+new\n"
REFERENCE_SCRIPT = f"""#!/bin/bash
set -uxo pipefail
source /opt/miniconda3/bin/activate
conda activate testbed
cd /testbed
git config --global --add safe.directory /testbed
git status
git show
git -c core.fileMode=false diff {COMMIT}
python -m pip install -e .
git checkout {COMMIT} tests/test_code.py
git apply -v - <<'EOF_1'
{DIFF.format("tests/test_code.py")}
EOF_1
: '>>>>> Start Test Output'
pytest -rA tests/test_code.py
: '>>>>> End Test Output'
git checkout {COMMIT} tests/test_code.py
"""


def swe_row(**fields: Any) -> dict[str, Any]:
    return {
        "instance_id": "astropy__astropy-1",
        "repo": "astropy/astropy",
        "base_commit": COMMIT,
        "problem_statement": "It breaks.",
        "patch": DIFF.format("astropy/code.py"),
        "test_patch": DIFF.format("tests/test_code.py") + DIFF.format("tests/data.json"),
        "FAIL_TO_PASS": '["tests/test_code.py::test_a"]',
        "PASS_TO_PASS": ["tests/test_code.py::test_b"],
    } | fields


def install_config(**fields: Any) -> dict[str, Any]:
    return {"install": "pip install -e .", "test_cmd": "pytest -rA", "log_parser": "parse_log_pytest"} | fields


def test_rebench_row_by_literal() -> None:
    image = "registry.example:5000/mirror/swerebench/sweb.eval.x86_64.owner_1776_name-1"
    config = install_config(env_vars={"MODE": "a b"}, test_cmd=["make data", "pytest -rA"])
    row = swe_row(docker_image=image, install_config=json.dumps(config), license_name="MIT License")
    task = TASK_SOURCES["swe_rebench"](row)
    assert task.problem.image == f"docker:{image}"
    assert task.problem.workdir == "/testbed"
    assert task.oracle.fail_to_pass == ("tests/test_code.py::test_a",)
    assert task.oracle.pass_to_pass == ("tests/test_code.py::test_b",)
    assert task.oracle.eval_script == (
        ". /opt/miniconda3/bin/activate\nconda activate testbed\ncd /testbed\nexport MODE='a b'\npip install -e .\nmake data\n"
        "pytest -rA tests/test_code.py\n"
    )
    assert (task.oracle.log_parser, task.oracle.timeout_s) == ("parse_log_pytest", 1800.0)
    assert (task.language, task.licence, task.split) == ("python", "MIT License", "train")
    assert json.loads(task.raw) == row


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({}, "docker_image"),
        ({"docker_image": None}, "docker_image"),
        ({"docker_image": "two words"}, "docker_image"),
        ({"docker_image": "x", "install_config": install_config(test_cmd=None)}, "test_cmd"),
        ({"docker_image": "x", "install_config": install_config(log_parser=None)}, "log_parser"),
        ({"docker_image": "x", "install_config": install_config(env_vars={"a b": "c"})}, "install_config.env_vars"),
        ({"docker_image": "x", "install_config": install_config(), "test_patch": DIFF.format("d.json")}, "test_patch"),
        ({"docker_image": "x", "install_config": install_config(), "patch": "no diff"}, "patch"),
        ({"docker_image": "x", "install_config": install_config(), "FAIL_TO_PASS": []}, "FAIL_TO_PASS"),
    ],
)
def test_rebench_names_the_field_at_fault(fields: dict[str, Any], field: str) -> None:
    with pytest.raises(RowError) as caught:
        TASK_SOURCES["swe_rebench"](swe_row(**fields))
    assert (caught.value.row_id, caught.value.field) == ("astropy__astropy-1", field)


def test_swe_bench_rows_of_both_editions() -> None:
    expected = (
        ". /opt/miniconda3/bin/activate\nconda activate testbed\ncd /testbed\n"
        "git config --global --add safe.directory /testbed\npython -m pip install -e .\npytest -rA tests/test_code.py\n"
    )
    r2e = TASK_SOURCES["swe_bench"](
        swe_row(docker_image="a/verified:sweb.eval.x86_64.astropy__astropy-1", run_tests=REFERENCE_SCRIPT)
    )
    five = TASK_SOURCES["swe_bench"](
        swe_row(image="swebench/a:latest", eval_script=REFERENCE_SCRIPT, log_parser="parse_log_astropy")
    )
    assert r2e.oracle.eval_script == five.oracle.eval_script == expected
    assert (r2e.problem.image, r2e.oracle.log_parser) == (
        "docker:a/verified:sweb.eval.x86_64.astropy__astropy-1",
        "parse_log_pytest_v2",
    )
    assert (five.problem.image, five.oracle.log_parser) == ("docker:swebench/a:latest", "parse_log_astropy")


def test_swe_bench_rows_that_do_not_say_how_tests_run() -> None:
    for fields, field in (
        ({}, "eval_script"),
        ({"run_tests": "pytest"}, "image"),
        ({"run_tests": "pytest", "docker_image": "x", "repo": "who/knows"}, "log_parser"),
        ({"run_tests": "git apply -v - <<'EOF_1'\ndiff", "docker_image": "x"}, "run_tests"),
    ):
        with pytest.raises(RowError) as caught:
            TASK_SOURCES["swe_bench"](swe_row(**fields))
        assert caught.value.field == field


def test_test_files_leave_out_deleted_and_data_files() -> None:
    deleted = "diff --git a/old.py b/old.py\ndeleted file mode 100644\n--- a/old.py\n+++ /dev/null\n@@ -1 +0,0 @@\n-x\n"
    added = (
        "diff --git a/tests/new.py b/tests/new.py\nnew file mode 100644\n--- /dev/null\n+++ b/tests/new.py\n@@ -0,0 +1 @@\n+x\n"
    )
    assert runnable_test_files(DIFF.format("a.py") + deleted + DIFF.format("d.yaml") + added) == ("a.py", "tests/new.py")


def test_paths_are_quoted() -> None:
    assert compose_eval_script((), "pytest", ("a b.py", "$(x).py")) == "pytest 'a b.py' '$(x).py'\n"


@needs_data
def test_rebench_scripts_equal_the_released_specs() -> None:
    """SWE-Master's own compiled scripts, less what the grader does, are what we compose from install_config."""
    result = import_tasks(REBENCH_WITH_SPECS, "swe_rebench")
    assert (len(result.tasks), result.errors) == (3, ())
    rows = json.loads(REBENCH_WITH_SPECS.read_text())
    specs = [row["make_test_spec"] for row in rows] + [
        json.loads(path.read_text()) for path in sorted((DATA / "test_specs").iterdir())
    ]
    by_id = {task.instance_id: task for task in result.tasks}
    assert len(specs) == 5
    for spec in specs:
        assert _commands("\n".join(spec["eval_script_list"])) == _commands(by_id[spec["instance_id"]].oracle.eval_script)


def _commands(script: str) -> list[str]:
    """Commands that matter, each once: the reference activates the environment twice."""
    lines = without_test_patch(script).splitlines()
    return list(dict.fromkeys(line for line in lines if not line.startswith("git config")))


@needs_data
def test_released_rows_all_import() -> None:
    rebench, verified = import_tasks(REBENCH, "swe_rebench"), import_tasks(VERIFIED, "swe_bench")
    assert (rebench.errors, verified.errors) == ((), ())
    assert [task.instance_id for task in rebench.tasks + verified.tasks] == [
        "fair-workflows__nanopub-140",
        "fairlearn__fairlearn-636",
        "falconry__falcon-2254",
        "astropy__astropy-12907",
    ]
    raw = {row["instance_id"]: row for path in (REBENCH, VERIFIED) for row in json.loads(path.read_text())}
    for task in rebench.tasks + verified.tasks:
        row = raw[task.instance_id]
        assert task.problem.image == f"docker:{row['docker_image']}"
        assert task.problem.problem_statement == row["problem_statement"]
        assert json.loads(task.raw) == row
        assert task.oracle.test_patch not in task.oracle.eval_script
    assert [len(task.oracle.fail_to_pass) for task in rebench.tasks + verified.tasks] == [1, 1, 1, 2]
    assert verified.tasks[0].oracle.eval_script.splitlines()[-1] == "pytest -rA astropy/modeling/tests/test_separable.py"


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.binary(max_size=5),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=8), children, max_size=3),
    max_leaves=6,
)
FIELDS = sorted({*swe_row(), "docker_image", "image", "install_config", "run_tests", "eval_script", "log_parser", "license_name"})
DIFF_LIKE = st.text(alphabet="ab/+-@ 1,\n\r\\d", max_size=60).map(
    lambda text: "diff --git a/t.py b/t.py\n--- a/t.py\n+++ b/t.py\n" + text
)
GOOD = swe_row(docker_image="x", install_config=install_config(), run_tests="pytest")


@pytest.mark.parametrize("source", sorted(TASK_SOURCES))
@settings(max_examples=150, deadline=None)
@given(changes=st.dictionaries(st.sampled_from(FIELDS), JUNK | DIFF_LIKE, max_size=4), empty=st.booleans())
def test_random_rows_raise_nothing_but_row_errors(source: str, changes: dict[str, Any], empty: bool) -> None:
    row = ({} if empty else dict(GOOD)) | changes
    try:
        task = TASK_SOURCES[source](row)
    except RowError as error:
        messages = str(error).splitlines()
    else:
        messages = ["a task"]
        assert isinstance(task, Task)
        assert task.oracle.fail_to_pass
    assert len(messages) == 1
