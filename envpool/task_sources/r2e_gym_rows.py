"""R2E-Gym (`R2E-Gym/R2E-Gym-Subset` and its siblings): commits turned into tasks, with tests that lie in the image.

The image holds the repository before the commit, a script `run_tests.sh` and the tests in `/r2e_tests`. The set-up moves both
out of the work tree; the grader copies them back, the agent never sees them. A patch resolves the task when the statuses of
the run equal `expected_output_json` exactly.
"""

import re

from envpool.dataset_rows.dataset_row import Row, RowError, row_id, text
from envpool.dataset_rows.parsed_commit import commit_diff, expected_status, parsed_commit
from envpool.dataset_rows.row_diff import checked_diff
from envpool.dataset_rows.swe_bench_fields import GRADING_TIMEOUT_S, WORKDIR, image_reference, licence, raw_json
from envpool.oracle import Oracle
from envpool.preparation import Preparation
from envpool.problem import Problem
from envpool.task import Task

HIDDEN = "/r2e_hidden"
SET_UP = f"""mkdir -p {HIDDEN}
if [ -e {WORKDIR}/run_tests.sh ]; then mv {WORKDIR}/run_tests.sh {HIDDEN}/; fi
if [ -e /run_tests.sh ]; then mv /run_tests.sh {HIDDEN}/; fi
rm -f {WORKDIR}/r2e_tests 2>/dev/null || mv {WORKDIR}/r2e_tests {HIDDEN}/
if [ -e /r2e_tests ]; then mv /r2e_tests {HIDDEN}/; fi
find {WORKDIR} -name __pycache__ -type d -prune -exec rm -rf {{}} +
[ -d {HIDDEN}/r2e_tests ] && [ -f {HIDDEN}/run_tests.sh ]
"""
"""Ends with 0 only where the image has both, so that another kind of image is noticed."""
EVAL_SCRIPT = f"""cd {WORKDIR}
rm -rf r2e_tests
cp -a {HIDDEN}/r2e_tests r2e_tests
bash {HIDDEN}/run_tests.sh
"""
PREPARATION = Preparation(SET_UP, (HIDDEN, "/r2e_tests", "/run_tests.sh", "r2e_tests", "run_tests.sh"))

REPOSITORIES = {
    "aiohttp": "aio-libs/aiohttp",
    "bokeh": "bokeh/bokeh",
    "coveragepy": "nedbat/coveragepy",
    "datalad": "datalad/datalad",
    "numpy": "numpy/numpy",
    "orange3": "biolab/orange3",
    "pandas": "pandas-dev/pandas",
    "pillow": "python-pillow/Pillow",
    "pyramid": "Pylons/pyramid",
    "scrapy": "scrapy/scrapy",
    "statsmodels": "statsmodels/statsmodels",
    "sympy": "sympy/sympy",
    "tornado": "tornadoweb/tornado",
}
"""`repo_name` of the dataset and the repository it stands for; other names are kept as they are."""


def parse_row(row: Row) -> Task:
    """One row as a task; raises RowError."""
    repo_name, commit = text(row, "repo_name"), text(row, "commit_hash")
    if not re.fullmatch(r"[0-9a-f]{7,40}", commit):
        raise RowError(row_id(row), "commit_hash", f"is no commit: {commit[:40]!r}")
    instance_id = text(row, "instance_id", default=f"{repo_name}__{commit}")
    gold_patch = commit_diff(row, "parsed_commit_content", tests=False)
    if not gold_patch:
        raise RowError(row_id(row), "parsed_commit_content", "changes no file but tests")
    base = parsed_commit(row, "parsed_commit_content").get("old_commit_hash")
    problem = Problem(
        instance_id=instance_id,
        repo=REPOSITORIES.get(repo_name, repo_name),
        base_commit=base if isinstance(base, str) and re.fullmatch(r"[0-9a-f]{7,40}[\^~]?", base) else f"{commit}^",
        image=f"docker:{image_reference(row, 'docker_image')}",
        workdir=WORKDIR,
        problem_statement=text(row, "problem_statement"),
    )
    oracle = Oracle(
        instance_id=instance_id,
        gold_patch=checked_diff(instance_id, "parsed_commit_content", gold_patch),
        test_patch="",
        fail_to_pass=(),
        pass_to_pass=(),
        eval_script=EVAL_SCRIPT,
        log_parser="parse_log_r2e",
        timeout_s=GRADING_TIMEOUT_S,
        resolution="exact_map",
        expected_status=expected_status(row, "expected_output_json"),
    )
    return Task(problem, oracle, "r2e_gym", "train", "python", licence(row), raw_json(row), PREPARATION)
