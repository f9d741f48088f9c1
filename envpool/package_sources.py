"""A Python package as it is shipped: unpacking an sdist, finding its code and its tests."""

import re
import shutil
import tarfile
from dataclasses import dataclass
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
    """An unpacked package. Paths are relative to `root`, POSIX; `import_root` is `.` or `src`."""

    root: Path
    name: str
    version: str
    licence: str
    import_root: str
    sources: tuple[str, ...]
    tests: tuple[str, ...]

    def read(self, path: str) -> bytes:
        return (self.root / path).read_bytes()


def unpack_package(source: Path, target: Path) -> PackageTree:
    """Copy a folder, or unpack an sdist without letting it write elsewhere, into the new folder `target`; then look around.

    Raises PackageTasksError: no such file, no readable archive, no code, no tests.
    """
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


def inspect_package(root: Path, fallback_name: str) -> PackageTree:
    """Name, version, code and tests of an unpacked package. Raises PackageTasksError."""
    name, version, licence = _metadata(root, fallback_name)
    import_root = "src" if _has_code(root / "src") else "."
    python_files = [path.relative_to(root) for path in sorted(root.rglob("*.py")) if path.is_file() and not path.is_symlink()]
    visible = [path for path in python_files if not any(part.startswith(".") for part in path.parts)]
    sources = tuple(path.as_posix() for path in visible if _is_code(root, path, import_root))
    tests = tuple(path.as_posix() for path in visible if _TEST_FILE.fullmatch(path.name) and path.name != "conftest.py")
    if not sources:
        raise PackageTasksError(f"{name} {version}: no Python code found under {import_root}/")
    if not tests:
        raise PackageTasksError(f"{name} {version} ships no tests (no test_*.py): use an sdist that has them, or a checkout")
    return PackageTree(root, name, version, licence, import_root, sources, tests)


def _metadata(root: Path, fallback: str) -> tuple[str, str, str]:
    info = root / "PKG-INFO"
    if info.is_file():
        headers = HeaderParser().parsestr(info.read_text(encoding="utf-8", errors="replace"))
        licence = (headers["License-Expression"] or headers["License"] or "").splitlines()
        classifiers = [item.split(" :: ")[-1] for item in headers.get_all("Classifier", []) if item.startswith("License :: ")]
        shown = (licence or classifiers or [""])[0]
        return _safe(headers["Name"] or fallback), _safe(headers["Version"] or "0"), shown[:80]
    name, _, version = fallback.rpartition("-")
    return (_safe(name), _safe(version), "") if name and version[:1].isdigit() else (_safe(fallback), "0", "")


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
