"""pytest and what it needs as one zip file, so that a package's suite runs in any sandbox that has a bare Python.

A sandbox may see nothing of this machine's environment (containers, bubblewrap), and one file of pure Python is enough: the
interpreter runs a zip that has a `__main__.py` (`test_launcher`) and imports from it. Bytecode for this interpreter lies
beside the sources (a start takes a third of the time); another version passes over it.
"""

import importlib.util
import io
import marshal
import zipfile
from functools import lru_cache
from importlib import metadata
from pathlib import Path

RUNTIME_FILE = ".test-runtime.zip"
LAUNCHER = Path(__file__).with_name("test_launcher.py")
NOT_COMPILED = ("pygments/lexers/", "pygments/styles/")
"""Three quarters of the bytecode, of which a test run needs a hundredth."""
_DATE = (2024, 1, 1, 0, 0, 0)  # fixed, so that the same packages give the same bytes


class TestRuntimeError(ValueError):
    """A distribution cannot be packed; one line that says which and why."""

    __test__ = False


@lru_cache(maxsize=8)
def pack_test_runtime(distributions: tuple[str, ...]) -> bytes:
    """A zip of installed distributions and all they require, which starts pytest when Python runs it.

    Raises TestRuntimeError: not installed, or not pure Python.
    """
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        members = [("__main__.py", LAUNCHER.read_bytes())]
        for name in sorted(required_distributions(distributions)):
            members += sorted(_files(name))
        for path, data in members:
            archive.writestr(zipfile.ZipInfo(path, _DATE), data, zipfile.ZIP_DEFLATED)
            if path.endswith(".py") and not path.startswith(NOT_COMPILED):
                archive.writestr(zipfile.ZipInfo(f"{path}c", _DATE), _bytecode(path, data), zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def _bytecode(path: str, source: bytes) -> bytes:
    """A .pyc that is tied to its source by a hash; equal sources give equal bytes (format 2 of marshal keeps no references,
    which would depend on what else is in memory)."""
    code = compile(source, path, "exec", dont_inherit=True)
    header = importlib.util.MAGIC_NUMBER + (1).to_bytes(4, "little") + importlib.util.source_hash(source)
    return header + marshal.dumps(code, 2)


def required_distributions(distributions: tuple[str, ...]) -> set[str]:
    """Names of the distributions and, transitively, of what they require here (without extras)."""
    from packaging.requirements import Requirement  # pytest brings it

    found: set[str] = set()
    open_names = list(distributions)
    while open_names:
        name = open_names.pop().lower().replace("_", "-")
        if name in found:
            continue
        found.add(name)
        for line in _distribution(name).requires or ():
            requirement = Requirement(line)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                open_names.append(requirement.name)
    return found


def _distribution(name: str) -> metadata.Distribution:
    try:
        return metadata.distribution(name)
    except metadata.PackageNotFoundError as error:
        raise TestRuntimeError(
            f"{name} is not installed here, so it cannot be packed for the sandbox: pip install {name}"
        ) from error


def _files(name: str) -> list[tuple[str, bytes]]:
    files = []
    for path in _distribution(name).files or ():
        if path.suffix in (".so", ".pyd"):
            raise TestRuntimeError(f"{name} has compiled parts ({path.name}) and cannot be packed for the sandbox")
        if ".." in path.parts or path.is_absolute() or path.suffix == ".pyc" or path.name in ("RECORD", "direct_url.json"):
            continue
        files.append((path.as_posix(), path.read_binary()))
    if not files:
        raise TestRuntimeError(f"{name} is installed without a list of its files and cannot be packed for the sandbox")
    return files
