"""SWE-Gym (`SWE-Gym/SWE-Gym`): SWE-bench's first fields, and a table that says how each repository's tests run."""

import shlex

from envpool.dataset_rows.dataset_row import Row, RowError, row_id, text
from envpool.dataset_rows.eval_script import command_on_files, compose_eval_script, mypy_cases, runnable_test_files
from envpool.dataset_rows.repo_suite import RepoSuite, suite_of
from envpool.dataset_rows.swe_bench_fields import WORKDIR, given_script, image_reference, published_image, swe_bench_task
from envpool.dataset_rows.swe_gym_suites import SWE_GYM_SUITES
from envpool.task import Task

IMAGE = "xingyaoww/sweb.eval.x86_64.{}:latest"
_MYPY = "python/mypy"


def parse_row(row: Row) -> Task:
    """One row as a task; raises RowError. A `make_test_spec` or `eval_script` in the row comes before the table."""
    suite = suite_of(row, SWE_GYM_SUITES)
    named = any(row.get(field) for field in ("docker_image", "image_name", "image"))
    return swe_bench_task(
        row,
        source="swe_gym",
        image=image_reference(row, "docker_image", "image_name", "image") if named else published_image(row, IMAGE, "_s_"),
        eval_script=given_script(row) or compose_eval_script(suite.setup, (suite.install,), _command(row, suite), WORKDIR),
        log_parser=text(row, "log_parser", default=suite.log_parser),
    )


def _command(row: Row, suite: RepoSuite) -> str:
    """mypy's tests are data: they are chosen by name, not by file."""
    test_patch = text(row, "test_patch")
    if text(row, "repo").lower() == _MYPY:
        cases = mypy_cases(test_patch)
        if not cases:
            raise RowError(row_id(row), "test_patch", "names no [case ...]: mypy's tests are chosen by them")
        return f"{suite.test_command} {shlex.quote(cases)}"
    files = runnable_test_files(test_patch)
    if not files:
        raise RowError(row_id(row), "test_patch", "changes no file that a test runner can run")
    return command_on_files(suite.test_command, files)
