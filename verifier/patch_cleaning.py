"""What of a model's patch is graded: everything but its edits of tests, of the tests' set-up, and junk.

SWE-bench's hidden tests overwrite the test files they touch, and no more: a patch may still bring a conftest that reports
every test as passed, a module that is found before the one under test, or its own pytest. Such parts are left out before the
patch is applied. A path that the reference patch touches too is never left out: fixing it may be the task.
"""

import sys
from dataclasses import dataclass
from pathlib import PurePosixPath

from envpool.oracle import Oracle
from envpool.patch import Patch
from verifier.patch_sections import PatchSection, patch_sections, paths_collide

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


@dataclass(frozen=True)
class CleanedPatch:
    """The part that is graded, and `path: reason` for every part that was left out."""

    patch: Patch
    dropped: tuple[str, ...]


def clean_patch(
    patch: Patch, oracle: Oracle, protect_test_setup: bool = True, hidden_paths: tuple[str, ...] = ()
) -> CleanedPatch:
    """Cut a diff down to what is graded. Text that is no git diff at all is returned as it is (it will not apply).

    Always left out: hidden test files and `hidden_paths` of the image (and what stands in their way), paths outside the
    repository, junk. With
    `protect_test_setup` also files of the tests' set-up, files in test folders, and modules that shadow the test runner, the
    standard library or the module under test.
    """
    sections = patch_sections(patch.diff)
    if not sections:
        return CleanedPatch(patch, ())
    hidden = (*hidden_test_paths(oracle), *(path for path in hidden_paths if not path.startswith("/")))
    gold = frozenset(path for section in patch_sections(oracle.gold_patch) for path in section.paths)
    kept: list[str] = []
    dropped: list[str] = []
    for section in sections:
        reason = _always_dropped(section, hidden)
        if not reason and protect_test_setup and not gold & set(section.paths):
            reason = _set_up_of_tests(section, hidden, gold)
        if reason:
            dropped.append(f"{section.paths[-1] if section.paths else '?'}: {reason}")
        else:
            kept.append(section.text)
    return CleanedPatch(Patch("".join(kept)), tuple(dropped))


def hidden_test_paths(oracle: Oracle) -> tuple[str, ...]:
    """Files that the test patch or the hidden files put in, relative to the workdir."""
    patched = (path for section in patch_sections(oracle.test_patch) for path in section.paths)
    files = (file.path for file in oracle.hidden_files if not file.path.startswith("/"))
    return tuple(dict.fromkeys((*patched, *files)))


def _always_dropped(section: PatchSection, hidden: tuple[str, ...]) -> str:
    for text in section.paths:
        path = PurePosixPath(text)
        if path.is_absolute() or ".." in path.parts:
            return "leaves the repository"
        if any(paths_collide(text, other) for other in hidden):
            return "hidden test"
        if JUNK_PARTS & set(path.parts) or path.name.endswith(JUNK_SUFFIXES):
            return "junk"
        if section.adds_file and len(path.parts) == 1 and path.name.lower().startswith(SCRATCH_PREFIXES):
            return "scratch file"
    return ""


def _set_up_of_tests(section: PatchSection, hidden: tuple[str, ...], gold: frozenset[str]) -> str:
    test_folders = {PurePosixPath(path).parent for path in hidden}
    for text in section.paths:
        path = PurePosixPath(text)
        if path.name in TEST_SETUP_FILES:
            return "set-up of the tests"
        if TEST_FOLDERS & set(path.parts[:-1]) or path.parts[0] in TEST_FOLDERS:
            return "in a test folder"
        root, module = _import_root(path, test_folders)
        if path.name.partition(".")[0] in START_UP_MODULES:
            return "runs when Python starts"
        if not section.adds_file or path.suffix not in IMPORTABLE:
            continue
        if module in TEST_RUNNER_MODULES or module in sys.stdlib_module_names:
            return "shadows a module that the tests import"
        if module in {_import_root(PurePosixPath(other), test_folders)[1] for other in gold} and not _same_root(
            root, gold, module
        ):
            return "shadows the module under test"
    return ""


def _import_root(path: PurePosixPath, test_folders: set[PurePosixPath]) -> tuple[PurePosixPath, str]:
    """The folder on Python's path that a file would be imported from, and its top-level module.

    The roots are the repository, `src`, `lib`, and folders of hidden tests (pytest puts those first on the path); the
    deepest one counts.
    """
    roots = {PurePosixPath("src"), PurePosixPath("lib"), *test_folders} & set(path.parents[:-1])
    root = max(roots, key=_depth, default=PurePosixPath("."))
    return root, path.relative_to(root).parts[0].partition(".")[0]


def _depth(path: PurePosixPath) -> int:
    return len(path.parts)


def _same_root(root: PurePosixPath, gold: frozenset[str], module: str) -> bool:
    """Whether the module under test lives under that root itself."""
    return any(PurePosixPath(path).is_relative_to(root / module) or PurePosixPath(path) == root / f"{module}.py" for path in gold)
