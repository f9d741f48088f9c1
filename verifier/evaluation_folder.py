"""Graded patches as SWE-bench's harness leaves them, so that its own tools read, re-grade and sum them up.

    logs/run_evaluation/<run_id>/<model with / as __>/<instance_id>/{patch.diff, eval.sh, test_output.txt, report.json}
    dataset.jsonl        the tasks as rows of swebench 5

`swebench.harness.run_evaluation.run_instance(..., rewrite_reports=True)` grades `test_output.txt` again without a container;
`swebench.harness.reporting.make_run_report` sums up. Both look for `logs/` in the current folder.
"""

import json
from pathlib import Path
from typing import Any

from envpool.patch import Patch
from envpool.task import Task
from verifier.test_report import TestReport, TestStatus

START, END = ">>>>> Start Test Output", ">>>>> End Test Output"
EXIT_CODE = ">>>>> Test Exit Code"
APPLY_FAILED, NOT_BELIEVED = ">>>>> Patch Apply Failed", ">>>>> Tests Errored"


def evaluation_path(root: Path, run_id: str, model: str, instance_id: str) -> Path:
    """The folder of one graded instance."""
    return root / "logs" / "run_evaluation" / run_id / model.replace("/", "__") / instance_id


def write_evaluation(root: Path, run_id: str, model: str, task: Task, patch: Patch, report: TestReport) -> Path:
    """Write one graded patch; returns its folder. The report is written last."""
    folder = evaluation_path(root, run_id, model, task.instance_id)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "patch.diff").write_text(patch.diff, encoding="utf-8", errors="surrogateescape")
    (folder / "eval.sh").write_text(f"#!/bin/bash\n{task.oracle.eval_script}", encoding="utf-8")
    (folder / "test_output.txt").write_text(test_output(report), encoding="utf-8", errors="replace")
    (folder / "report.json").write_text(json.dumps({task.instance_id: swebench_report(task, patch, report)}, indent=4))
    return folder


def test_output(report: TestReport) -> str:
    """The log between swebench's markers. Markers that the code under test printed are defused, and a run that our grader
    does not believe carries the marker that makes swebench say the same."""
    if not report.applied:
        return f"{APPLY_FAILED}: {report.log}\n"
    log = report.log.replace(">>>>> ", "> > > ").rstrip("\n")
    doubts = "".join(f"{NOT_BELIEVED}: {note}\n" for note in report.notes)
    return f"{START}\n{log}\n{END}\n{EXIT_CODE}: {report.exit_code}\n{doubts}"


test_output.__test__ = False  # type: ignore[attr-defined]


def swebench_report(task: Task, patch: Patch, report: TestReport) -> dict[str, Any]:
    """One instance's report in swebench's shape, with our grader's name and reasons beside it."""

    def sides(tests: tuple[str, ...], *passing: TestStatus) -> dict[str, list[str]]:
        passed = [test for test in tests if report.status.get(test) in passing]
        return {"success": passed, "failure": [test for test in tests if test not in set(passed)]}

    return {
        "patch_is_None": False,
        "patch_exists": not patch.is_empty,
        "patch_successfully_applied": report.applied,
        "resolved": report.resolved,
        "infra_failure": False,
        "tests_status": {
            "FAIL_TO_PASS": sides(task.oracle.fail_to_pass, TestStatus.PASSED),
            "PASS_TO_PASS": sides(task.oracle.pass_to_pass, TestStatus.PASSED, TestStatus.XFAIL, TestStatus.SKIPPED),
        },
        "grader": report.grader,
        "notes": list(report.notes),
        "dropped": list(report.dropped),
    }


def swebench_row(task: Task) -> dict[str, Any]:
    """The task as a row of swebench 5 (what `swebench eval` and `make_test_spec` read)."""
    return {
        "instance_id": task.instance_id,
        "repo": task.problem.repo,
        "base_commit": task.problem.base_commit,
        "problem_statement": task.problem.problem_statement,
        "patch": task.oracle.gold_patch,
        "test_patch": task.oracle.test_patch,
        "FAIL_TO_PASS": list(task.oracle.fail_to_pass),
        "PASS_TO_PASS": list(task.oracle.pass_to_pass),
        "version": "0",
        "image": task.problem.image.removeprefix("docker:"),
        "eval_script": task.oracle.eval_script,
        "log_parser": task.oracle.log_parser,
        "eval_type": "fail_only" if task.oracle.resolution == "fail_only" else "pass_and_fail",
    }
