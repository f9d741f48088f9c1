"""pytest and what it needs as one zip file, so that a package's suite runs in any sandbox that has a bare Python.

A sandbox may see nothing of this machine's environment (containers, bubblewrap), and one file of pure Python is enough: the
interpreter imports from a zip on PYTHONPATH.
"""

import io
import zipfile
from importlib import metadata

RUNTIME_FILE = ".test-runtime.zip"
_DATE = (2024, 1, 1, 0, 0, 0)  # fixed, so that the same packages give the same bytes


class TestRuntimeError(ValueError):
    """A distribution cannot be packed; one line that says which and why."""

    __test__ = False


def pack_test_runtime(distributions: tuple[str, ...]) -> bytes:
    """A zip of installed distributions and all they require. Raises TestRuntimeError: not installed, or not pure Python."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(required_distributions(distributions)):
            for path, data in sorted(_files(name)):
                archive.writestr(zipfile.ZipInfo(path, _DATE), data, zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


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
