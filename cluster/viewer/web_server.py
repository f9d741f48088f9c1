"""The viewer over HTTP: static files, the report, JSON and streamed search. Reads only, and only for who may ask.

On a loopback address requests must name that address as their host (no DNS rebinding); on any other the session's token is
needed, once in the link and then as a cookie.
"""

import errno
import gzip
import ipaddress
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from http import HTTPStatus
from http.cookies import CookieError, SimpleCookie
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import orjson

from cluster.viewer.text_search import SearchLimits, search
from cluster.viewer.viewer_answers import AnswerError, RunLibrary

STATIC = Path(__file__).parent / "static"
CONTENT_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
PAGE_POLICY = "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
REPORT_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; sandbox"
)
"""report.html brings its styles along and has no script."""
COMPRESS_FROM = 2048
LONGEST_QUERY = 500
JSON_OPTIONS = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS


@dataclass(frozen=True)
class Access:
    """Who may ask. `hosts` are the accepted Host headers when `token` is ""; with a token any host name will do."""

    hosts: frozenset[str]
    token: str


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a server bound to `host`.

    >>> is_loopback("127.0.0.1"), is_loopback("0.0.0.0")
    (True, False)
    """
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class ViewerServer(ThreadingHTTPServer):
    """Serves a library on (host, port); port 0 takes a free one. `link` is what to open. Raises OSError."""

    daemon_threads = True

    def __init__(self, library: RunLibrary, host: str, port: int, limits: SearchLimits = SearchLimits()) -> None:  # noqa: B008
        super().__init__((host, port), ViewerHandler)
        self.library, self.limits = library, limits
        self.static = {path.name: path.read_bytes() for path in STATIC.iterdir() if path.suffix in CONTENT_TYPES}
        bound = self.server_address[1]
        names = {"localhost", "127.0.0.1", host}
        token = "" if is_loopback(host) else secrets.token_urlsafe(24)
        self.access = Access(frozenset(f"{name}:{bound}" for name in names), token)
        self.cookie = f"swe_master_viewer_{bound}"
        self.link = f"http://{host}:{bound}/" + (f"?token={token}" if token else "")


def open_server(library: RunLibrary, host: str, port: int) -> tuple[ViewerServer, bool]:
    """A server on (host, port), or on a free port when that one is taken (then the second value is True). Raises OSError."""
    try:
        return ViewerServer(library, host, port), False
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        return ViewerServer(library, host, 0), True


class ViewerHandler(BaseHTTPRequestHandler):
    """GET only; every other method is refused by the base class with 501."""

    server: ViewerServer
    protocol_version = "HTTP/1.1"
    server_version = "swe-master"
    sys_version = ""
    timeout = 60

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        words = [unquote(word) for word in parts.path.split("/") if word]
        try:
            if self._admit(query):
                self._route(words, query)
        except AnswerError as error:
            self._json({"error": str(error)}, error.status)
        except (BrokenPipeError, ConnectionResetError, TimeoutError):
            self.close_connection = True

    def _admit(self, query: dict[str, str]) -> bool:
        """Answers and returns False unless this request may be served."""
        access = self.server.access
        if not access.token:
            if self.headers.get("Host", "") in access.hosts:
                return True
            self._send(b"unknown host name: open the link that swe-master view printed\n", "text/plain", HTTPStatus.FORBIDDEN)
            return False
        if secrets.compare_digest(self._cookie().encode(), access.token.encode()):
            return True
        if secrets.compare_digest(query.get("token", "").encode(), access.token.encode()):
            self.send_response(HTTPStatus.SEE_OTHER)
            self.send_header("Location", "/")
            self.send_header("Set-Cookie", f"{self.server.cookie}={access.token}; HttpOnly; SameSite=Lax; Path=/")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return False
        message = b"this viewer needs its token: open the link that swe-master view printed\n"
        self._send(message, "text/plain", HTTPStatus.UNAUTHORIZED)
        return False

    def _cookie(self) -> str:
        try:
            found = SimpleCookie(self.headers.get("Cookie", "")).get(self.server.cookie)
        except CookieError:
            return ""
        return found.value if found is not None else ""

    def _route(self, words: list[str], query: dict[str, str]) -> None:
        match words:
            case []:
                self._static("index.html")
            case ["static", name]:
                self._static(name)
            case ["report", name]:
                page = self.server.library.run(name).root / "report.html"
                if not page.is_file():
                    raise AnswerError(f"{name} has no report.html")
                self._send(page.read_bytes(), CONTENT_TYPES[".html"], policy=REPORT_POLICY)
            case ["api", "search", name]:
                self._search(name, query)
            case ["api", *path]:
                self._json(self.server.library.answer(path))
            case _:
                raise AnswerError(f"nothing at {'/'.join(words)}")

    def _static(self, name: str) -> None:
        if name not in self.server.static:
            raise AnswerError(f"no file {name}")
        self._send(self.server.static[name], CONTENT_TYPES[Path(name).suffix])

    def _json(self, value: Any, status: int = HTTPStatus.OK) -> None:
        self._send(orjson.dumps(value, option=JSON_OPTIONS), "application/json", status)

    def _search(self, name: str, query: dict[str, str]) -> None:
        """One JSON object a line as `text_search.search` yields them, each sent when it is there."""
        needle, stages = query.get("q", ""), set(filter(None, query.get("stages", "").split(",")))
        if not needle or len(needle) > LONGEST_QUERY:
            raise AnswerError(f"a search needs 1 to {LONGEST_QUERY} characters", 422)
        index = self.server.library.run(name).index
        shards = [
            (shard, index.shard_path(shard)) for shard in index.shards() if not stages or shard.rpartition("/")[0] in stages
        ]
        self.send_response(HTTPStatus.OK)
        self._headers("application/x-ndjson", PAGE_POLICY)
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        self._stream(search(shards, needle, self.server.limits))

    def _stream(self, lines: Iterator[dict[str, Any]]) -> None:
        for line in lines:
            self.wfile.write(orjson.dumps(line) + b"\n")
            self.wfile.flush()

    def _send(self, body: bytes, kind: str, status: int = HTTPStatus.OK, policy: str = PAGE_POLICY) -> None:
        self.send_response(status)
        if len(body) >= COMPRESS_FROM and "gzip" in self.headers.get("Accept-Encoding", ""):
            body = gzip.compress(body, 1)
            self.send_header("Content-Encoding", "gzip")
        self._headers(kind, policy)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _headers(self, kind: str, policy: str) -> None:
        self.send_header("Content-Type", kind)
        self.send_header("Content-Security-Policy", policy)
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Referrer-Policy", "no-referrer")
        self.send_header("Cross-Origin-Resource-Policy", "same-origin")
        self.send_header("Cache-Control", "no-store")

    def log_message(self, format: str, *args: Any) -> None:
        """Requests are not logged: the terminal keeps the link, and a token never reaches a log."""
