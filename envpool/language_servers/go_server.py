"""Go: gopls with the go command. Modules are taken from the repository (and its vendor folder) only: there is no network."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from envpool.lsp.language_server import Diagnostics, LanguageServer, Launch

SYSTEM_PATH = "/usr/local/bin:/usr/bin:/bin"
_SETTINGS = {
    "symbolScope": "workspace",
    "diagnosticsDelay": "0s",
    "verboseWorkDoneProgress": True,  # says when it has looked at a change; what it publishes first may be less than all
}


@dataclass(frozen=True)
class GoServer(LanguageServer):
    """Works on a repository with a go.mod; without one gopls knows single files."""

    name: str = "go"
    title: str = "Go (gopls)"
    suffixes: tuple[str, ...] = (".go",)
    project_files: tuple[str, ...] = ("go.mod", "go.sum", "go.work", "modules.txt")
    install_hint: str = "apt-get install gopls golang-go"
    language_ids: Mapping[str, str] = field(default_factory=lambda: {".go": "go"})
    diagnostics: Diagnostics = "publish"
    reads_closed_files: bool = True
    configuration: Mapping[str, Any] = field(default_factory=lambda: {"gopls": dict(_SETTINGS)})

    def launch(self, scratch: str, files: Sequence[str]) -> Launch | None:
        gopls, go = shutil.which("gopls"), shutil.which("go")
        if gopls is None or go is None:
            return None
        gopls_file, go_file = Path(gopls).resolve(), Path(go).resolve()
        root = go_file.parents[1]  # <GOROOT>/bin/go
        environment = {
            "PATH": f"{Path(go).parent}:{go_file.parent}:{SYSTEM_PATH}",
            "GOCACHE": f"{scratch}/go-cache",
            "GOPATH": f"{scratch}/go",
            "GOFLAGS": "-buildvcs=false",
            "GOPROXY": "off",
            "GOSUMDB": "off",
            "GOTOOLCHAIN": "local",
            "GOTELEMETRY": "off",
            "CGO_ENABLED": "0",  # cgo would run a compiler on the repository's code
            "GOENV": "off",
        }
        return Launch((str(gopls_file), "serve"), (str(gopls_file.parent), str(root)), environment)
