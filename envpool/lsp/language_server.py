"""What a language server is to this program: which files it reads, how it is started, and what it needs to be told."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, Literal

from envpool.lsp.lsp_symbols import Symbol

Diagnostics = Literal["pull", "publish", "tsserver"]


@dataclass(frozen=True)
class Launch:
    """A command line on this machine. `folders` are those that it needs besides the system's own, all read-only;
    `environment` is added to the little that a server gets."""

    argv: tuple[str, ...]
    folders: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class LanguageServer:
    """One language. `suffixes` are its source files, `project_files` names of others that the server reads (shell patterns).

    `diagnostics`: pull (textDocument/diagnostic), publish (the server sends them, with the document's version or without), or
    tsserver's own request. `opens_changed_files`: the server does not look at closed files again, so a changed one is opened
    for it. `reads_closed_files`: it answers about closed files as they are on disk, and opening one costs it more than that.
    `saves`: suffixes of files of whose saving it is told, None for all. `restarts_on_delete`: it never forgets a deleted
    file. `waits_for_index`: it reports an index's progress, and its answers about the whole project are complete only after it.
    `relisted`: what it logs when it has listed the project's files again, some time after it was told that some came or went.
    """

    name: str
    title: str
    suffixes: tuple[str, ...]
    project_files: tuple[str, ...]
    install_hint: str
    language_ids: Mapping[str, str]
    diagnostics: Diagnostics = "publish"
    opens_changed_files: bool = False
    reads_closed_files: bool = False
    saves: tuple[str, ...] | None = None
    restarts_on_delete: bool = False
    waits_for_index: bool = False
    relisted: str = ""
    initialization_options: Mapping[str, Any] = field(default_factory=dict)
    configuration: Mapping[str, Any] = field(default_factory=dict)

    def launch(self, scratch: str, files: Sequence[str]) -> Launch | None:
        """How to start it here, None where it is not installed. `scratch` is its one writable folder, as it sees it; `files` are
        the project's, relative to its root."""
        raise NotImplementedError

    def prepared_files(self, files: Sequence[str], root: str) -> dict[str, bytes]:
        """What its scratch folder holds before it starts, from the project's files (relative) and root (absolute)."""
        return {}

    def enclosing_in_text(self, text: str, line: int) -> Symbol | None:
        """The function or class around a line (from 1) where the text alone tells it for certain, so that the file need not be
        opened; None: ask the server."""
        return None

    def reads(self, path: str) -> bool:
        """Whether a file is source of this language.

        >>> from envpool.language_servers import LANGUAGE_SERVERS
        >>> LANGUAGE_SERVERS["cpp"].reads("src/shape.HPP"), LANGUAGE_SERVERS["cpp"].reads("cpp")
        (True, False)
        """
        return PurePosixPath(path).suffix.lower() in self.suffixes

    def language_id(self, path: str) -> str:
        """The protocol's name of a file's language."""
        return self.language_ids.get(PurePosixPath(path).suffix.lower(), self.name)

    def section(self, name: str) -> Any:
        """A part of the configuration by its dotted name, None where there is none.

        >>> from envpool.language_servers import LANGUAGE_SERVERS
        >>> LANGUAGE_SERVERS["python"].section("basedpyright.analysis")["diagnosticMode"]
        'openFilesOnly'
        """
        found: Any = self.configuration
        for part in name.split(".") if name else []:
            if not isinstance(found, Mapping) or part not in found:
                return None
            found = found[part]
        return found
