"""Tasks from a package: a small real sdist through real sandboxes and the real grader, and the pieces on literals."""

import asyncio
import io
import json
import subprocess
import tarfile
import zipfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from configs.sandbox_config import SandboxConfig
from configs.tasks_config import PackageTasksConfig
from envpool.candidate_bugs import CandidateBug
from envpool.image_cache import FolderImages
from envpool.package_issue import behaviour_of, issue_text
from envpool.package_sources import PackageTasksError, unpack_package
from envpool.package_suite import SuiteCommand, read_summary
from envpool.package_tasks import PackageTasksResult, make_package_tasks
from envpool.patch import Patch
from envpool.sandbox_pool import SandboxPool
from envpool.sandboxes.process_sandbox import ProcessBackend
from envpool.test_runtime import RUNTIME_FILE, TestRuntimeError, pack_test_runtime
from envpool.unified_diff import file_diff
from verifier.hidden_tests import run_hidden_tests

SDIST = {
    "PKG-INFO": "Metadata-Version: 2.1\nName: tiny_calc\nVersion: 1.5\nLicense: MIT\n\nA README.\n",
    "src/tiny_calc/__init__.py": (
        'def total(prices, tax):\n    """Sum with tax."""\n    return sum(prices) + tax\n\n\n'
        "def rebate(price):\n    return price // 10\n"
    ),
    "src/tiny_calc/unused.py": "def never(a):\n    return a + 1\n",
    "tests/test_total.py": (
        "from tiny_calc import total\n\n\ndef test_total_adds_the_tax():\n    assert total([1, 2], 3) == 6\n\n\n"
        "def test_total_without_tax():\n    assert total([5], 0) == 5\n"
    ),
    "tests/test_rebate.py": "from tiny_calc import rebate\n\n\ndef test_rebate():\n    assert rebate(105) == 10\n",
    "tests/test_flaky.py": "def test_always_fails():\n    assert False\n",
    "tests/test_elsewhere.py": "import package_that_is_not_there\n",
    "pyproject.toml": '[tool.pytest.ini_options]\naddopts = "--option-of-a-plugin-that-is-not-there"\n',
}


def write_sdist(path: Path, files: dict[str, str]) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, text in files.items():
            member = tarfile.TarInfo(f"{path.name.removesuffix('.tar.gz')}/{name}")
            member.size = len(text.encode())
            archive.addfile(member, io.BytesIO(text.encode()))
    return path


@asynccontextmanager
async def sandboxes(root: Path) -> AsyncIterator[tuple[FolderImages, SandboxPool]]:
    images = FolderImages(root / "images")
    pool = SandboxPool(ProcessBackend(SandboxConfig(isolation="none"), images, root.name), 2, 300.0)
    try:
        yield images, pool
    finally:
        await pool.close()


CONFIG = PackageTasksConfig(max_tasks=2, max_candidates=3, operators=("swapped_operator",), test_timeout_s=60.0)


async def test_an_sdist_becomes_a_task_that_grades(tmp_path: Path) -> None:
    """All three places for this operator are tried: one in code that no test reaches, one whose only test breaks, the sum."""
    sdist = write_sdist(tmp_path / "tiny_calc-1.5.tar.gz", SDIST)
    async with sandboxes(tmp_path) as (images, pool):
        result = await make_package_tasks(sdist, images, pool, CONFIG, seed=0)
        check_task(result, images)
        (task,) = result.tasks
        patches = (task.oracle.gold_patch, file_diff("notes.txt", None, "I tried.\n"))
        grading = [run_hidden_tests(task, Patch(patch), pool, task.oracle.timeout_s) for patch in patches]
        solved, unsolved = await asyncio.gather(*grading)
        assert solved.resolved, solved.log
        assert not unsolved.resolved
        assert {test: unsolved.status[test].value for test in unsolved.status} == {
            "tests/test_total.py::test_total_adds_the_tax": "failed",
            "tests/test_total.py::test_total_without_tax": "passed",
        }
    assert sorted(path.name for path in images.root.iterdir()) == [task.instance_id]


def check_task(result: PackageTasksResult, images: FolderImages) -> None:
    (task,) = result.tasks
    assert task.instance_id.startswith("tiny-calc__1.5.swapped_operator__")
    assert (task.source, task.split, task.language, task.licence) == ("package", "train", "python", "MIT")
    assert (task.problem.image, task.problem.workdir) == (f"folder:{task.instance_id}", "/testbed")
    assert task.oracle.fail_to_pass == ("tests/test_total.py::test_total_adds_the_tax",)
    assert task.oracle.pass_to_pass == ("tests/test_total.py::test_total_without_tax",)
    assert task.oracle.log_parser == "parse_log_pytest"
    assert task.oracle.test_patch == file_diff("tests/test_total.py", None, SDIST["tests/test_total.py"])
    fixed = SDIST["src/tiny_calc/__init__.py"]
    broken = fixed.replace("sum(prices) + tax", "sum(prices) - tax")
    assert task.oracle.gold_patch == file_diff("src/tiny_calc/__init__.py", broken, fixed)
    tree = images.path(task.problem.image)
    assert (tree / "src/tiny_calc/__init__.py").read_text() == broken
    assert not (tree / "tests/test_total.py").exists()
    assert (tree / "tests/test_rebate.py").exists()
    log = subprocess.run(["git", "log", "--oneline"], cwd=tree, capture_output=True, text=True, check=True).stdout
    assert len(log.splitlines()) == 1
    for secret in ("operator", "sum(prices)", "__init__", "test_total.py", " - ", "return"):
        assert secret not in task.problem.problem_statement
    assert "total adds the tax" in task.problem.problem_statement
    assert json.loads(task.raw) == {
        "operator": "swapped_operator",
        "path": "src/tiny_calc/__init__.py",
        "function": "total",
        "line": 3,
    }
    assert result.counts == {"tried": 3, "kept": 1, "no test noticed": 1, "no hidden test passes with the bug": 1}


async def test_a_suite_that_does_not_pass_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "pkg").mkdir()
    (tmp_path / "pkg" / "code.py").write_text("x = 1\n")
    (tmp_path / "pkg" / "test_code.py").write_text("def test_a():\n    assert False\n")
    no_python = PackageTasksConfig(python="/no/python", test_packages=())
    no_dist = PackageTasksConfig(test_packages=("no-such-dist",))
    async with sandboxes(tmp_path) as (images, pool):
        with pytest.raises(PackageTasksError, match=r"^pkg 0: no test of its suite passes here; pytest's last line: 1 failed in"):
            await make_package_tasks(tmp_path / "pkg", images, pool, CONFIG, seed=0)
        with pytest.raises(PackageTasksError, match=r"^pkg 0: no test .* last line: .*No such file|not found"):
            await make_package_tasks(tmp_path / "pkg", images, pool, no_python, seed=0)
        with pytest.raises(PackageTasksError, match="no-such-dist is not installed here"):
            await make_package_tasks(tmp_path / "pkg", images, pool, no_dist, seed=0)
    assert list(images.root.iterdir()) == []


def test_what_is_no_package_is_named(tmp_path: Path) -> None:
    with pytest.raises(PackageTasksError, match="no such file or folder"):
        unpack_package(tmp_path / "none.tar.gz", tmp_path / "a")
    (tmp_path / "cut.tar.gz").write_bytes(write_sdist(tmp_path / "whole-1.tar.gz", SDIST).read_bytes()[:200])
    with pytest.raises(PackageTasksError, match="not a readable sdist"):
        unpack_package(tmp_path / "cut.tar.gz", tmp_path / "b")
    without_tests = {name: text for name, text in SDIST.items() if not name.startswith("tests/")}
    with pytest.raises(PackageTasksError, match=r"tiny-calc 1\.5 ships no tests"):
        unpack_package(write_sdist(tmp_path / "tiny_calc-1.5.tar.gz", without_tests), tmp_path / "c")
    with pytest.raises(PackageTasksError, match="no Python code found"):
        unpack_package(write_sdist(tmp_path / "empty-2.tar.gz", {"README": "x"}), tmp_path / "d")


def test_an_sdist_cannot_write_elsewhere(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "evil-1.tar.gz", "w:gz") as archive:
        member = tarfile.TarInfo("evil-1/../../escaped.py")
        archive.addfile(member, io.BytesIO(b""))
    with pytest.raises(PackageTasksError, match=r"not a readable sdist .*outside"):
        unpack_package(tmp_path / "evil-1.tar.gz", tmp_path / "deep" / "target")
    assert not list(tmp_path.rglob("escaped.py"))


def test_code_and_tests_are_told_apart(tmp_path: Path) -> None:
    files = ("setup.py", "mod.py", "conftest.py", "pkg/__init__.py", "pkg/a.py", "pkg/sub/__init__.py", "pkg/sub/b.py")
    files += (
        "pkg/tests/__init__.py",
        "pkg/tests/test_a.py",
        "pkg/tests/data.py",
        "docs/conf.py",
        "loose/c.py",
        "tests/a_test.py",
    )
    for name in files:
        (tmp_path / "pkg-0.1" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "pkg-0.1" / name).touch()
    tree = unpack_package(tmp_path / "pkg-0.1", tmp_path / "copy")
    assert (tree.name, tree.version, tree.import_root) == ("pkg", "0.1", ".")
    assert tree.sources == ("mod.py", "pkg/__init__.py", "pkg/a.py", "pkg/sub/__init__.py", "pkg/sub/b.py")
    assert tree.tests == ("pkg/tests/test_a.py", "tests/a_test.py")


def test_the_last_summary_counts() -> None:
    log = (
        "PASSED fake.py::printed\n=== short test summary info ===\nPASSED old.py::x\n"
        "=========== short test summary info ============\n"
        "PASSED a.py::ok\nPASSED a.py::param[1-a]\nPASSED a.py::blank[a b]\nSKIPPED [1] a.py:3: no\nXFAIL a.py::x - why\n"
        "PASSED a.py::teardown\nERROR a.py::teardown - OSError: gone\nFAILED a.py::bad - assert 1 - 2 == 3\n"
        "ERROR b.py\n2 failed\n"
    )
    assert read_summary(log) == (
        {
            "a.py::ok": "PASSED",
            "a.py::param[1-a]": "PASSED",
            "a.py::teardown": "ERROR",
            "a.py::bad": "FAILED",
            "b.py": "ERROR",
        },
        {"a.py::teardown": "OSError: gone", "a.py::bad": "assert 1 - 2 == 3"},
        1,
    )
    assert read_summary("PASSED a.py::x\n") == ({}, {}, 0)


@given(st.text())
def test_reading_a_summary_never_fails(log: str) -> None:
    read_summary("= short test summary info =\n" + log)


def test_the_command_is_one_shell_line() -> None:
    command = SuiteCommand("python3", ("src", RUNTIME_FILE), ("-o", "addopts="))
    assert command.script(("tests/a b.py",)) == (
        'COLUMNS=200 PYTHONHASHSEED=0 PYTHONDONTWRITEBYTECODE=1 PYTHONPATH="$PWD"/src:"$PWD"/.test-runtime.zip '
        "python3 -m pytest -rA -q --tb=short -p no:cacheprovider --continue-on-collection-errors -o addopts= 'tests/a b.py'\n"
    )
    assert 'PYTHONPATH="$PWD" ' in SuiteCommand("python3", (".",)).script()


def test_the_runtime_is_reproducible_and_complete() -> None:
    first = pack_test_runtime(("pytest",))
    assert first == pack_test_runtime(("pytest",))
    names = zipfile.ZipFile(io.BytesIO(first)).namelist()
    assert {"pytest/__init__.py", "pluggy/__init__.py", "iniconfig/__init__.py"} <= set(names)
    assert not [name for name in names if ".." in name or name.endswith(".pyc")]
    with pytest.raises(TestRuntimeError, match="numpy has compiled parts"):
        pack_test_runtime(("numpy",))


BUG = CandidateBug("off_by_one", "pkg/mod.py", "f", 2, "def f(a):\n    return a[1:]\n", "def f(a):\n    return a[2:]\n")


def test_an_issue_says_what_is_seen_and_not_where_it_is() -> None:
    messages = {
        "t.py::test_a_list[1]": "assert [2] == [1, 2]",
        "t.py::test_a_list[2]": "never shown",
        "t.py::TestX::test_quotes": "where x = return a[2:]",
        "t.py::test_path": "error in pkg/mod.py",
        "t.py::test_one_more": "",
    }
    issue = issue_text("pkg", BUG, messages, seed=0)
    assert issue == issue_text("pkg", BUG, messages, seed=0)
    assert issue.split("\n\n")[2] == "- quotes\n- a list: `assert [2] == [1, 2]`\n- one more\n- and 1 more like these"
    assert "pkg" in issue
    for secret in ("a[1:]", "a[2:]", "mod.py", "off", "line"):
        assert secret not in issue


def test_behaviours() -> None:
    assert behaviour_of("a/test_b.py::TestC::test_parse_empty_line[x-1]") == "parse empty line"
    assert behaviour_of("a.py::test") == "test"


LINES = st.lists(st.text(alphabet="ab \r\x0c\x85é", max_size=4), max_size=6).map("\n".join)


@given(before=st.none() | LINES, after=st.none() | LINES)
def test_diffs_apply(tmp_path_factory: pytest.TempPathFactory, before: str | None, after: str | None) -> None:
    """git itself turns `before` into `after`."""
    diff = file_diff("f.txt", before, after)
    assert (diff == "") == (before == after)
    if not diff or (before or after or "") == "":
        return
    folder = tmp_path_factory.mktemp("apply")
    if before is not None:
        (folder / "f.txt").write_bytes(before.encode())
    subprocess.run(["git", "apply", "--whitespace=nowarn", "-"], cwd=folder, input=diff.encode(), check=True, capture_output=True)
    assert ((folder / "f.txt").read_bytes().decode() if (folder / "f.txt").exists() else None) == after
