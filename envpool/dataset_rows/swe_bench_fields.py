"""The fields that SWE-bench and its descendants share, read from a row into a Task."""

import json
import re

from envpool.dataset_rows.dataset_row import Row, RowError, mapping, row_id, string_list, text
from envpool.dataset_rows.eval_script import starts_pytest, without_test_patch
from envpool.dataset_rows.row_diff import diff
from envpool.oracle import Oracle
from envpool.preparation import NOTHING, Preparation
from envpool.problem import Problem
from envpool.task import Task

WORKDIR = "/testbed"
GRADING_TIMEOUT_S = 1800.0  # SWE-bench's own limit for one run of the hidden tests
RESOLUTION_OF_EVAL_TYPE = {"pass_and_fail": "swe_bench", "fail_only": "fail_only"}
"""swebench 5's words for how a verdict is made, and ours (`Oracle.resolution`)."""
_REFERENCE = re.compile(r"[\w./:@-]+", re.ASCII)


def swe_bench_task(
    row: Row, *, source: str, image: str, eval_script: str, log_parser: str, preparation: Preparation = NOTHING
) -> Task:
    """The task of a SWE-bench style row, given what its dataset says in its own way. Raises RowError."""
    instance_id = text(row, "instance_id")
    eval_type = text(row, "eval_type", default="pass_and_fail")
    if eval_type not in RESOLUTION_OF_EVAL_TYPE:
        raise RowError(instance_id, "eval_type", f"is neither pass_and_fail nor fail_only: {eval_type[:40]!r}")
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
        fail_to_pass=fail_to_pass(row),
        pass_to_pass=string_list(row, "PASS_TO_PASS"),
        eval_script=eval_script,
        log_parser=log_parser,
        timeout_s=GRADING_TIMEOUT_S,
        junit=starts_pytest(eval_script),
        resolution=RESOLUTION_OF_EVAL_TYPE[eval_type],
    )
    return Task(
        problem=problem,
        oracle=oracle,
        source=source,
        split="train",
        language=text(row, "language", default="python"),
        licence=licence(row),
        raw=raw_json(row),
        preparation=preparation,
        difficulty=text(row, "difficulty", default=""),
    )


def fail_to_pass(row: Row) -> tuple[str, ...]:
    """The tests a fix must turn; at least one. Raises RowError."""
    tests = string_list(row, "FAIL_TO_PASS")
    if not tests:
        raise RowError(row_id(row), "FAIL_TO_PASS", "is empty: no test would tell a fix from none")
    return tests


def image_reference(row: Row, *fields: str) -> str:
    """The first of the fields that is set, as a Docker reference; a registry prefix stays. Raises RowError."""
    for field in fields:
        if reference := text(row, field, default=""):
            return checked_image(row, field, reference)
    raise RowError(row_id(row), fields[0], "is missing: the row names no image")


def checked_image(row: Row, field: str, reference: str) -> str:
    """`reference`, if it can be a Docker reference. Raises RowError."""
    if not _REFERENCE.fullmatch(reference):
        raise RowError(row_id(row), field, "is not a Docker image reference")
    return reference


def published_image(row: Row, template: str, separator: str) -> str:
    """The image that a dataset publishes for an instance: its id in lower case, `__` written as `separator`, in `template`."""
    name = text(row, "instance_id").replace("__", separator).lower()
    return checked_image(row, "instance_id", template.format(name))


def given_script(row: Row) -> str:
    """The evaluation script that the row carries itself, less what the grader does: `eval_script`, else the list in a
    `make_test_spec` (SWE-Master; an object or JSON text), else `run_tests` (R2E-Gym's edition); "" where there is none.

    Raises RowError.
    """
    field, script = "eval_script", text(row, "eval_script", default="")
    if not script and row.get("make_test_spec"):
        spec = {"instance_id": row_id(row)} | mapping(row, "make_test_spec")
        field, script = "make_test_spec", "\n".join(string_list(spec, "eval_script_list", empty=True))
    if not script:
        field, script = "run_tests", text(row, "run_tests", default="")
    if not script:
        return ""
    try:
        return without_test_patch(script)
    except ValueError as error:
        raise RowError(row_id(row), field, str(error)) from error


def licence(row: Row) -> str:
    """The licence as the row states it, "" where it does not."""
    return text(row, "license_name", default="") or text(row, "license", default="")


def raw_json(row: Row) -> str:
    """The row as JSON text for audit; what JSON cannot say is kept as Python prints it. Raises RowError."""
    try:
        return json.dumps(dict(row), default=repr, skipkeys=True)
    except (ValueError, RecursionError) as error:
        raise RowError(row_id(row), "(row)", "cannot be kept as JSON: it refers to itself or is nested too deep") from error
