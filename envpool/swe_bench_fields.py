"""The fields that SWE-bench and its descendants share, read from a row into a Task."""

import json
import re

from envpool.dataset_row import Row, RowError, row_id, string_list, text
from envpool.oracle import Oracle
from envpool.patch import Patch
from envpool.problem import Problem
from envpool.task import Task

WORKDIR = "/testbed"
GRADING_TIMEOUT_S = 1800.0  # SWE-bench's own limit for one run of the hidden tests
_REFERENCE = re.compile(r"[\w./:@-]+", re.ASCII)


def swe_bench_task(row: Row, *, source: str, image: str, eval_script: str, log_parser: str) -> Task:
    """The task of a SWE-bench style row, given what its dataset says in its own way. Raises RowError."""
    instance_id = text(row, "instance_id")
    fail_to_pass = string_list(row, "FAIL_TO_PASS")
    if not fail_to_pass:
        raise RowError(instance_id, "FAIL_TO_PASS", "is empty: no test would tell a fix from none")
    problem = Problem(
        instance_id=instance_id,
        repo=text(row, "repo"),
        base_commit=text(row, "base_commit"),
        image=f"docker:{image}",
        workdir=WORKDIR,
        problem_statement=text(row, "problem_statement"),
    )
    oracle = Oracle(
        instance_id=instance_id,
        gold_patch=diff(row, "patch"),
        test_patch=diff(row, "test_patch"),
        fail_to_pass=fail_to_pass,
        pass_to_pass=string_list(row, "PASS_TO_PASS"),
        eval_script=eval_script,
        log_parser=log_parser,
        timeout_s=GRADING_TIMEOUT_S,
    )
    return Task(
        problem=problem,
        oracle=oracle,
        source=source,
        split="train",
        language=text(row, "language", default="python"),
        licence=text(row, "license_name", default=""),
        raw=json.dumps(dict(row), default=repr, skipkeys=True),
    )


def diff(row: Row, field: str) -> str:
    """A unified diff that touches at least one file. Raises RowError."""
    value = text(row, field)
    try:
        files = Patch(value).files
    except ValueError as error:
        raise RowError(row_id(row), field, "is not a unified diff") from error
    if not files:
        raise RowError(row_id(row), field, "is not a unified diff: it touches no file")
    return value


def image_reference(row: Row, *fields: str) -> str:
    """The first of the fields that is set, as a Docker reference; a registry prefix stays. Raises RowError."""
    for field in fields:
        if reference := text(row, field, default=""):
            if not _REFERENCE.fullmatch(reference):
                raise RowError(row_id(row), field, "is not a Docker image reference")
            return reference
    raise RowError(row_id(row), fields[0], "is missing: the row names no image")
