"""A page in headless Chromium, driven over the DevTools protocol: what the browser tests and the viewer's benchmark use."""

import base64
import json
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect

CHROMIUM = next((found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None)
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--remote-debugging-port=0",
)
START_S = 60.0
ANSWER_S = 60.0
KEYS = {"Enter": 13, "Escape": 27}


class ChromiumError(RuntimeError):
    """The browser did not start, or a script in the page failed; one line says which."""


class ChromiumPage:
    """One tab. `requests`: URLs it asked for; `dialogs`: dialogs it opened; `errors`: uncaught errors and refused scripts."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket, self._next = socket, 0
        self.requests: list[str] = []
        self.dialogs: list[str] = []
        self.errors: list[str] = []
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.send(f"{domain}.enable")

    def send(self, method: str, **params: Any) -> dict[str, Any]:
        """The answer to one command; events that come before it are noted."""
        self._next += 1
        self._socket.send(json.dumps({"id": self._next, "method": method, "params": params}))
        ends = time.monotonic() + ANSWER_S
        while True:
            message = json.loads(self._socket.recv(timeout=max(ends - time.monotonic(), 0.01)))
            if message.get("id") == self._next:
                if "error" in message:
                    raise ChromiumError(f"{method}: {message['error'].get('message')}")
                answer: dict[str, Any] = message["result"]
                return answer
            self._note(message)

    def open(self, url: str) -> None:
        self.send("Page.navigate", url=url)

    def value(self, script: str) -> Any:
        """What an expression (or a promise) in the page gives, as plain data. Raises ChromiumError."""
        answer = self.send("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            details = answer["exceptionDetails"]
            raise ChromiumError(f"{script[:80]}: {details.get('exception', {}).get('description', details.get('text'))}"[:300])
        return answer["result"].get("value")

    def wait(self, script: str, timeout_s: float = 30.0) -> Any:
        """Ask until the expression gives something true; gives that. Raises ChromiumError after `timeout_s`."""
        ends = time.monotonic() + timeout_s
        while True:
            try:
                found = self.value(script)
            except ChromiumError:  # the page is being replaced
                found = None
            if found not in (None, False, 0, ""):  # an element comes as {}
                return found
            if time.monotonic() > ends:
                raise ChromiumError(f"not true within {timeout_s:g} s: {script[:200]}; errors: {self.errors[-3:]}")
            time.sleep(0.02)

    def press(self, key: str) -> None:
        """One key, as a person presses it."""
        plain = {"key": key, "windowsVirtualKeyCode": KEYS.get(key, ord(key[0].upper()))}
        text = {} if len(key) > 1 else {"text": key}
        if key == "Enter":
            text = {"text": "\r"}
        self.send("Input.dispatchKeyEvent", type="keyDown", **plain, **text)
        self.send("Input.dispatchKeyEvent", type="keyUp", **plain)

    def type(self, text: str) -> None:
        self.send("Input.insertText", text=text)

    def click(self, selector: str) -> None:
        """A real click in the middle of the first element that fits."""
        place = self.wait(
            f"(() => {{ const e = document.querySelector({json.dumps(selector)}); if (!e) return null; "
            "e.scrollIntoView({block: 'nearest'}); const b = e.getBoundingClientRect(); "
            "return [b.left + b.width / 2, b.top + b.height / 2]; })()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self.send("Input.dispatchMouseEvent", type=kind, x=place[0], y=place[1], button="left", clickCount=1)

    def screenshot(self, path: Path, width: int = 1440, height: int = 900, scheme: str = "light", scale: float = 1.0) -> None:
        """Write the visible part as PNG."""
        self.resize(width, height, scheme, scale)
        time.sleep(0.3)
        path.write_bytes(base64.b64decode(self.send("Page.captureScreenshot", format="png")["data"]))

    def resize(self, width: int, height: int, scheme: str = "light", scale: float = 1.0) -> None:
        self.send("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=scale, mobile=False)
        self.send("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def _note(self, message: dict[str, Any]) -> None:
        params = message.get("params", {})
        match message.get("method"):
            case "Network.requestWillBeSent":
                self.requests.append(params["request"]["url"])
            case "Page.javascriptDialogOpening":
                self.dialogs.append(params["message"])
                self._next += 1
                dismiss = {"id": self._next, "method": "Page.handleJavaScriptDialog", "params": {"accept": False}}
                self._socket.send(json.dumps(dismiss))
            case "Runtime.exceptionThrown":
                details = params["exceptionDetails"]
                self.errors.append(details.get("exception", {}).get("description", details["text"]))
            case "Log.entryAdded" if params["entry"]["level"] == "error":
                self.errors.append(params["entry"]["text"])


@contextmanager
def chromium_page() -> Iterator[ChromiumPage]:
    """A page of a fresh browser with an empty profile; both are gone afterwards. Raises ChromiumError."""
    if CHROMIUM is None:
        raise ChromiumError("no chromium is installed: apt-get install -y chromium")
    with tempfile.TemporaryDirectory(prefix="chromium-", ignore_cleanup_errors=True) as profile:
        command = [CHROMIUM, *FLAGS, f"--user-data-dir={profile}", "about:blank"]
        browser = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            port, _ = _port(browser, Path(profile) / "DevToolsActivePort")
            with connect(f"ws://127.0.0.1:{port}{_page_path(port)}", max_size=1 << 28, open_timeout=START_S) as socket:
                yield ChromiumPage(socket)
        finally:
            browser.terminate()
            try:
                browser.wait(10)
            except subprocess.TimeoutExpired:
                browser.kill()
                browser.wait(10)


def _port(browser: subprocess.Popen[bytes], file: Path) -> tuple[int, str]:
    ends = time.monotonic() + START_S
    while time.monotonic() < ends:
        if browser.poll() is not None:
            raise ChromiumError(f"{CHROMIUM} ended at once with {browser.returncode}")
        lines = file.read_text().splitlines() if file.is_file() else []
        if len(lines) >= 2:
            return int(lines[0]), lines[1]
        time.sleep(0.05)
    raise ChromiumError(f"{CHROMIUM} did not start within {START_S:g} s")


def _page_path(port: int) -> str:
    """The DevTools address of the browser's first tab."""
    import http.client

    ends = time.monotonic() + START_S
    while time.monotonic() < ends:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        connection.request("GET", "/json/list")
        pages = [page for page in json.loads(connection.getresponse().read()) if page["type"] == "page"]
        connection.close()
        if pages:
            return "/" + pages[0]["webSocketDebuggerUrl"].split("/", 3)[3]
        time.sleep(0.05)
    raise ChromiumError("the browser has no tab")
