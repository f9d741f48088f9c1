"""The language servers behind lsp_tool."""

from dataclasses import dataclass


@dataclass(frozen=True)
class LspConfig:
    servers: tuple[str, ...] = ("python", "typescript", "cpp", "go")
    """Languages that are answered for, names of envpool.language_servers.LANGUAGE_SERVERS; at least one must be installed."""
    isolation: str = "bubblewrap"
    """bubblewrap (an episode that offers lsp_tool is refused where it cannot run), or none: servers run as this user with
    the network and all files in reach, which is for repositories that you trust."""
    start_timeout_s: float = 30.0
    """From starting a server to its answer to `initialize`; a call's own limit may be shorter."""
    memory_mib: int = 3072
    """A server whose processes together hold more resident memory is killed; the next call starts it again."""
    max_restarts: int = 3
    """A server that ended more often in one episode stays off."""
    max_files: int = 20_000
    """Source files that servers are shown; of a larger repository the ones nearest to its root."""
    max_file_kib: int = 1024
    """Larger files are not shown to the servers."""
    max_mirror_mib: int = 256
    """All files that servers are shown, together."""
