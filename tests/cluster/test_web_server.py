"""Who may ask the viewer's server, what it answers, and with which headers."""

import http.client
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cluster.viewer.viewer_answers import RunLibrary
from cluster.viewer.web_server import ViewerServer, is_loopback, open_server
from tests.cluster.viewer_runs import write_run


@contextmanager
def serving(path: Path, host: str = "127.0.0.1") -> Iterator[ViewerServer]:
    server = ViewerServer(RunLibrary(path), host, 0)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join(20)


def get(server: ViewerServer, path: str, method: str = "GET", **headers: str) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_address[1], timeout=30)
    connection.request(method, path, headers=headers)
    response = connection.getresponse()
    body = response.read()
    connection.close()
    return response.status, dict(response.headers), body


def test_pages_answers_and_search(tmp_path: Path) -> None:
    with serving(write_run(tmp_path / "run")) as server:
        status, headers, body = get(server, "/")
        assert (status, b"viewer_app.js" in body) == (200, True)
        assert headers["Content-Security-Policy"].startswith("default-src 'self'")
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert get(server, "/static/viewer.css")[0] == 200
        assert json.loads(get(server, "/api/trajectory/run/grpo/shard_00000/2")[2])["sample_index"] == 0
        lines = [json.loads(line) for line in get(server, "/api/search/run?q=beta")[2].splitlines()]
        assert [line["hit"]["row"] for line in lines if "hit" in line] == [2]
        assert lines[-1]["searched"] == 6
        only = [json.loads(line) for line in get(server, "/api/search/run?q=beta&stages=rollout")[2].splitlines()]
        assert (only[-1]["searched"], only[-1]["hits"]) == (3, 0)
        status, headers, _ = get(server, "/static/viewer.css", **{"Accept-Encoding": "gzip"})
        assert (status, headers.get("Content-Encoding")) == (200, "gzip")


@pytest.mark.parametrize(
    "path",
    ["/static/../web_server.py", "/static/%2e%2e%2fweb_server.py", "/../../etc/passwd", "/api/trajectory/run/..%2f..%2fstages/0",
     "/api/run/%2e%2e", "/report/run", "/api/nothing", "/static/"],
)  # fmt: skip
def test_no_request_names_a_file(tmp_path: Path, path: str) -> None:
    with serving(write_run(tmp_path / "run")) as server:
        assert get(server, path)[0] == 404


def test_only_get(tmp_path: Path) -> None:
    with serving(write_run(tmp_path / "run")) as server:
        assert [get(server, "/api/runs", method)[0] for method in ("POST", "PUT", "DELETE")] == [501, 501, 501]
        assert get(server, "/api/search/run")[0] == 422


def test_another_host_name_is_refused_on_loopback(tmp_path: Path) -> None:
    with serving(write_run(tmp_path / "run")) as server:
        port = server.server_address[1]
        assert get(server, "/api/runs", Host=f"evil.example:{port}")[0] == 403
        assert get(server, "/api/runs", Host=f"localhost:{port}")[0] == 200
        assert server.link == f"http://127.0.0.1:{port}/"


def test_elsewhere_the_token_is_needed_and_becomes_a_cookie(tmp_path: Path) -> None:
    with serving(write_run(tmp_path / "run"), "0.0.0.0") as server:
        token = server.access.token
        assert len(token) >= 32
        assert token in server.link
        assert get(server, "/api/runs")[0] == 401
        assert get(server, "/static/viewer.css")[0] == 401
        assert get(server, "/?token=wrong")[0] == 401
        status, headers, _ = get(server, f"/?token={token}")
        assert (status, headers["Location"]) == (303, "/")
        assert "HttpOnly" in headers["Set-Cookie"]
        cookie = headers["Set-Cookie"].split(";")[0]
        assert get(server, "/api/runs", Cookie=cookie)[0] == 200
        assert get(server, "/api/runs", Cookie=cookie[:-1] + "~")[0] == 401


def test_a_taken_port_is_replaced(tmp_path: Path) -> None:
    with serving(write_run(tmp_path / "run")) as server:
        other, moved = open_server(server.library, "127.0.0.1", server.server_address[1])
        other.server_close()
        assert moved
        assert [is_loopback(host) for host in ("127.0.0.2", "localhost", "::1", "0.0.0.0", "example.org")] == [
            True,
            True,
            True,
            False,
            False,
        ]


def test_the_pages_never_make_markup_of_text() -> None:
    static = Path(__file__).parents[2] / "cluster" / "viewer" / "static"
    script = "\n".join(path.read_text() for path in sorted(static.glob("*.js")))
    for word in (
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "document.write",
        "eval(",
        "new Function",
        "srcdoc",
        "DOMParser",
    ):
        assert word not in script
    page = "\n".join(path.read_text() for path in static.iterdir() if path.suffix in (".js", ".css", ".html"))
    assert page.replace("http://www.w3.org/2000/svg", "").count("://") == 0
