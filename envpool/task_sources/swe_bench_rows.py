"""SWE-bench (Verified and others) in the two shapes that say by themselves how tests run.

Rows of swebench 5 carry `image`, `eval_script` and `log_parser`. Rows of R2E-Gym's edition carry `docker_image` and
`run_tests`; their parser follows from the repository. Rows of the first dataset card carry neither and are refused.
"""

from envpool.dataset_row import Row, RowError, row_id, text
from envpool.eval_script import without_test_patch
from envpool.swe_bench_fields import image_reference, swe_bench_task
from envpool.task import Task

# Names of swebench's parsers; the repositories are those of SWE-bench.
_PARSER_OF_REPO = {
    "astropy/astropy": "parse_log_pytest_v2",
    "django/django": "parse_log_django",
    "matplotlib/matplotlib": "parse_log_matplotlib",
    "mwaskom/seaborn": "parse_log_seaborn",
    "pallets/flask": "parse_log_pytest",
    "psf/requests": "parse_log_pytest_options",
    "pydata/xarray": "parse_log_pytest",
    "pylint-dev/pylint": "parse_log_pytest_options",
    "pytest-dev/pytest": "parse_log_pytest",
    "scikit-learn/scikit-learn": "parse_log_pytest_v2",
    "sphinx-doc/sphinx": "parse_log_pytest_v2",
    "sympy/sympy": "parse_log_sympy",
}


def parse_row(row: Row) -> Task:
    """One row as a task; raises RowError."""
    field = "eval_script" if row.get("eval_script") else "run_tests"
    script = text(row, field, default="")
    if not script:
        raise RowError(row_id(row), "eval_script", "is missing, and so is run_tests: use swebench 5's rows or R2E-Gym's edition")
    try:
        eval_script = without_test_patch(script)
    except ValueError as error:
        raise RowError(row_id(row), field, str(error)) from error
    return swe_bench_task(
        row,
        source="swe_bench",
        image=image_reference(row, "image", "docker_image"),
        eval_script=eval_script,
        log_parser=text(row, "log_parser", default="") or _parser(row),
    )


def _parser(row: Row) -> str:
    repo = text(row, "repo")
    if repo not in _PARSER_OF_REPO:
        raise RowError(row_id(row), "log_parser", f"is missing, and no parser is known for repository {repo[:80]}")
    return _PARSER_OF_REPO[repo]
