"""SWE-smith (`SWE-bench/SWE-smith`): bugs put into healthy repositories, one image per repository.

A row's `patch` is the bug and the gold patch its reverse. The original checks out a branch that needs the network; here the
set-up applies the bug to the image's own tree, and the files of the FAIL_TO_PASS tests are hidden as on that branch.
Rows may say for themselves how tests run (`eval_script`, or `test_cmd` with `log_parser`), as a table of swesmith's profiles
compiled in an environment of its own does; Python rows without it get the Python profile's command.
"""

import hashlib
import re

from envpool.dataset_rows.dataset_row import Row, RowError, row_id, string_list, text
from envpool.dataset_rows.eval_script import ENTER_ENVIRONMENT, command_on_files, starts_pytest
from envpool.dataset_rows.reverse_diff import reverse_diff
from envpool.dataset_rows.row_diff import checked_diff, diff
from envpool.dataset_rows.swe_bench_fields import (
    GRADING_TIMEOUT_S,
    WORKDIR,
    checked_image,
    fail_to_pass,
    given_script,
    image_reference,
    licence,
    raw_json,
)
from envpool.diff_paths import leaves_repository
from envpool.oracle import Oracle
from envpool.preparation import Preparation
from envpool.problem import Problem
from envpool.task import Task

PYTEST = "pytest --disable-warnings --color=no --tb=no --verbose"
OTHER_COMMANDS = {
    "mido/mido": f"{PYTEST} -rs -c /dev/null",
    "paramiko/paramiko": "pytest -rA --color=no --disable-warnings",
    "pydantic/pydantic": "/root/.local/bin/uv run " + PYTEST,
    "tkrajina/gpxpy": "pytest test.py --verbose --color=no --tb=no --disable-warnings",
}
"""Where swesmith 0.0.9's profile of a Python repository differs from its Python profile."""
OTHER_PARSERS = {"paramiko/paramiko": "parse_log_pytest"}
UNREADABLE = ("hips/autograd", "python/mypy", "tornadoweb/tornado", "un33k/python-slugify")
"""Python repositories whose logs need a parser that is not here, or whose tests are not chosen by file."""
ONLY_LISTED_FILES = (
    "conan-io/conan",
    "dask/dask",
    "getmoto/moto",
    "iterative/dvc",
    "modin-project/modin",
    "pandas-dev/pandas",
    "project-monai/monai",
    "scrapy/scrapy",
    "sqlfluff/sqlfluff",
    "sunpy/sunpy",
    "sympy/sympy",
    "tobymao/sqlglot",
)
"""Repositories whose profile runs the files of the listed tests; the others run their whole suite."""
_REPO = re.compile(r"(?:swesmith/)?(?P<owner>[\w.-]+?)__(?P<name>[\w.-]+)\.(?P<commit>[0-9a-f]{8})", re.ASCII)


def parse_row(row: Row) -> Task:
    """One row as a task; raises RowError."""
    instance_id = text(row, "instance_id")
    source_repo = _REPO.fullmatch(text(row, "repo"))
    if source_repo is None:
        raise RowError(instance_id, "repo", "is not of the form swesmith/<owner>__<name>.<8 hex digits>")
    repo = f"{source_repo['owner']}/{source_repo['name']}"
    bug = diff(row, "patch")
    try:
        gold_patch = reverse_diff(bug)
    except ValueError as error:
        raise RowError(instance_id, "patch", f"cannot be reversed: {error}") from error
    f2p, p2p = fail_to_pass(row), string_list(row, "PASS_TO_PASS")
    eval_script, log_parser = _how_tests_run(row, repo, (*f2p, *p2p))
    problem = Problem(
        instance_id=instance_id,
        repo=repo,
        base_commit=text(row, "base_commit", default=source_repo["commit"]),
        image=f"docker:{_image(row, source_repo)}",
        workdir=WORKDIR,
        problem_statement=text(row, "problem_statement"),
    )
    oracle = Oracle(
        instance_id=instance_id,
        gold_patch=checked_diff(instance_id, "patch", gold_patch),
        test_patch="",
        fail_to_pass=f2p,
        pass_to_pass=p2p,
        eval_script=eval_script,
        log_parser=log_parser,
        timeout_s=GRADING_TIMEOUT_S,
        junit=starts_pytest(eval_script),
    )
    preparation = Preparation(_apply(bug), _test_files(row, "FAIL_TO_PASS", f2p))
    language = text(row, "language", default="python")
    return Task(problem, oracle, "swe_smith", "train", language, licence(row), raw_json(row), preparation)


def _how_tests_run(row: Row, repo: str, tests: tuple[str, ...]) -> tuple[str, str]:
    """The evaluation script and the name of the parser that reads its log."""
    parser = text(row, "log_parser", default="")
    script = given_script(row)
    command = text(row, "test_cmd", default="")
    if (script or command) and not parser:
        raise RowError(row_id(row), "log_parser", "is missing, while the row says how its tests run")
    if script:
        return script, parser
    enter = (*ENTER_ENVIRONMENT, f"cd {WORKDIR}")
    if command:
        return "\n".join((*enter, command)) + "\n", parser
    if text(row, "language", default="python") != "python" or repo.lower() in UNREADABLE:
        raise RowError(row_id(row), "test_cmd", f"is missing: how the tests of {repo[:80]} run is not known here")
    command = OTHER_COMMANDS.get(repo.lower(), PYTEST)
    if repo.lower() in ONLY_LISTED_FILES:
        command = command_on_files(command, _test_files(row, "PASS_TO_PASS", tests))
    return "\n".join((*enter, command)) + "\n", parser or OTHER_PARSERS.get(repo.lower(), "parse_log_pytest_verbose")


def _test_files(row: Row, field: str, tests: tuple[str, ...]) -> tuple[str, ...]:
    """The files of pytest ids, sorted. Raises RowError for one outside the repository."""
    files = tuple(sorted({test.partition("::")[0] for test in tests}))
    for file in files:
        if leaves_repository(file):
            raise RowError(row_id(row), field, f"leaves the repository: {file[:80]!r}")
    return files


def _image(row: Row, repo: re.Match[str]) -> str:
    if row.get("image_name") or row.get("docker_image"):
        return image_reference(row, "image_name", "docker_image")
    name = f"swebench/swesmith.x86_64.{repo['owner']}_1776_{repo['name']}.{repo['commit']}".lower()
    return checked_image(row, "repo", name)


def _apply(bug: str) -> str:
    """A command that applies the bug; the here-document's end cannot occur in it."""
    end = f"BUG_{hashlib.sha256(bug.encode()).hexdigest()[:16]}"
    return f"git apply --whitespace=nowarn - <<'{end}'\n{bug.rstrip(chr(10))}\n{end}\n"
