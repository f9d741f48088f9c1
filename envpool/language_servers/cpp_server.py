"""C and C++: clangd. Without a compile_commands.json of the repository's own it gets a simple one: every source file, with every
folder of headers on the include path."""

import os
import posixpath
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import orjson

from envpool.lsp.cpp_outline import enclosing_in_text
from envpool.lsp.language_server import Diagnostics, LanguageServer, Launch
from envpool.lsp.lsp_symbols import Symbol

DATABASES = ("compile_commands.json", "build/compile_commands.json", "compile_flags.txt")
MAX_INCLUDE_FOLDERS = 64
_SOURCES = {".c": "c", ".cc": "cpp", ".cpp": "cpp", ".cxx": "cpp"}
_HEADERS = {".h": "cpp", ".hh": "cpp", ".hpp": "cpp", ".hxx": "cpp", ".inl": "cpp"}


@dataclass(frozen=True)
class CppServer(LanguageServer):
    """clangd looks at closed files only once, so changed ones are opened and deleted ones need a new start."""

    name: str = "cpp"
    title: str = "C, C++ (clangd)"
    suffixes: tuple[str, ...] = (*_SOURCES, *_HEADERS)
    project_files: tuple[str, ...] = ("compile_commands.json", "compile_flags.txt", ".clangd")
    install_hint: str = "apt-get install clangd"
    language_ids: Mapping[str, str] = field(default_factory=lambda: {**_SOURCES, **_HEADERS})
    diagnostics: Diagnostics = "publish"
    opens_changed_files: bool = True
    saves: tuple[str, ...] | None = tuple(_HEADERS)  # clangd then looks at all open files again
    restarts_on_delete: bool = True
    waits_for_index: bool = True

    def launch(self, scratch: str, files: Sequence[str]) -> Launch | None:
        found = shutil.which("clangd") or next((path for path in _numbered_clangds()), None)
        if found is None:
            return None
        options = [
            "--sync",  # one after the other: else an answer may come from before a header's change (preambles are built aside)
            "--background-index",
            "--clang-tidy=false",
            "--limit-results=1000",
            "--pch-storage=memory",
            "--log=error",
        ]
        if not has_database(files):
            options.append(f"--compile-commands-dir={scratch}")
        binary = Path(found).resolve()
        return Launch((found, *options), (str(binary.parent), str(binary.parents[1] / "lib")))  # lib/clang: its own headers

    def enclosing_in_text(self, text: str, line: int) -> Symbol | None:
        return enclosing_in_text(text, line)  # opening a file means parsing all that it includes

    def prepared_files(self, files: Sequence[str], root: str) -> dict[str, bytes]:
        return {} if has_database(files) else {"compile_commands.json": compile_commands(files, root)}


def has_database(files: Sequence[str]) -> bool:
    """Whether the repository says itself how its files are compiled, where clangd looks for it."""
    return any(name in files for name in DATABASES)


def compile_commands(files: Sequence[str], root: str) -> bytes:
    """A compilation database (clang.llvm.org/docs/JSONCompilationDatabase.html) for sources that come without one.

    >>> orjson.loads(compile_commands(["src/a.c", "include/a.h"], "/r"))[0]["arguments"]
    ['clang', '-I/r', '-I/r/include', '-c', '/r/src/a.c']
    """
    headers = [path for path in files if posixpath.splitext(path)[1].lower() in _HEADERS]
    folders = sorted({posixpath.dirname(path) for path in headers} | {""}, key=lambda folder: (folder.count("/"), folder))
    # `include` folders are named by what stands below them: #include "pkg/a.h" in include/pkg/a.h
    roots = sorted({path[: path.rindex("include/") + 7] for path in headers if "include/" in path} - set(folders))
    included = [f"-I{posixpath.join(root, folder) if folder else root}" for folder in [*folders, *roots][:MAX_INCLUDE_FOLDERS]]
    entries = []
    for path in files:
        suffix = posixpath.splitext(path)[1].lower()
        if suffix in _SOURCES:
            compiler = ["clang"] if suffix == ".c" else ["clang++", "-std=c++17"]
            full = posixpath.join(root, path)
            entries.append({"directory": root, "file": full, "arguments": [*compiler, *included, "-c", full]})
    return orjson.dumps(entries)


def _numbered_clangds() -> list[str]:
    """clangd-19, clangd-14 and so on, as Debian installs them beside each other; the newest first."""
    found = [path for folder in os.get_exec_path() for path in Path(folder).glob("clangd-[0-9]*")]
    return [
        str(path) for path in sorted(found, key=lambda path: -int(path.name.partition("-")[2] or 0)) if os.access(path, os.X_OK)
    ]
