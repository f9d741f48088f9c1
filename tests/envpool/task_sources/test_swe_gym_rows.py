"""SWE-Gym. No real row is at hand: these are reconstructed from the dataset's documented columns and its harness's table."""

from typing import Any

import pytest

from envpool.dataset_rows.dataset_row import RowError
from envpool.dataset_rows.repo_suite import version_key
from envpool.dataset_rows.swe_bench_suites import SWE_BENCH_SUITES
from envpool.dataset_rows.swe_gym_suites import SWE_GYM_SUITES
from envpool.oracle import Oracle
from envpool.problem import Problem
from envpool.task_sources import TASK_SOURCES
from tests.envpool.task_sources.row_examples import COMMIT, DIFF, gym_row

ENTER = ". /opt/miniconda3/bin/activate\nconda activate testbed\n"
SAFE = "git config --global --add safe.directory /testbed\ncd /testbed\n"


def test_a_row_by_literal() -> None:
    task = TASK_SOURCES["swe_gym"](gym_row())
    assert task.problem == Problem(
        "getmoto__moto-77",
        "getmoto/moto",
        COMMIT,
        "docker:xingyaoww/sweb.eval.x86_64.getmoto_s_moto-77:latest",
        "/testbed",
        "It breaks.",
    )
    assert task.oracle == Oracle(
        instance_id="getmoto__moto-77",
        gold_patch=DIFF.format("astropy/code.py"),
        test_patch=DIFF.format("tests/test_code.py") + DIFF.format("tests/data.json"),
        fail_to_pass=("tests/test_code.py::test_a",),
        pass_to_pass=("tests/test_code.py::test_b",),
        eval_script=f"{ENTER}cd /testbed\n{SAFE}{ENTER}make init\npytest -n0 -rA tests/test_code.py\n",
        log_parser="parse_log_pytest",
        timeout_s=1800.0,
        junit=True,
    )
    assert (task.language, task.licence, task.source) == ("python", "", "swe_gym")


def test_images_are_in_lower_case_and_a_named_one_comes_first() -> None:
    row = gym_row(instance_id="Project-MONAI__MONAI-907", repo="Project-MONAI/MONAI", version="0.2")
    assert TASK_SOURCES["swe_gym"](row).problem.image == ("docker:xingyaoww/sweb.eval.x86_64.project-monai_s_monai-907:latest")
    named = TASK_SOURCES["swe_gym"](row | {"docker_image": "mirror/x:1"})
    assert named.problem.image == "docker:mirror/x:1"


MYPY_PATCH = (
    "diff --git a/test-data/unit/check-a.test b/test-data/unit/check-a.test\n--- a/test-data/unit/check-a.test\n"
    "+++ b/test-data/unit/check-a.test\n@@ -1,2 +1,3 @@ [case testHeader]\n [case testOld]\n x = 1\n+[case testNew-skip]\n"
)


@pytest.mark.parametrize(("version", "command"), [("1.4", "pytest -n0 -rA -k"), ("1.10", "pytest -rA -k")])
def test_mypy_chooses_cases_by_name(version: str, command: str) -> None:
    task = TASK_SOURCES["swe_gym"](gym_row(repo="python/mypy", version=version, test_patch=MYPY_PATCH))
    assert task.oracle.eval_script == (
        f"{ENTER}cd /testbed\n{SAFE}{ENTER}"
        "python -m pip install -r test-requirements.txt; python -m pip install -e .; hash -r\n"
        f"{command} 'testHeader or testOld or testNew-skip'\n"
    )


def test_conan_has_a_path_and_pydantic_its_own_parser() -> None:
    conan = TASK_SOURCES["swe_gym"](gym_row(repo="conan-io/conan", version="2.1")).oracle
    assert conan.eval_script.splitlines()[2:4] == ["cd /testbed", "export PYTHONPATH=${PYTHONPATH:-}:$(pwd)"]
    pydantic = TASK_SOURCES["swe_gym"](gym_row(repo="pydantic/pydantic", version="2.6")).oracle
    assert pydantic.log_parser == "parse_log_pytest_verbose"
    assert pydantic.eval_script.splitlines()[-1] == (
        "pytest -rA --tb=short -vv -o console_output_style=classic --no-header tests/test_code.py"
    )


def test_a_spec_in_the_row_comes_before_the_table() -> None:
    spec = {"eval_script_list": ["cd /testbed", "", "git status", "pytest -rA tests/test_code.py"]}
    assert TASK_SOURCES["swe_gym"](gym_row(make_test_spec=spec)).oracle.eval_script == (
        "cd /testbed\npytest -rA tests/test_code.py\n"
    )


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"repo": "who/knows"}, "repo"),
        ({"repo": "python/mypy", "version": "0.770"}, "version"),
        ({"repo": "python/mypy"}, "test_patch"),
        ({"version": ""}, "version"),
        ({"test_patch": DIFF.format("data.json")}, "test_patch"),
        ({"FAIL_TO_PASS": "[]"}, "FAIL_TO_PASS"),
    ],
)
def test_the_field_at_fault_is_named(fields: dict[str, Any], field: str) -> None:
    with pytest.raises(RowError) as caught:
        TASK_SOURCES["swe_gym"](gym_row(**fields))
    assert (caught.value.row_id, caught.value.field) == ("getmoto__moto-77", field)


@pytest.mark.parametrize("suites", [SWE_GYM_SUITES, SWE_BENCH_SUITES])
def test_the_tables_are_in_order(suites: dict[str, Any]) -> None:
    assert len(suites) == 12
    for repo, entries in suites.items():
        versions = [version_key(entry.since) for entry in entries]
        assert repo == repo.lower()
        assert versions == sorted(set(versions))
        assert () not in versions
