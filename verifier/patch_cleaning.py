"""What of a model's patch is graded: everything but its edits of tests, of the tests' set-up, and junk.

SWE-bench's hidden tests overwrite the test files they touch, and no more: a patch may still bring a conftest that reports
every test as passed, a module that is found before the one under test, or its own pytest. Such parts are left out before the
patch is applied. A path that the reference patch touches too is never left out: fixing it may be the task.
"""

from dataclasses import dataclass
from pathlib import PurePosixPath

from envpool.oracle import Oracle
from envpool.patch import Patch
from verifier.patch_sections import PatchSection, patch_sections, paths_collide
from verifier.section_rules import adds_module, forges_tests, import_root, never_graded


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
    test_folders = {PurePosixPath(path).parent for path in hidden}
    kept: list[str] = []
    dropped: list[str] = []
    for section in sections:
        reason = never_graded(section) or _hidden(section, hidden)
        if not reason and protect_test_setup and not gold & set(section.paths):
            reason = forges_tests(section, test_folders) or _shadows_gold(section, test_folders, gold)
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


def _hidden(section: PatchSection, hidden: tuple[str, ...]) -> str:
    collides = any(paths_collide(path, other) for path in section.paths for other in hidden)
    return "hidden test" if collides else ""


def _shadows_gold(section: PatchSection, test_folders: set[PurePosixPath], gold: frozenset[str]) -> str:
    modules = {import_root(PurePosixPath(path), test_folders)[1] for path in gold}
    for text in section.paths:
        path = PurePosixPath(text)
        root, module = import_root(path, test_folders)
        if adds_module(section, path) and module in modules and not _same_root(root, gold, module):
            return "shadows the module under test"
    return ""


def _same_root(root: PurePosixPath, gold: frozenset[str], module: str) -> bool:
    """Whether the module under test lives under that root itself."""
    return any(PurePosixPath(path).is_relative_to(root / module) or PurePosixPath(path) == root / f"{module}.py" for path in gold)
