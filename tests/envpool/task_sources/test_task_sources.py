"""Adapters of SWE-bench and SWE-rebench rows: real rows of SWE-Master where they are at hand, literal rows, and for all
adapters random rows."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envpool.dataset_rows.dataset_row import RowError
from envpool.dataset_rows.eval_script import runnable_test_files, split_script
from envpool.dataset_rows.task_rows import import_tasks
from envpool.oracle import Oracle
from envpool.preparation import Preparation
from envpool.problem import Problem
from envpool.task import Task
from envpool.task_sources import TASK_SOURCES
from tests.envpool.task_sources.row_examples import COMMIT, DIFF, EXAMPLES, install_config, swe_row

DATA = Path(__file__).parents[4] / "shared" / "data" / "swe_master"
REBENCH = DATA / "tasks" / "equal_0.3999999_0.9999999_swe-gym_and_rebench_demo.json"
REBENCH_WITH_SPECS = DATA / "tasks" / "equal_0.3999999_0.9999999_swe-gym_and_rebench_demo_add_make_test_spec.json"
VERIFIED = DATA / "tasks" / "test_swe_bench_verified_full_ip_demo.json"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="the released rows (../shared/data/swe_master) are not here")

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


ENTER = ". /opt/miniconda3/bin/activate\nconda activate testbed\n"
SAFE = "git config --global --add safe.directory /testbed\ncd /testbed\n"


def test_rebench_row_by_literal() -> None:
    image = "registry.example:5000/mirror/swerebench/sweb.eval.x86_64.owner_1776_name-1"
    config = install_config(env_vars={"MODE": "a b", "OTHER": None}, test_cmd=["make data", "pytest -rA"])
    meta = {"llm_score": {"difficulty_score": 2}}
    row = swe_row(docker_image=image, install_config=json.dumps(config), license_name="MIT License", meta=meta)
    task = TASK_SOURCES["swe_rebench"](row)
    assert task.problem == Problem("astropy__astropy-1", "astropy/astropy", COMMIT, f"docker:{image}", "/testbed", "It breaks.")
    assert task.oracle == Oracle(
        instance_id="astropy__astropy-1",
        gold_patch=DIFF.format("astropy/code.py"),
        test_patch=DIFF.format("tests/test_code.py") + DIFF.format("tests/data.json"),
        fail_to_pass=("tests/test_code.py::test_a",),
        pass_to_pass=("tests/test_code.py::test_b",),
        eval_script=f"{ENTER}cd /testbed\nexport MODE='a b'\n{SAFE}{ENTER}pip install -e .\nmake data\n"
        "pytest -rA tests/test_code.py\n",
        log_parser="parse_log_pytest",
        timeout_s=1800.0,
        junit=True,
    )
    assert (task.language, task.licence, task.split, task.difficulty) == ("python", "MIT License", "train", "llm score 2")
    assert task.preparation == Preparation()
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


def test_swe_bench_rows_that_carry_their_script() -> None:
    expected = (
        f"{ENTER}cd /testbed\ngit config --global --add safe.directory /testbed\npython -m pip install -e .\n"
        "pytest -rA tests/test_code.py\n"
    )
    r2e = TASK_SOURCES["swe_bench"](
        swe_row(
            docker_image="a/verified:sweb.eval.x86_64.astropy__astropy-1", run_tests=REFERENCE_SCRIPT, difficulty="<15 min fix"
        )
    )
    five = TASK_SOURCES["swe_bench"](
        swe_row(image="swebench/a:latest", eval_script=REFERENCE_SCRIPT, log_parser="parse_log_jest", eval_type="fail_only")
    )
    spec = TASK_SOURCES["swe_bench"](swe_row(make_test_spec=json.dumps({"eval_script_list": REFERENCE_SCRIPT.split("\n")})))
    assert r2e.oracle.eval_script == five.oracle.eval_script == spec.oracle.eval_script == expected
    assert r2e.problem.image == "docker:a/verified:sweb.eval.x86_64.astropy__astropy-1"
    assert (r2e.oracle.log_parser, r2e.oracle.resolution, r2e.oracle.junit) == ("parse_log_pytest_v2", "swe_bench", True)
    assert (r2e.preparation, r2e.difficulty) == (Preparation(hidden_paths=("/run_tests.sh",)), "<15 min fix")
    assert (five.problem.image, five.oracle.log_parser) == ("docker:swebench/a:latest", "parse_log_jest")
    assert (five.oracle.resolution, five.preparation) == ("fail_only", Preparation())
    assert spec.problem.image == "docker:swebench/sweb.eval.x86_64.astropy_1776_astropy-1:latest"


@pytest.mark.parametrize(
    ("repo", "version", "script", "parser", "junit"),
    [
        (
            "astropy/astropy",
            "v5.3",
            f"{ENTER}cd /testbed\n{SAFE}{ENTER}python -m pip install -e .[test] --verbose\npytest -rA tests/test_code.py\n",
            "parse_log_pytest_v2",
            True,
        ),
        (
            "django/django",
            "3.2",
            f"{ENTER}cd /testbed\nsed -i '/en_US.UTF-8/s/^# //g' /etc/locale.gen && locale-gen\nexport LANG=en_US.UTF-8\n"
            f"export LANGUAGE=en_US:en\nexport LC_ALL=en_US.UTF-8\n{SAFE}{ENTER}python -m pip install -e .\n"
            "./tests/runtests.py --verbosity 2 --settings=test_sqlite --parallel 1 test_code\n",
            "parse_log_django",
            False,
        ),
        (
            "sphinx-doc/sphinx",
            "7.1",
            f"{ENTER}cd /testbed\n{SAFE}{ENTER}python -m pip install -e .[test]\n"
            "tox --current-env -epy39 -v -- tests/test_code.py\n",
            "parse_log_pytest_v2",
            False,
        ),
    ],
)
def test_the_first_card_is_composed_from_the_table(repo: str, version: str, script: str, parser: str, junit: bool) -> None:
    task = TASK_SOURCES["swe_bench"](swe_row(repo=repo, version=version))
    assert (task.oracle.eval_script, task.oracle.log_parser, task.oracle.junit) == (script, parser, junit)
    assert task.problem.image == "docker:swebench/sweb.eval.x86_64.astropy_1776_astropy-1:latest"


def test_swe_bench_rows_that_do_not_say_how_tests_run() -> None:
    for fields, field in (
        ({"version": None}, "version"),
        ({"version": "latest"}, "version"),
        ({"repo": "who/knows"}, "repo"),
        ({"run_tests": "pytest", "repo": "who/knows"}, "log_parser"),
        ({"run_tests": "git apply -v - <<'EOF_1'\ndiff"}, "run_tests"),
        ({"eval_script": "git status"}, "eval_script"),
        ({"make_test_spec": {"eval_script_list": "pytest"}}, "eval_script_list"),
        ({"eval_script": "pytest", "eval_type": "most"}, "eval_type"),
        ({"test_patch": DIFF.format("d.json")}, "test_patch"),
    ):
        with pytest.raises(RowError) as caught:
            TASK_SOURCES["swe_bench"](swe_row(**fields))
        assert (caught.value.row_id, caught.value.field) == ("astropy__astropy-1", field)


def test_test_files_leave_out_deleted_and_data_files() -> None:
    deleted = "diff --git a/old.py b/old.py\ndeleted file mode 100644\n--- a/old.py\n+++ /dev/null\n@@ -1 +0,0 @@\n-x\n"
    added = (
        "diff --git a/tests/new.py b/tests/new.py\nnew file mode 100644\n--- /dev/null\n+++ b/tests/new.py\n@@ -0,0 +1 @@\n+x\n"
    )
    assert runnable_test_files(DIFF.format("a.py") + deleted + DIFF.format("d.yaml") + added) == ("a.py", "tests/new.py")


@needs_data
def test_rebench_scripts_equal_the_released_specs_line_by_line() -> None:
    """SWE-Master's compiled scripts are ours, line by line, but for the lines shown here, which are the grader's work."""
    result = import_tasks(REBENCH_WITH_SPECS, "swe_rebench")
    assert (len(result.tasks), result.errors) == (3, ())
    rows = json.loads(REBENCH_WITH_SPECS.read_text())
    specs = [row["make_test_spec"] for row in rows] + [
        json.loads(path.read_text()) for path in sorted((DATA / "test_specs").iterdir())
    ]
    by_id = {task.instance_id: task for task in result.tasks}
    assert len(specs) == 5
    for spec in specs:
        task = by_id[spec["instance_id"]]
        split = split_script("\n".join(spec["eval_script_list"]))
        assert list(split.kept) == task.oracle.eval_script.splitlines()
        base, paths = task.problem.base_commit, " ".join(_headers(task.oracle.test_patch))
        applied = f"git apply -v - <<'EOF_114329324912'\n{task.oracle.test_patch}\nEOF_114329324912".split("\n")
        assert list(split.left_out) == [
            ("tracing", "git status"),
            ("tracing", "git show"),
            ("tracing", f"git -c core.fileMode=false diff {base}"),
            ("test files restored", f"git checkout {base} {paths}"),
            *(("test patch applied", line) for line in applied),
            ("marker", ": '>>>>> Start Test Output'"),
            ("marker", ": '>>>>> End Test Output'"),
            ("test files restored", f"git checkout {base} {paths}"),
        ]


def _headers(diff: str) -> list[str]:
    return [line.split(" b/")[-1] for line in diff.split("\n") if line.startswith("diff --git ")]


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
    assert all(task.oracle.junit for task in rebench.tasks + verified.tasks)
    assert verified.tasks[0].preparation.hidden_paths == ("/run_tests.sh",)


@needs_data
def test_the_first_card_gives_the_released_verified_script() -> None:
    """The real Verified row without its `run_tests` composes to the very script and oracle that it gives with it."""
    row = json.loads(VERIFIED.read_text())[0]
    given = TASK_SOURCES["swe_bench"](row).oracle
    composed = TASK_SOURCES["swe_bench"]({key: value for key, value in row.items() if key != "run_tests"}).oracle
    assert composed == given


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.binary(max_size=5),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=8), children, max_size=3),
    max_leaves=6,
)
DIFF_LIKE = st.text(alphabet="ab/+-@ 1,\n\r\\d.", max_size=60).map(
    lambda text: "diff --git a/t.py b/t.py\n--- a/t.py\n+++ b/t.py\n" + text
)
FIELDS = sorted({key for example in EXAMPLES.values() for key in example()} | {"eval_script", "run_tests", "make_test_spec"})
MORE_FIELDS = ["image", "log_parser", "eval_type", "meta", "license_name", "language", "difficulty", "test_cmd", "(other)"]


@st.composite
def mutated(draw: st.DrawFn, value: Any) -> Any:
    """A value with one part of it, however deep, replaced by junk."""
    if isinstance(value, str) and value[:1] in ("{", "["):
        return json.dumps(draw(mutated(json.loads(value))), default=repr, skipkeys=True)
    if not isinstance(value, dict | list) or not value or draw(st.booleans()):
        return draw(JUNK | DIFF_LIKE)
    if isinstance(value, list):
        index = draw(st.integers(0, len(value) - 1))
        return [*value[:index], draw(mutated(value[index])), *value[index + 1 :]]
    key = draw(st.sampled_from(sorted(value)))
    return value | {key: draw(mutated(value[key]))}


@pytest.mark.parametrize("source", sorted(TASK_SOURCES))
@settings(max_examples=120, deadline=None)
@given(data=st.data())
def test_random_rows_raise_nothing_but_row_errors(source: str, data: st.DataObject) -> None:
    row = data.draw(st.sampled_from([EXAMPLES[source](), {}]))
    for field in data.draw(st.lists(st.sampled_from(FIELDS + MORE_FIELDS), max_size=3, unique=True)):
        row[field] = data.draw(mutated(row[field]) if field in row else JUNK | DIFF_LIKE)
    for field in data.draw(st.lists(st.sampled_from(sorted(row)), max_size=1)) if row else []:
        del row[field]
    result = task_or_error(source, row)
    if isinstance(result, Task):
        assert result.oracle.fail_to_pass or result.oracle.expected_status
    else:
        assert len(str(result).splitlines()) == 1


def task_or_error(source: str, row: dict[str, Any]) -> Task | RowError:
    try:
        return TASK_SOURCES[source](row)
    except RowError as error:
        return error


@pytest.mark.parametrize("source", sorted(TASK_SOURCES))
def test_every_example_is_a_task_and_names_what_it_needs(source: str) -> None:
    row = EXAMPLES[source]()
    task = TASK_SOURCES[source](row)
    assert (task.source, task.split) == (source, "train")
    assert task.problem.image.startswith("docker:")
    assert task.problem.workdir.startswith("/")
    assert task.oracle.eval_script
    assert task.oracle.log_parser
    assert json.loads(task.raw) == row
