"""A Python package as it is shipped or kept: an sdist, a git checkout or a folder; finding its code and its tests."""

import os
import re
import shutil
import subprocess
import tarfile
import tempfile
import tomllib
from dataclasses import dataclass, replace
from email.parser import HeaderParser
from pathlib import Path

_SKIPPED = shutil.ignore_patterns(".git", ".hg", "__pycache__", ".venv", "venv", ".tox", ".nox", "node_modules", "*.pyc")
_TEST_FILE = re.compile(r"test_.*\.py|.*_test\.py|tests\.py|conftest\.py")
_TEST_DIRS = {"test", "tests", "testing"}
_NO_CODE_DIRS = {"docs", "doc", "examples", "example", "benchmarks", "benchmark", "scripts", "tools", "build", "dist"}
_NO_CODE_FILES = {"setup.py", "conftest.py", "noxfile.py", "tasks.py", "fabfile.py"}


class PackageTasksError(ValueError):
    """A package no tasks can be made of, in one line that says why."""


@dataclass(frozen=True)
class PackageTree:
    """An unpacked package. Paths are relative to `root`, POSIX; `import_root` is `.` or `src`. `commit` is the hash that a git
    checkout stood at, else ""; `note` is what its owner should know."""

    root: Path
    name: str
    version: str
    licence: str
    import_root: str
    sources: tuple[str, ...]
    tests: tuple[str, ...]
    commit: str = ""
    note: str = ""

    def read(self, path: str) -> bytes:
        return (self.root / path).read_bytes()


def unpack_package(source: Path, target: Path) -> PackageTree:
    """Copy a folder, check out a git repository's HEAD, or unpack an sdist without letting it write elsewhere, into the new
    folder `target`; then look around.

    Raises PackageTasksError: no such file, no readable archive, no commit, no code, no tests.
    """
    if (source / ".git").exists():
        commit, note = _check_out(source, target)
        tree = inspect_package(target, source.resolve().name, commit[:12])
        return replace(tree, commit=commit, note=note)
    if source.is_dir():
        shutil.copytree(source, target, symlinks=True, ignore=_SKIPPED)
        return inspect_package(target, source.resolve().name)
    if not source.is_file():
        raise PackageTasksError(f"{source}: no such file or folder")
    try:
        with tarfile.open(source) as archive:
            archive.extractall(target, filter="data")
    except (tarfile.TarError, EOFError, OSError, ValueError) as error:
        raise PackageTasksError(f"{source}: not a readable sdist ({' '.join(str(error).split())[:200]})") from error
    entries = list(target.iterdir())
    root = entries[0] if len(entries) == 1 and entries[0].is_dir() else target
    return inspect_package(root, re.sub(r"\.(tar\.\w+|tgz)$", "", source.name))


def _check_out(source: Path, target: Path) -> tuple[str, str]:
    """The files of HEAD into `target`; HEAD's hash, and a note when the work tree holds something else.

    Through an index of its own: `git archive` would leave out what a repository marks export-ignore, often its tests. The
    repository is only read.
    """
    commit = _git(source, {}, "rev-parse", "-q", "--verify", "HEAD^{commit}").strip()
    target.mkdir(parents=True)
    with tempfile.TemporaryDirectory(prefix="swe-master-index-") as folder:
        index = {"GIT_INDEX_FILE": str(Path(folder, "index"))}
        _git(source, index, "read-tree", commit)
        _git(source, index, "checkout-index", "-a", f"--prefix={target.resolve()}/")
    changed = len(_git(source, {"GIT_OPTIONAL_LOCKS": "0"}, "status", "--porcelain").splitlines())
    what = "1 uncommitted change is" if changed == 1 else f"{changed} uncommitted changes are"
    return commit, f"{source}: {what} not used; the tasks come from its commit {commit[:12]}" if changed else ""


def _git(source: Path, variables: dict[str, str], *words: str) -> str:
    """Output of a git command in a repository whose own configuration may start nothing. Raises PackageTasksError."""
    options = ["-c", "safe.directory=*", "-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")} | variables
    command = ["git", *options, *words]
    try:
        done = subprocess.run(command, cwd=source, env=environment, capture_output=True, text=True, timeout=300, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise PackageTasksError(f"{source}: git {words[0]} does not run: {error}") from error
    if done.returncode != 0:
        why = " ".join(done.stderr.split())[:200] or "has it a commit?"
        raise PackageTasksError(f"{source}: git {words[0]} failed: {why}")
    return done.stdout


def inspect_package(root: Path, fallback_name: str, fallback_version: str = "0") -> PackageTree:
    """Name, version, code and tests of an unpacked package. Raises PackageTasksError."""
    name, version, licence = _metadata(root, fallback_name, fallback_version)
    import_root = "src" if _has_code(root / "src") else "."
    python_files = [path.relative_to(root) for path in sorted(root.rglob("*.py")) if path.is_file() and not path.is_symlink()]
    visible = [path for path in python_files if not any(part.startswith(".") for part in path.parts)]
    sources = tuple(path.as_posix() for path in visible if _is_code(root, path, import_root))
    tests = tuple(path.as_posix() for path in visible if _TEST_FILE.fullmatch(path.name) and path.name != "conftest.py")
    if not sources:
        raise PackageTasksError(f"{name} {version}: no Python code found under {import_root}/")
    if not tests:
        raise PackageTasksError(f"{name} {version} ships no tests (no test_*.py): use an sdist that has them, or a checkout")
    runner = next((path for path in sources if path.removeprefix("src/").split("/")[0] in ("pytest", "_pytest", "pytest.py")), "")
    if runner:
        raise PackageTasksError(f"{name} {version} is pytest itself ({runner}): a broken copy could not run its own tests")
    return PackageTree(root, name, version, licence, import_root, sources, tests)


def _metadata(root: Path, fallback: str, fallback_version: str) -> tuple[str, str, str]:
    info = root / "PKG-INFO"
    if info.is_file():
        headers = HeaderParser().parsestr(info.read_text(encoding="utf-8", errors="replace"))
        licence = (headers["License-Expression"] or headers["License"] or "").splitlines()
        classifiers = [item.split(" :: ")[-1] for item in headers.get_all("Classifier", []) if item.startswith("License :: ")]
        shown = (licence or classifiers or [""])[0]
        return _safe(headers["Name"] or fallback), _safe(headers["Version"] or "0"), shown[:80]
    project = _project(root)
    name, _, version = fallback.rpartition("-")
    if not name or not version[:1].isdigit():
        name, version = fallback, fallback_version
    licence = project.get("license")
    shown = licence.get("text", "") if isinstance(licence, dict) else licence
    return (
        _safe(str(project.get("name") or name)),
        _safe(str(project.get("version") or version)),
        str(shown or "").partition("\n")[0][:80],
    )


def _project(root: Path) -> dict[str, object]:
    """The table [project] of pyproject.toml; empty when there is none that can be read."""
    try:
        found = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8")).get("project")
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _safe(text: str) -> str:
    """Text that can be part of an instance id and an image name."""
    return re.sub(r"[^A-Za-z0-9.+-]+", "-", text).strip("-.") or "package"


def _has_code(folder: Path) -> bool:
    return folder.is_dir() and any(path.suffix == ".py" or (path / "__init__.py").is_file() for path in folder.iterdir())


def _is_code(root: Path, path: Path, import_root: str) -> bool:
    if _TEST_FILE.fullmatch(path.name) or _TEST_DIRS & set(path.parts[:-1]) or path.name in _NO_CODE_FILES:
        return False
    inside = path.parts[1:] if import_root == "src" else path.parts
    if import_root == "src" and path.parts[0] != "src":
        return False
    if len(inside) == 1:
        return True
    return inside[0] not in _NO_CODE_DIRS and (root / path.parents[len(inside) - 2] / "__init__.py").is_file()
