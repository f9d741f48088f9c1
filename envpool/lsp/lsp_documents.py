"""The files that a language server has been told of: opened, changed, saved, closed; full texts only."""

from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import quote, unquote, urlsplit

from envpool.lsp.language_server import LanguageServer
from envpool.lsp.lsp_client import LspClient
from envpool.lsp.lsp_errors import LspRefusalError
from envpool.lsp.mirror_folder import MirrorFolder
from envpool.lsp.sandbox_mirror import Changes

MAX_OPEN = 32
MAX_PINNED = 64
"""More changed files than that at once, for a server that must have them open: it is started afresh instead."""
CREATED, EDITED, DELETED = 1, 2, 3


@dataclass
class _Document:
    text: str
    version: int
    pinned: bool


class LspDocuments:
    """`root` is the project's folder as the server sees it, `folder` the same one for us."""

    def __init__(self, server: LanguageServer, client: LspClient, folder: MirrorFolder, root: str, max_bytes: int) -> None:
        self._server, self._client, self._folder, self._root, self._max_bytes = server, client, folder, root, max_bytes
        self._open: dict[str, _Document] = {}
        self._last_version = 0

    @property
    def open_paths(self) -> list[str]:
        return list(self._open)

    def full_path(self, path: str) -> str:
        """As the server sees it."""
        return f"{self._root}/{path}"

    def uri(self, path: str) -> str:
        return file_uri(self.full_path(path))

    def path(self, uri: str) -> str:
        """A file of the project by its relative path, any other by its absolute one."""
        full = uri_path(uri)
        return full.removeprefix(f"{self._root}/") if full.startswith(f"{self._root}/") else full

    async def open(self, path: str) -> str:
        """The file's text; the server has it open from now on. LspRefusalError when it cannot be read."""
        document = self._open.pop(path, None)
        if document is None:
            document = _Document(self._text(path), self._next_version(), pinned=False)
            item = {"languageId": self._server.language_id(path), "version": document.version, "text": document.text}
            await self._client.notify("textDocument/didOpen", {"textDocument": {"uri": self.uri(path), **item}})
        self._open[path] = document  # the last one is the one used last
        idle = [known for known, document in self._open.items() if not document.pinned]
        for known in idle[: max(len(idle) - MAX_OPEN, 0)]:
            await self._close(known)
        return document.text

    async def shown(self, path: str) -> str:
        """The file's text, which the server can be asked about from now on: opened for it, unless it reads closed files."""
        if self._server.reads_closed_files and path not in self._open:
            return self._text(path)
        return await self.open(path)

    async def nudge(self, path: str) -> int:
        """Send an open file with one more line end, so that the server looks at it again; the version of that text. What has
        not changed a server need not look at. `restore` must follow."""
        text = self._open[path].text
        await self._change(path, f"{text}\n")
        self._open[path].text = text
        return self._open[path].version

    async def restore(self, path: str) -> None:
        """Send the file's text as it is."""
        await self._change(path, self._open[path].text)

    async def tell(self, changes: Changes, files: set[str]) -> bool:
        """Tell the server what changed. False: it must be started afresh to know it. `files` are all that exist."""
        source = [path for path in changes.present if path in files and self._server.reads(path)]
        if self._server.restarts_on_delete and any(self._server.reads(path) for path in changes.deleted):
            return False
        if self._server.opens_changed_files and len({*source, *self._pinned()}) > MAX_PINNED:
            return False
        for path in changes.deleted:
            if path in self._open:
                await self._close(path)
        kinds = ((changes.created, CREATED), (changes.edited, EDITED), (changes.deleted, DELETED))
        events = [{"uri": self.uri(path), "type": kind} for paths, kind in kinds for path in paths]
        await self._client.notify("workspace/didChangeWatchedFiles", {"changes": events})
        for path in source:
            try:
                await self._tell_contents(path)
            except LspRefusalError:  # it cannot be read any more
                if path in self._open:
                    await self._close(path)
        return True

    async def _tell_contents(self, path: str) -> None:
        if path in self._open:
            await self._change(path, self._text(path))
        elif self._server.opens_changed_files:
            await self.open(path)
        else:
            return
        self._open[path].pinned = self._open[path].pinned or self._server.opens_changed_files
        if self._server.saves is None or path.lower().endswith(self._server.saves):
            await self._client.notify("textDocument/didSave", {"textDocument": {"uri": self.uri(path)}})

    async def _change(self, path: str, text: str) -> None:
        document = self._open[path]
        document.text, document.version = text, self._next_version()
        named = {"uri": self.uri(path), "version": document.version}
        await self._client.notify("textDocument/didChange", {"textDocument": named, "contentChanges": [{"text": text}]})

    async def _close(self, path: str) -> None:
        del self._open[path]
        await self._client.notify("textDocument/didClose", {"textDocument": {"uri": self.uri(path)}})

    def _text(self, path: str) -> str:
        try:
            return self._folder.read(path, self._max_bytes).decode("utf-8", "replace")
        except OSError as error:
            raise LspRefusalError(f"{path} cannot be read: {(error.strerror or str(error)).lower()}") from error

    def _next_version(self) -> int:
        self._last_version += 1
        return self._last_version

    def _pinned(self) -> Iterable[str]:
        return (path for path, document in self._open.items() if document.pinned)


def file_uri(path: str) -> str:
    """
    >>> file_uri("/testbed/a b/ü.py")
    'file:///testbed/a%20b/%C3%BC.py'
    """
    return f"file://{quote(path)}"


def uri_path(uri: str) -> str:
    """
    >>> uri_path("file:///testbed/a%20b.py"), uri_path("untitled:x")
    ('/testbed/a b.py', 'untitled:x')
    """
    try:
        parts = urlsplit(uri)
    except ValueError:
        return uri
    return unquote(parts.path) if parts.scheme == "file" else uri
