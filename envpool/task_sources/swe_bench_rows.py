"""SWE-bench (Verified and others) in its editions.

Rows of swebench 5 carry `image`, `eval_script`, `log_parser` and `eval_type`; rows of R2E-Gym's edition `docker_image` and
`run_tests` (a copy of it lies in the image); SWE-Master's `make_test_spec` may stand in any of them. Rows of the first dataset
card carry none: their script is composed from the repository and version by `SWE_BENCH_SUITES`, and their image is the one
SWE-bench publishes for the instance.
"""

from envpool.dataset_rows.dataset_row import Row, RowError, row_id, text
from envpool.dataset_rows.eval_script import command_on_files, compose_eval_script, django_labels, runnable_test_files
from envpool.dataset_rows.repo_suite import suite_of
from envpool.dataset_rows.swe_bench_fields import WORKDIR, given_script, image_reference, published_image, swe_bench_task
from envpool.dataset_rows.swe_bench_suites import SWE_BENCH_SUITES
from envpool.preparation import NOTHING, Preparation
from envpool.task import Task

IMAGE = "swebench/sweb.eval.x86_64.{}:latest"
R2E_EDITION = Preparation(hidden_paths=("/run_tests.sh",))
"""The images of R2E-Gym's edition hold the evaluation script, hidden tests included."""


def parse_row(row: Row) -> Task:
    """One row as a task; raises RowError."""
    named = any(row.get(field) for field in ("image", "docker_image", "image_name"))
    image = image_reference(row, "image", "docker_image", "image_name") if named else published_image(row, IMAGE, "_1776_")
    return swe_bench_task(
        row,
        source="swe_bench",
        image=image,
        eval_script=given_script(row) or _composed(row),
        log_parser=text(row, "log_parser", default="") or _parser(row),
        preparation=R2E_EDITION if row.get("run_tests") else NOTHING,
    )


def _composed(row: Row) -> str:
    suite = suite_of(row, SWE_BENCH_SUITES)
    files = runnable_test_files(text(row, "test_patch"))
    if not files:
        raise RowError(row_id(row), "test_patch", "changes no file that a test runner can run")
    targets = django_labels(files) if text(row, "repo").lower() == "django/django" else files
    return compose_eval_script(suite.setup, (suite.install,), command_on_files(suite.test_command, targets), WORKDIR)


def _parser(row: Row) -> str:
    """The parser of a repository is the same for all its versions."""
    repo = text(row, "repo")
    if repo.lower() not in SWE_BENCH_SUITES:
        raise RowError(row_id(row), "log_parser", f"is missing, and no parser is known for repository {repo[:80]}")
    return SWE_BENCH_SUITES[repo.lower()][0].log_parser
