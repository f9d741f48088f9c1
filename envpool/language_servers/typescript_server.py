"""TypeScript and JavaScript: typescript-language-server with a TypeScript below 7 beside it (7 has no tsserver any more)."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from envpool.lsp.language_server import Diagnostics, LanguageServer, Launch

HEAP_MIB = 2048
_IDS = {
    **dict.fromkeys((".ts", ".mts", ".cts"), "typescript"),
    **dict.fromkeys((".js", ".mjs", ".cjs"), "javascript"),
    ".tsx": "typescriptreact",
    ".jsx": "javascriptreact",
}


@dataclass(frozen=True)
class TypeScriptServer(LanguageServer):
    """The server's own TypeScript is used, never the repository's, and plugins that a repository names are not loaded from it
    unless they lie beside the server."""

    name: str = "typescript"
    title: str = "TypeScript, JavaScript (typescript-language-server)"
    suffixes: tuple[str, ...] = tuple(_IDS)
    project_files: tuple[str, ...] = ("package.json", "tsconfig*.json", "jsconfig*.json")
    install_hint: str = "npm install -g typescript@5.9 typescript-language-server"
    language_ids: Mapping[str, str] = field(default_factory=lambda: _IDS)
    diagnostics: Diagnostics = "tsserver"
    opens_changed_files: bool = True
    initialization_options: Mapping[str, Any] = field(
        default_factory=lambda: {
            "disableAutomaticTypingAcquisition": True,
            "maxTsServerMemory": HEAP_MIB,
            "tsserver": {"useSyntaxServer": "never"},  # it answers while the project is read, and wrongly
            "preferences": {"includePackageJsonAutoImports": "off"},
        }
    )

    def launch(self, scratch: str, files: Sequence[str]) -> Launch | None:
        found, node = shutil.which("typescript-language-server"), shutil.which("node")
        if found is None or node is None:
            return None
        script = Path(found).resolve()
        # <prefix>/lib/node_modules/typescript-language-server/lib/cli.mjs: TypeScript is its neighbour
        modules = script.parents[2]
        if not (modules / "typescript/lib/tsserver.js").is_file():
            return None
        return Launch((node, str(script), "--stdio"), (str(modules), str(Path(node).resolve().parent)))
