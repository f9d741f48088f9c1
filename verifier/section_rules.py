"""Why a part of a patch is left out, as far as that can be said without the oracle.

`never_graded` parts are dropped whatever the task is, so nobody needs to see them. `forges_tests` parts could decide how tests
come out; the grader keeps such a part when the reference patch touches the same path (`verifier.patch_cleaning`).
"""

import sys
from collections.abc import Callable, Set
from pathlib import PurePosixPath

from envpool.patch import Patch
from verifier.patch_sections import PatchSection, patch_sections

TEST_SETUP_FILES = frozenset(
    {"conftest.py", "pytest.ini", ".pytest.ini", "pytest.toml", ".pytest.toml", "tox.ini", "setup.cfg", "pyproject.toml"}
)
"""They change what pytest runs and how it reports."""
START_UP_MODULES = frozenset({"sitecustomize", "usercustomize"})
TEST_RUNNER_MODULES = frozenset({"pytest", "_pytest", "pluggy", "iniconfig", "py", "xdist", "nose", "tox"})
TEST_FOLDERS = frozenset({"test", "tests"})
IMPORTABLE = (".py", ".so", ".pyd")
JUNK_PARTS = frozenset({"__pycache__", ".pytest_cache", ".mypy_cache", ".ruff_cache", ".hypothesis", ".tox", ".venv", ".git"})
JUNK_SUFFIXES = (".pyc", ".pyo", ".orig", ".rej", ".swp", ".egg-link", ".pth")
SCRATCH_PREFIXES = ("reproduce", "repro_", "repro.", "debug_", "issue.md")


def without_sections(patch: Patch, reason: Callable[[PatchSection], str]) -> Patch:
    """The patch without the sections that have a reason to go. Text that is no git diff at all stays as it is."""
    sections = patch_sections(patch.diff)
    return Patch("".join(section.text for section in sections if not reason(section))) if sections else patch


def never_graded(section: PatchSection) -> str:
    """Why a section is left out of every grading: it leaves the repository, is junk or a scratch file; "" for no reason."""
    for text in section.paths:
        path = PurePosixPath(text)
        if path.is_absolute() or ".." in path.parts:
            return "leaves the repository"
        if JUNK_PARTS & set(path.parts) or path.name.endswith(JUNK_SUFFIXES):
            return "junk"
        if section.adds_file and len(path.parts) == 1 and path.name.lower().startswith(SCRATCH_PREFIXES):
            return "scratch file"
    return ""


def forges_tests(section: PatchSection, test_folders: Set[PurePosixPath] = frozenset()) -> str:
    """Why a section could change how tests come out: their set-up, a test folder, a start-up module, a new module that shadows
    the test runner or the standard library; "" for no reason. `test_folders` are on Python's path too."""
    for text in section.paths:
        path = PurePosixPath(text)
        if path.name in TEST_SETUP_FILES:
            return "set-up of the tests"
        if TEST_FOLDERS & set(path.parts[:-1]) or path.parts[0] in TEST_FOLDERS:
            return "in a test folder"
        if path.name.partition(".")[0] in START_UP_MODULES:
            return "runs when Python starts"
        module = import_root(path, test_folders)[1]
        if adds_module(section, path) and (module in TEST_RUNNER_MODULES or module in sys.stdlib_module_names):
            return "shadows a module that the tests import"
    return ""


def adds_module(section: PatchSection, path: PurePosixPath) -> bool:
    """Whether the section makes something new at the path that Python can import."""
    return section.adds_file and path.suffix in IMPORTABLE


def import_root(path: PurePosixPath, test_folders: Set[PurePosixPath]) -> tuple[PurePosixPath, str]:
    """The folder on Python's path that a file would be imported from, and its top-level module.

    The roots are the repository, `src`, `lib`, and `test_folders` (pytest puts those first on the path); the deepest one counts.
    """
    roots = {PurePosixPath("src"), PurePosixPath("lib"), *test_folders} & set(path.parents[:-1])
    root = max(roots, key=_depth, default=PurePosixPath("."))
    return root, path.relative_to(root).parts[0].partition(".")[0]


def _depth(path: PurePosixPath) -> int:
    return len(path.parts)
