"""A small repository whose hidden tests run under a real pytest in a sandbox, and a pool for it."""

from functools import cache
from pathlib import Path

from configs.sandbox_config import SandboxConfig
from envpool.oracle import Oracle
from envpool.packages.test_runtime import RUNTIME_FILE, pack_test_runtime
from envpool.pool.sandbox_pool import SandboxPool
from envpool.problem import Problem
from envpool.sandbox_parts.image_cache import FolderImages
from envpool.sandboxes.process_sandbox import ProcessBackend
from envpool.task import Task
from tests.verifier.small_repo import file_diff

BUGGY = "def add(a, b):\n    return a - b\n\n\ndef double(a):\n    return a * 2\n"
FIXED = BUGGY.replace("a - b", "a + b")
VISIBLE = "from calc import double\n\n\ndef test_double():\n    assert double(2) == 4\n"
SECRET = "hidden-value-8731"
HIDDEN = f"""from calc import add, double


def test_add():
    assert add(8731, 1) == 8732, "{SECRET}"


def test_double():
    assert double(4) == 8
"""
HIDDEN_PATH = "tests/test_hidden_calc.py"
FILES = {"src/calc.py": BUGGY, "tests/test_calc.py": VISIBLE, "README.md": "calc\n", "setup.cfg": "[metadata]\nname = calc\n"}
GOLD = file_diff("src/calc.py", BUGGY, FIXED)
ADD, DOUBLE = f"{HIDDEN_PATH}::test_add", f"{HIDDEN_PATH}::test_double"
TASK = Task(
    Problem("calc-7", "demo/calc", "HEAD", "folder:pytest-calc", "/testbed", "add(1, 2) gives -1"),
    Oracle(
        instance_id="calc-7",
        gold_patch=GOLD,
        test_patch=file_diff(HIDDEN_PATH, None, HIDDEN),
        fail_to_pass=(ADD,),
        pass_to_pass=(DOUBLE,),
        eval_script=f'PYTHONPATH="$PWD/src:$PWD/{RUNTIME_FILE}" python3 -m pytest -rA -p no:cacheprovider {HIDDEN_PATH}\n',
        log_parser="parse_log_pytest",
        timeout_s=60.0,
        junit=True,
    ),
    source="test",
    split="train",
    language="python",
    licence="Apache-2.0",
    raw="",
)


@cache
def packed_pytest() -> bytes:
    return pack_test_runtime(("pytest",))


def add_pytest_image(images: FolderImages, folder: Path) -> None:
    """Store the repository with pytest beside it as `folder:pytest-calc`; `folder` is scratch space."""
    for path, text in FILES.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
    (folder / RUNTIME_FILE).write_bytes(packed_pytest())
    images.add_tree("pytest-calc", folder)


def pytest_pool(root: Path) -> SandboxPool:
    images = FolderImages(root / "images")
    add_pytest_image(images, root / "tree")
    return SandboxPool(ProcessBackend(SandboxConfig(), images, "red-team"), 4, lease_s=120.0)
