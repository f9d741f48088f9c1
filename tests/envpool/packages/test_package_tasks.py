"""Tasks from a package: a small real sdist through real sandboxes and the real grader."""

import asyncio
import json
import subprocess
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from configs.rollout_config import EndpointConfig
from configs.sandbox_config import SandboxConfig
from configs.tasks_config import PackageTasksConfig
from envpool.packages.package_tasks import FOLDER_PREFIX, PackageTasksError, PackageTasksResult, make_package_tasks
from envpool.packages.package_validation import Verdict
from envpool.patch import Patch
from envpool.pool.sandbox_pool import SandboxPool
from envpool.sandbox_parts.image_cache import FolderImages
from envpool.sandboxes.process_sandbox import ProcessBackend
from envpool.task import Task
from envpool.unified_diff import file_diff
from tests.envpool.endpoints.test_endpoint_policy import ScriptedServer, server  # noqa: F401
from tests.envpool.packages.small_sdist import SDIST, write_sdist
from verifier.hidden_tests import run_hidden_tests
from verifier.validation_grader import HiddenTestGrader


@asynccontextmanager
async def sandboxes(root: Path) -> AsyncIterator[tuple[FolderImages, SandboxPool]]:
    images = FolderImages(root / "images")
    pool = SandboxPool(ProcessBackend(SandboxConfig(isolation="none"), images, root.name), 2, 300.0)
    try:
        yield images, pool
    finally:
        await pool.close()


async def make(
    source: Path, images: FolderImages, pool: SandboxPool, config: PackageTasksConfig, seed: int = 0
) -> PackageTasksResult:
    return await make_package_tasks(source, images, pool, config, HiddenTestGrader(pool), seed)


CONFIG = PackageTasksConfig(max_tasks=2, max_candidates=3, operators=("swapped_operator",), combined_share=0.0)


@pytest.fixture(autouse=True)
def own_temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))


def leftovers(root: Path) -> list[str]:
    return [path.name for path in (root / "tmp").iterdir() if not path.name.startswith("swe-master-probe")]


async def test_an_sdist_becomes_a_task_that_grades(tmp_path: Path) -> None:
    """All three places for this operator are tried: one in code that no test reaches, one whose only test breaks, the sum."""
    sdist = write_sdist(tmp_path / "tiny_calc-1.5.tar.gz", SDIST)
    async with sandboxes(tmp_path) as (images, pool):
        result = await make(sdist, images, pool, CONFIG)
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
    assert leftovers(tmp_path) == []


def check_task(result: PackageTasksResult, images: FolderImages) -> None:
    (task,) = result.tasks
    assert task.instance_id.startswith("tiny-calc__1.5.swapped_operator__")
    assert (task.source, task.split, task.language, task.licence) == ("package", "train", "python", "MIT")
    assert (task.problem.image, task.problem.workdir) == (f"folder:{task.instance_id}", "/testbed")
    assert (task.problem.base_commit, task.difficulty, task.oracle.junit) == ("HEAD", "easy", True)
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
        "package": "tiny-calc",
        "version": "1.5",
        "commit": "",
        "bugs": [{"operator": "swapped_operator", "path": "src/tiny_calc/__init__.py", "function": "total", "line": 3}],
        "test_files": {"tests/test_total.py": {"fail_to_pass": 1, "pass_to_pass": 1}},
        "unstable_tests": [],
        "issue": "template",
    }
    assert {reason: count for reason, count in result.counts.items() if count} == {
        "tried": 3,
        "kept": 1,
        "no test reaches it": 1,
        "no hidden test passes with the bug": 1,
    }
    assert (result.package, result.flaky, result.note) == ("tiny-calc 1.5", (), "")


TWO_FILES = {
    "pyproject.toml": '[project]\nname = "twin"\nversion = "2"\n',
    "twin/__init__.py": "",
    "twin/first.py": "def add(a, b):\n    return a + b\n\n\ndef sub(a, b):\n    return a - b\n",
    "twin/second.py": "def mul(a, b):\n    return a * b\n",
    "tests/test_first.py": (
        "from twin.first import add, sub\n\n\ndef test_add():\n    assert add(1, 2) == 3\n\n\n"
        "def test_sub():\n    assert sub(5, 2) == 3\n\n\ndef test_zero():\n    assert add(0, 0) == 0\n"
    ),
    "tests/test_second.py": (
        "from pathlib import Path\nfrom twin.second import mul\n\n\n"
        "def test_mul():\n    assert mul(3, 2) == 6\n\n\ndef test_one():\n    assert mul(1, 1) == 1\n\n\n"
        "def test_sometimes():\n    runs = Path('COUNTER')\n    runs.write_text(runs.read_text() + '.')\n"
        "    assert len(runs.read_text()) % 2 == 0\n"
    ),
}


async def believe_the_screening(task: Task, diff: str) -> Verdict:
    """A grader that runs nothing: hidden tests fail as the screening saw them fail, and pass with the gold patch."""
    gold = diff == task.oracle.gold_patch
    failing = dict.fromkeys(task.oracle.fail_to_pass, "passed" if gold else "failed")
    return Verdict({**failing, **dict.fromkeys(task.oracle.pass_to_pass, "passed")}, gold)


def twin_checkout(source: Path) -> Path:
    for name, text in TWO_FILES.items():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text(text.replace("COUNTER", str(source.parent / "counter")))
    (source.parent / "counter").touch()
    for words in (["init", "-q"], ["add", "-A"], ["-c", "user.name=me", "-c", "user.email=me@here", "commit", "-qm", "x"]):
        subprocess.run(["git", *words], cwd=source, check=True, timeout=60)
    return source


async def test_bugs_are_combined_and_the_seed_decides(tmp_path: Path) -> None:
    """Of a git checkout; two bugs in one file, or one in each of two. The same seed gives the same tasks."""
    source = twin_checkout(tmp_path / "twin")
    config = replace(CONFIG, max_tasks=5, combined_share=0.4)
    async with sandboxes(tmp_path) as (images, pool):
        result = await make_package_tasks(source, images, pool, config, believe_the_screening, seed=3)
        again = await make_package_tasks(source, images, pool, config, believe_the_screening, seed=3)
        same_file, two_files = result.tasks[3:]
        for task in (same_file, two_files):
            assert (await HiddenTestGrader(pool)(task, task.oracle.gold_patch)).resolved
    assert result.tasks == again.tasks
    assert (len(result.tasks), result.counts["kept, with several bugs"]) == (5, 2)
    assert same_file.oracle.fail_to_pass == ("tests/test_first.py::test_add", "tests/test_first.py::test_sub")
    assert (same_file.difficulty, two_files.difficulty) == ("easy", "hard")
    assert [line for line in two_files.oracle.gold_patch.splitlines() if line.startswith("+++")] == [
        "+++ b/twin/first.py",
        "+++ b/twin/second.py",
    ]
    assert len(same_file.problem.base_commit) == 40
    assert result.flaky == ("tests/test_second.py::test_sometimes",)
    assert "test_sometimes" not in repr([(task.oracle.fail_to_pass, task.oracle.pass_to_pass) for task in result.tasks])
    assert leftovers(tmp_path) == []


async def test_an_endpoint_writes_the_issue_and_the_key_stays_secret(
    tmp_path: Path,
    server: ScriptedServer,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SWE_MASTER_TEST_ISSUE_KEY", "secret-key-1")
    answer = "Tax is taken off the total instead of being added: total([1, 2], 3) gives 0, I expected 6."
    server.says(f"<think>where is it</think>\n{answer}")
    config = replace(CONFIG, issue=EndpointConfig(server.url, "writer-1", "SWE_MASTER_TEST_ISSUE_KEY", 20.0))
    async with sandboxes(tmp_path) as (images, pool):
        result = await make(write_sdist(tmp_path / "tiny_calc-1.5.tar.gz", SDIST), images, pool, config)
    (task,) = result.tasks
    assert task.problem.problem_statement == f"{answer}\n"
    assert result.issue_counts == {"endpoint": 1}
    (_, headers, body), *_ = server.asked
    assert headers["authorization"] == "Bearer secret-key-1"
    assert body["model"] == "writer-1"
    shown = body["messages"][1]["content"]
    assert "total adds the tax: assert 0 == 6" in shown
    assert "def test_total_adds_the_tax():" in shown
    assert "secret-key-1" not in repr(result)
    for secret in ("__init__", "sum(prices)", "swapped", "src/"):
        assert secret not in json.dumps(body)


async def test_a_suite_that_does_not_pass_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "pkg").mkdir()
    (tmp_path / "pkg" / "code.py").write_text("def f(a):\n    return a + 1\n")
    (tmp_path / "pkg" / "test_code.py").write_text("def test_a():\n    assert False\n")
    no_python = replace(CONFIG, python="/no/python", test_packages=())
    no_dist = replace(CONFIG, test_packages=("no-such-dist",))
    async with sandboxes(tmp_path) as (images, pool):
        with pytest.raises(PackageTasksError, match=r"^pkg 0: no test of its suite passes here; pytest's last line: 1 failed in"):
            await make(tmp_path / "pkg", images, pool, CONFIG)
        with pytest.raises(PackageTasksError, match=r"^pkg 0: no test .* last line: .*No such file|not found"):
            await make(tmp_path / "pkg", images, pool, no_python)
        with pytest.raises(PackageTasksError, match="no-such-dist is not installed here"):
            await make(tmp_path / "pkg", images, pool, no_dist)
        with pytest.raises(PackageTasksError, match="unknown bug operator 'typo'"):
            await make(tmp_path / "pkg", images, pool, replace(CONFIG, operators=("typo",)))
        with pytest.raises(PackageTasksError, match="none of the bug operators finds a place"):
            await make(tmp_path / "pkg", images, pool, replace(CONFIG, operators=("missing_return", "removed_branch")[1:]))
        with pytest.raises(PackageTasksError, match=r"combined_share is in \[0, 1\)"):
            await make(tmp_path / "pkg", images, pool, replace(CONFIG, combined_share=1.0))
    assert list(images.root.iterdir()) == []
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize("after_s", [0.3, 2.5, 4.0])
async def test_nothing_is_left_of_a_run_that_is_interrupted(tmp_path: Path, after_s: float) -> None:
    """Cancelled in the middle, wherever that is, as Ctrl-C does; only whole tasks keep their image."""
    sdist = write_sdist(tmp_path / "tiny_calc-1.5.tar.gz", SDIST)
    async with sandboxes(tmp_path) as (images, pool):
        work = asyncio.ensure_future(make(sdist, images, pool, CONFIG))
        await asyncio.wait([work], timeout=after_s)
        work.cancel()
        await asyncio.wait([work], timeout=60)
        assert work.done()
    left = [path.name for path in images.root.iterdir()] if images.root.exists() else []
    assert [name for name in left if not name.startswith("tiny-calc__1.5.swapped_operator__")] == []
    assert leftovers(tmp_path) == []


def ended_process() -> int:
    process = subprocess.Popen(["true"])
    process.wait(timeout=20)
    return process.pid


async def test_folders_of_killed_processes_are_removed(tmp_path: Path) -> None:
    abandoned = tmp_path / "tmp" / f"{FOLDER_PREFIX}{ended_process()}-x"
    running = tmp_path / "tmp" / f"{FOLDER_PREFIX}1-x"
    abandoned.mkdir()
    running.mkdir()
    async with sandboxes(tmp_path) as (images, pool):
        with pytest.raises(PackageTasksError, match="no such file or folder"):
            await make(tmp_path / "none", images, pool, CONFIG)
    assert leftovers(tmp_path) == [running.name]
