"""Unpacking sdists, checking out git repositories, telling code from tests."""

import io
import os
import subprocess
import tarfile
from pathlib import Path

import pytest

from envpool.packages.package_sources import PackageTasksError, unpack_package
from tests.envpool.packages.small_sdist import SDIST, write_sdist


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


def git(folder: Path, *words: str) -> str:
    identity = ("-c", "user.name=me", "-c", "user.email=me@localhost", "-c", "commit.gpgsign=false")
    clean = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    done = subprocess.run(
        ["git", *identity, *words], cwd=folder, env=clean, capture_output=True, text=True, check=True, timeout=60
    )
    return done.stdout.strip()


def checkout(folder: Path) -> Path:
    files = {
        "pyproject.toml": '[project]\nname = "own_code"\nlicense = {text = "MIT"}\n',
        "own.py": "def f(a):\n    return a + 1\n",
        "tests/test_own.py": "def test_f():\n    pass\n",
        ".gitattributes": "tests export-ignore\n",
        ".gitignore": "*.log\n",
    }
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    git(folder, "init", "-q")
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", "first")
    return folder


def test_a_checkout_gives_its_head(tmp_path: Path) -> None:
    """Also what `git archive` would leave out; neither ignored files nor uncommitted changes; the checkout is not touched."""
    source = checkout(tmp_path / "repo")
    head = git(source, "rev-parse", "HEAD")
    (source / "debug.log").write_text("x")
    tree = unpack_package(source, tmp_path / "clean")
    assert (tree.name, tree.version, tree.licence, tree.commit, tree.note) == ("own-code", head[:12], "MIT", head, "")
    assert (tree.sources, tree.tests) == (("own.py",), ("tests/test_own.py",))
    assert not (tree.root / ".git").exists()
    assert not (tree.root / "debug.log").exists()

    (source / "own.py").write_text("changed\n")
    (source / "new.py").write_text("x = 1\n")
    index_before = (source / ".git" / "index").read_bytes()
    tree = unpack_package(source, tmp_path / "dirty")
    assert tree.read("own.py") == b"def f(a):\n    return a + 1\n"
    assert tree.sources == ("own.py",)
    assert tree.note == f"{source}: 2 uncommitted changes are not used; the tasks come from its commit {head[:12]}"
    assert (source / ".git" / "index").read_bytes() == index_before


def test_a_checkout_without_a_commit_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "repo").mkdir()
    git(tmp_path / "repo", "init", "-q")
    with pytest.raises(PackageTasksError, match=r"repo: git rev-parse failed: has it a commit\?$"):
        unpack_package(tmp_path / "repo", tmp_path / "out")


def test_a_checkouts_own_configuration_starts_nothing(tmp_path: Path) -> None:
    source = checkout(tmp_path / "repo")
    hook = source / ".git/hooks/post-checkout"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(f"#!/bin/sh\ntouch {tmp_path}/started\n")
    hook.chmod(0o755)
    git(source, "config", "core.fsmonitor", f"touch {tmp_path}/started")
    unpack_package(source, tmp_path / "out")
    assert not (tmp_path / "started").exists()


def test_pytest_itself_is_refused(tmp_path: Path) -> None:
    files = {**SDIST, "src/_pytest/__init__.py": "x = 1\n"}
    with pytest.raises(PackageTasksError, match=r"tiny-calc 1\.5 is pytest itself \(src/_pytest/__init__\.py\)"):
        unpack_package(write_sdist(tmp_path / "tiny_calc-1.5.tar.gz", files), tmp_path / "out")
