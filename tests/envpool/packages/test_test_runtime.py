"""The packed test runtime: what is in it, that it starts pytest, that pytest outlives a broken copy of what it needs."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from envpool.packages.test_launcher import shadowed, top_level
from envpool.packages.test_runtime import TestRuntimeError, pack_test_runtime


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("runtime") / "runtime.zip"
    path.write_bytes(pack_test_runtime(("pytest",)))
    return path


def start(runtime: Path, folder: Path, *words: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    """pytest in `folder`, without this environment's packages."""
    environment = {"PATH": os.defpath, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONHASHSEED": "0", **variables}
    command = [sys.executable, "-S", str(runtime), "-q", "-p", "no:cacheprovider", *words]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60, check=False)


def write(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def test_the_runtime_is_complete(runtime: Path) -> None:
    names = zipfile.ZipFile(runtime).namelist()
    assert {"__main__.py", "pytest/__init__.py", "pytest/__init__.pyc", "pluggy/__init__.py", "iniconfig/__init__.py"} <= set(
        names
    )
    assert not [name for name in names if ".." in name]
    with pytest.raises(TestRuntimeError, match="numpy has compiled parts"):
        pack_test_runtime(("numpy",))


def test_the_runtime_is_the_same_in_every_process(runtime: Path) -> None:
    program = (
        "import sys; from envpool.packages.test_runtime import pack_test_runtime as p; sys.stdout.buffer.write(p(('pytest',)))"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "7"}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, timeout=120, check=True)
    assert done.stdout == runtime.read_bytes()


def test_it_starts_pytest_and_heeds_the_environment(runtime: Path, tmp_path: Path) -> None:
    """The import path, also for processes that tests start; PYTEST_ADDOPTS; the exit code."""
    tests = (
        "import subprocess, sys\nimport code_under_test\n\ndef test_here():\n    assert code_under_test.x == 1\n\n"
        "def test_child():\n    subprocess.run([sys.executable, '-c', 'import code_under_test'], check=True)\n\n"
        "def test_fails():\n    assert code_under_test.x == 2\n"
    )
    write(tmp_path, {"src/code_under_test.py": "x = 1\n", "test_a.py": tests})
    report = tmp_path / "report.xml"
    run = start(runtime, tmp_path, TEST_IMPORT_PATH=f"{tmp_path}/src", PYTEST_ADDOPTS=f"--junitxml={report}")
    assert run.returncode == 1, run.stdout + run.stderr
    assert "1 failed, 2 passed" in run.stdout
    assert 'failures="1"' in report.read_text()
    assert run.stderr == ""


@pytest.mark.parametrize("name", ["iniconfig", "pluggy", "packaging", "pygments"])
def test_a_broken_copy_of_what_pytest_needs_breaks_its_tests_only(runtime: Path, tmp_path: Path, name: str) -> None:
    """The tests see the tree's copy; pytest keeps its own."""
    files = {
        f"src/{name}/__init__.py": "raise RuntimeError('broken copy')\n",
        "test_copy.py": f"def test_it():\n    import {name}\n\n\ndef test_other():\n    pass\n",
    }
    run = start(runtime, write(tmp_path, files), TEST_IMPORT_PATH=f"{tmp_path}/src")
    assert run.returncode == 1, run.stdout + run.stderr
    assert "RuntimeError: broken copy" in run.stdout
    assert "1 failed, 1 passed" in run.stdout


def test_a_module_named_pytest_in_the_tree_is_not_the_runner(runtime: Path, tmp_path: Path) -> None:
    files = {
        "pytest.py": "raise SystemExit(0)\n",
        "test_a.py": "def test(): assert 0\n",
    }
    run = start(runtime, write(tmp_path, files))
    assert run.returncode == 1
    assert "1 failed" in run.stdout


def test_modules_that_are_there_twice_are_found(tmp_path: Path) -> None:
    assert top_level(["a.py", "b/__init__.py", "b/c.py", "d/e.py", "f-1.dist-info/RECORD", "g/h/__init__.py"]) == {"a", "b"}
    write(tmp_path, {"src/a.py": "", "b/other.py": ""})
    assert shadowed({"a", "b", "c"}, [str(tmp_path), str(tmp_path / "src")]) == {"a"}


def test_bytecode_of_another_python_is_passed_over(runtime: Path, tmp_path: Path) -> None:
    """The sources are there too."""
    changed = tmp_path / "changed.zip"
    with zipfile.ZipFile(runtime) as old, zipfile.ZipFile(changed, "w") as new:
        for member in old.namelist():
            data = old.read(member)
            new.writestr(member, b"\0\0\0\0" + data[4:] if member.endswith(".pyc") else data)
    write(tmp_path, {"test_a.py": "def test(): pass\n"})
    assert "1 passed" in start(changed, tmp_path, "test_a.py").stdout
