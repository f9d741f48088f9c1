"""Conventions of the repository, as tests: names, sizes, layers."""

import ast
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("configs", "envpool", "verifier", "trainers", "actors", "cluster", "tests", "benchmarks")
FORBIDDEN_NAMES = {"utils", "common", "base", "core", "helpers", "manager", "types", "misc"}
MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 70
MOCKS = ("unittest" + ".mock", "Magic" + "Mock")


def modules() -> list[Path]:
    return [path for name in PACKAGES for path in sorted((ROOT / name).rglob("*.py"))]


def test_module_names_are_unique_and_say_something() -> None:
    names = [path.stem for path in modules() if path.stem not in ("__init__", "conftest")]
    assert [name for name, count in Counter(names).items() if count > 1] == []
    assert FORBIDDEN_NAMES.isdisjoint(names)


def test_files_are_small() -> None:
    long = {
        str(path.relative_to(ROOT)): count for path in modules() if (count := len(path.read_text().splitlines())) > MAX_FILE_LINES
    }
    assert long == {}


def test_product_functions_are_short() -> None:
    long = []
    for path in modules():
        if path.is_relative_to(ROOT / "tests"):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or node.lineno) - node.lineno + 1
                if length > MAX_FUNCTION_LINES:
                    long.append(f"{path.relative_to(ROOT)}:{node.name} {length}")
    assert long == []


def test_no_mocks() -> None:
    users = [str(path) for path in modules() if any(word in path.read_text() for word in MOCKS)]
    assert users == []


@pytest.mark.timeout(120)
def test_layers() -> None:
    command = [str(Path(sys.executable).parent / "lint-imports"), "--no-cache"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=110, check=False)
    assert result.returncode == 0, result.stdout[-3000:]
