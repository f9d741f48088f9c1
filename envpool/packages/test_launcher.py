"""Starts pytest from the zip file that this file lies in as `__main__.py`; it runs in a sandbox, under any Python 3.8 or newer.

    TEST_IMPORT_PATH="$PWD"/src python3 "$PWD"/.test-runtime.zip -q tests

pytest and what it needs are imported before the tree under test can be: a broken copy of a package that pytest itself uses
(iniconfig, pluggy, packaging, pygments) breaks its own tests and not pytest. Where the tree has such a package, pytest keeps
the copy of the zip and the tests get the tree's. PYTEST_ADDOPTS works as always.
"""

import importlib
import os
import sys
import zipfile

IMPORT_PATH = "TEST_IMPORT_PATH"
"""Absolute folders that tests import from, separated as in PYTHONPATH; default: the working directory."""
RUNNER = frozenset({"pytest", "_pytest"})


def top_level(names: "list[str]") -> "set[str]":
    """Modules at the top of an archive with these members: `a.py` and `b/__init__.py` give a and b."""
    modules = {name[:-3] for name in names if name.endswith(".py") and "/" not in name}
    return modules | {name.split("/")[0] for name in names if name.count("/") == 1 and name.endswith("/__init__.py")}


def shadowed(modules: "set[str]", folders: "list[str]") -> "set[str]":
    """Those of the modules that a folder has too."""
    tails = ("{}.py", "{}/__init__.py")
    return {
        name
        for name in modules
        for folder in folders
        for tail in tails
        if os.path.isfile(os.path.join(folder, tail.format(name)))
    }


def main() -> int:
    """Exit code of pytest."""
    archive, rest = os.path.abspath(sys.path[0]), sys.path[1:]
    given = os.environ.pop(IMPORT_PATH, "") or os.getcwd()
    folders = [os.getcwd(), *given.split(os.pathsep)]
    pytest = importlib.import_module("pytest")
    with zipfile.ZipFile(archive) as members:
        doubled = shadowed(top_level(members.namelist()), folders) - RUNNER - {"__main__"}
    if doubled:
        for name in importlib.import_module("_pytest.config").default_plugins:
            importlib.import_module("_pytest." + name)  # later it would find the tree's copy of what it needs
        for name in list(sys.modules):
            if name.split(".")[0] in doubled:
                del sys.modules[name]
    sys.path[:] = [*folders, archive, *rest]
    os.environ["PYTHONPATH"] = os.pathsep.join([*given.split(os.pathsep), archive])  # for what the tests start
    return int(pytest.main())


if __name__ == "__main__":
    sys.exit(main())
