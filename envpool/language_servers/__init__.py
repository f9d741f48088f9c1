"""Which servers answer for which language. To add one: write `<language>_server.py` with a frozen subclass of
envpool.lsp.language_server.LanguageServer that says how it is started, and add its line below; then a small real project and its
line in tests/envpool/lsp/lsp_projects.py, and what installs the server in cluster/images/language_servers.sh."""

from envpool.language_servers.cpp_server import CppServer
from envpool.language_servers.go_server import GoServer
from envpool.language_servers.python_server import PythonServer
from envpool.language_servers.typescript_server import TypeScriptServer
from envpool.lsp.language_server import LanguageServer

LANGUAGE_SERVERS: dict[str, LanguageServer] = {
    server.name: server for server in (PythonServer(), TypeScriptServer(), CppServer(), GoServer())
}


def select_servers(names: tuple[str, ...]) -> tuple[LanguageServer, ...]:
    """The named servers. Raises ValueError for an unknown name."""
    unknown = [name for name in names if name not in LANGUAGE_SERVERS]
    if unknown:
        raise ValueError(f"no language server for {unknown[0]!r} (lsp.servers); known: {', '.join(LANGUAGE_SERVERS)}")
    return tuple(LANGUAGE_SERVERS[name] for name in names)
