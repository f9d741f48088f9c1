"""Rows in the shape of each dataset, invented: no field is copied from a real row (none of some datasets is at hand)."""

import base64
import json
from typing import Any

COMMIT = "0123456789abcdef0123456789abcdef01234567"
DIFF = "diff --git a/{0} b/{0}\n--- a/{0}\n+++ b/{0}\n@@ -1 +1 @@\n-old\n+new\n"


def swe_row(**fields: Any) -> dict[str, Any]:
    """The fields of SWE-bench's first dataset card (less what no adapter reads)."""
    return {
        "instance_id": "astropy__astropy-1",
        "repo": "astropy/astropy",
        "version": "4.3",
        "base_commit": COMMIT,
        "problem_statement": "It breaks.",
        "patch": DIFF.format("astropy/code.py"),
        "test_patch": DIFF.format("tests/test_code.py") + DIFF.format("tests/data.json"),
        "FAIL_TO_PASS": '["tests/test_code.py::test_a"]',
        "PASS_TO_PASS": ["tests/test_code.py::test_b"],
    } | fields


def install_config(**fields: Any) -> dict[str, Any]:
    """SWE-rebench v1's `install_config`."""
    return {"install": "pip install -e .", "test_cmd": "pytest -rA", "log_parser": "parse_log_pytest"} | fields


def rebench_row(**fields: Any) -> dict[str, Any]:
    return swe_row(docker_image="swerebench/sweb.eval.x86_64.a_1776_b-1", install_config=install_config()) | fields


def gym_row(**fields: Any) -> dict[str, Any]:
    """SWE-Gym: reconstructed from its documented columns."""
    return swe_row(instance_id="getmoto__moto-77", repo="getmoto/moto", version="4.1") | fields


def file_diff_record(path: str, lines: list[tuple[str, str]], start: int = 1) -> dict[str, Any]:
    """One entry of R2E-Gym's `file_diffs`: `lines` are (type, content)."""
    old = sum(kind in ("context", "deleted") for kind, _ in lines)
    new = sum(kind in ("context", "added") for kind, _ in lines)
    return {
        "old_file_content": "",
        "new_file_content": "",
        "header": {"file": {"path": path}, "misc_line": None},
        "index_line": None,
        "is_binary_file": False,
        "binary_line": None,
        "minus_file": {"path": f"a/{path}"},
        "plus_file": {"path": f"b/{path}"},
        "hunks": [
            {
                "descriptor": {
                    "old_range": {"start": start, "length": old},
                    "new_range": {"start": start, "length": new},
                    "section": "def f():",
                },
                "line_group": {"all_lines": [{"content": content, "type": kind} for kind, content in lines]},
            }
        ],
    }


def r2e_row(**fields: Any) -> dict[str, Any]:
    """R2E-Gym: reconstructed from its documented columns and the one `parsed_commit` at hand (a Verified row's)."""
    commit = {
        "file_diffs": [
            file_diff_record("pkg/code.py", [("context", "a = 1"), ("deleted", "b = 1"), ("added", "b = 2")], 7),
            file_diff_record("pkg/tests/test_code.py", [("added", "assert True")]),
        ],
        "old_commit_hash": f"{COMMIT}^",
        "new_commit_hash": COMMIT,
        "commit_message": "Fix it",
    }
    return {
        "repo_name": "orange3",
        "docker_image": f"namanjain12/orange3_final:{COMMIT}",
        "commit_hash": COMMIT,
        "parsed_commit_content": json.dumps(commit),
        "execution_result_content": "{}",
        "expected_output_json": '{"TestCode.test_a": "PASSED", "test_b[x - y]": "FAILED", "": "ERROR"}',
        "prompt": "",
        "problem_statement": "It breaks.",
    } | fields


def smith_row(**fields: Any) -> dict[str, Any]:
    """SWE-smith: reconstructed from its documented columns."""
    return {
        "instance_id": "mozilla__bleach.73871d76.func_basic__0",
        "repo": "swesmith/mozilla__bleach.73871d76",
        "image_name": "swebench/swesmith.x86_64.mozilla_1776_bleach.73871d76",
        "patch": "diff --git a/bleach/code.py b/bleach/code.py\n--- a/bleach/code.py\n+++ b/bleach/code.py\n"
        "@@ -3,3 +3,2 @@ def f():\n x\n-right\n-kept\n+wrong\n",
        "FAIL_TO_PASS": ["tests/test_code.py::test_a", "tests/test_code.py::TestB::test_c"],
        "PASS_TO_PASS": ["tests/test_other.py::test_b"],
        "problem_statement": "It breaks.",
        "created_at": "2025-01-01",
    } | fields


def packed(path: str, data: bytes, executable: bool = False) -> dict[str, Any]:
    return {"path": path, "base64": base64.b64encode(data).decode(), "executable": executable}


TASK_TOML = """version = "1.0"
[metadata]
difficulty = "hard"
license = "MIT"
[verifier]
timeout_sec = 90.5
[environment]
docker_image = "registry.example/tasks/hello:1"
workdir = "/app"
"""


def harbor_row(**fields: Any) -> dict[str, Any]:
    """A Harbor task directory as `envpool.dataset_rows.harbor_folder` reads it."""
    return {
        "instance_id": "hello",
        "task_toml": TASK_TOML,
        "instruction": "Write hello.txt.",
        "dockerfile": "FROM python:3.12\nWORKDIR /srv\n",
        "tests": [packed("data/x.bin", b"\xff\x00"), packed("test.sh", b"#!/bin/bash\npytest\n", True)],
        "solution": [packed("solve.sh", b"echo hi > hello.txt\n", True)],
    } | fields


EXAMPLES = {
    "harbor": harbor_row,
    "r2e_gym": r2e_row,
    "swe_bench": swe_row,
    "swe_gym": gym_row,
    "swe_rebench": rebench_row,
    "swe_smith": smith_row,
}
