"""A small repository with a bug, its hidden tests, and diffs against it."""

import difflib
from collections.abc import Mapping
from pathlib import Path

from configs.sandbox_config import SandboxConfig
from envpool.oracle import Oracle
from envpool.pool.sandbox_pool import SandboxPool
from envpool.problem import Problem
from envpool.sandbox_parts.image_cache import FolderImages
from envpool.sandboxes.process_sandbox import ProcessBackend
from envpool.task import Task

BUGGY = "def add(a, b):\n    return a - b\n\n\ndef double(a):\n    return a * 2\n"
FIXED = BUGGY.replace("a - b", "a + b")
VISIBLE_TEST = "from calc import double\n\nassert double(2) == 4\nprint('passed')\n"
HIDDEN_TEST = """import sys
from calc import add, double

failed = 0
for name, right in (("add", add(1, 2) == 3), ("double", double(4) == 8)):
    print("PASSED" if right else "FAILED", f"tests/hidden_test_calc.py::test_{name}")
    failed += not right
sys.exit(failed > 0)
"""
HIDDEN_PATH = "tests/hidden_test_calc.py"
FILES = {"calc.py": BUGGY, "test_calc.py": VISIBLE_TEST, "README.md": "calc\n"}


def file_diff(path: str, old: str | None, new: str) -> str:
    """A git diff of one file; `old` None makes it new."""
    lines = difflib.unified_diff(
        (old or "").splitlines(True), new.splitlines(True), "/dev/null" if old is None else f"a/{path}", f"b/{path}"
    )
    mode = "new file mode 100644\n" if old is None else ""
    return f"diff --git a/{path} b/{path}\n{mode}{''.join(lines)}"


GOLD = file_diff("calc.py", BUGGY, FIXED)
TASK = Task(
    Problem("calc-1", "demo/calc", "HEAD", "folder:calc", "/testbed", "add(1, 2) gives -1"),
    Oracle(
        instance_id="calc-1",
        gold_patch=GOLD,
        test_patch=file_diff(HIDDEN_PATH, None, HIDDEN_TEST),
        fail_to_pass=(f"{HIDDEN_PATH}::test_add",),
        pass_to_pass=(f"{HIDDEN_PATH}::test_double",),
        eval_script=f"cd /testbed\nPYTHONPATH=. python3 {HIDDEN_PATH}\n",
        log_parser="parse_log_pytest",
        timeout_s=30.0,
    ),
    source="test",
    split="train",
    language="python",
    licence="Apache-2.0",
    raw="",
)


def process_pool(root: Path, images: Mapping[str, Mapping[str, str]], num_sandboxes: int = 4) -> SandboxPool:
    """A pool of process sandboxes with these images (name -> files)."""
    store = FolderImages(root)
    for name, files in images.items():
        store.add(name, files)
    return SandboxPool(ProcessBackend(SandboxConfig(), store, "verifier-tests"), num_sandboxes, lease_s=60.0)
