"""A client of one running language server: requests with deadlines, its questions answered, its diagnostics kept."""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Protocol

from envpool.lsp.lsp_errors import LspRequestError, ServerBrokenError, ServerEndedError, ServerGarbageError, ServerTimeoutError
from envpool.lsp.lsp_messages import Message, MessageReader, encode_message

METHOD_NOT_FOUND = -32601
CONTENT_MODIFIED = (-32801, -32802)
"""Codes of `ContentModified` and `ServerCancelled`: the server asks for the same request again."""
MAX_REPEATS = 5
STDERR_BYTES = 2000
SEND_S = 10.0
_ACCEPTED = ("client/registerCapability", "client/unregisterCapability", "window/workDoneProgress/create")


class ServerStream(Protocol):
    """A running server: `read` is its stdout (b"" at the end), `read_control` its stderr, `write` its stdin."""

    async def read(self) -> bytes: ...
    async def read_control(self) -> bytes: ...
    async def write(self, data: bytes) -> None: ...
    async def end(self) -> int: ...


class LspClient:
    """Speaks to one server from `start` to `close`. A broken server fails every request, now and later, with one error.

    `diagnostics` holds the last list that was published for a URI, `published` how many lists have come for it.
    `busy` holds the server's unfinished reports of progress, `num_reports` how many it has begun; `num_counted` how many of
    its log messages held the text `counted`.
    """

    def __init__(self, stream: ServerStream, settings: Callable[[str], Any], counted: str = "") -> None:
        self._stream, self._settings, self._counted = stream, settings, counted
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._last_id = 0
        self._sending = asyncio.Lock()
        self._broken: ServerBrokenError | None = None
        self._stderr = b""
        self._tasks: list[asyncio.Task[None]] = []
        self._changed = asyncio.Event()
        self.diagnostics: dict[str, list[Any]] = {}
        self.versions: dict[str, int | None] = {}
        self.published: dict[str, int] = {}
        self.busy: dict[str, str] = {}
        self.num_reports = self.num_counted = 0

    @property
    def broken(self) -> ServerBrokenError | None:
        """Why the server can not be asked any more."""
        return self._broken

    def start(self) -> None:
        """Begin to listen; in the event loop."""
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self._listen()), loop.create_task(self._collect_stderr())]

    async def request(self, method: str, params: Mapping[str, Any] | None, timeout_s: float) -> Any:
        """The result. LspRequestError when the server says no; ServerBrokenError when it is gone, silent or talks nonsense.

        A request that missed its deadline leaves a server behind that may hang: the client is broken from then on.
        """
        try:
            async with asyncio.timeout(max(timeout_s, 0.0)):
                for _ in range(MAX_REPEATS):
                    answer = await self._request_once(method, params)
                    error = answer.get("error")
                    if error is None:
                        return answer.get("result")
                    code = error.get("code") if isinstance(error, dict) else None
                    if code not in CONTENT_MODIFIED:
                        break
        except TimeoutError as late:
            self._break(ServerTimeoutError(f"no answer to {method} within {timeout_s:.3g} s"))
            raise self._again() from late
        message = str(error.get("message", "")) if isinstance(error, dict) else str(error)
        raise LspRequestError(f"{method}: {' '.join(message.split())[:300]}")

    async def notify(self, method: str, params: Mapping[str, Any]) -> None:
        """Tell the server something. ServerBrokenError when it is gone or does not read for `SEND_S` seconds."""
        try:
            async with asyncio.timeout(SEND_S):
                await self._send({"method": method, "params": params})
        except TimeoutError as late:
            self._break(ServerTimeoutError(f"the server does not read {method} within {SEND_S:g} s"))
            raise self._again() from late

    async def wait_until(self, condition: Callable[[], bool], timeout_s: float) -> bool:
        """Whether the condition came true in time; looked at whenever the server has said something. ServerBrokenError."""
        try:
            async with asyncio.timeout(max(timeout_s, 0.0)):
                while not condition():
                    self._check()
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            return condition()
        return True

    async def close(self) -> None:
        """Kill the server and wait until it is gone. Idempotent."""
        self._break(ServerEndedError("the server was ended"))
        for task in self._tasks:
            task.cancel()
        await self._stream.end()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _request_once(self, method: str, params: Mapping[str, Any] | None) -> Message:
        self._check()
        self._last_id += 1
        number = self._last_id
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting[number] = answer
        try:
            message = {"id": number, "method": method}
            await self._send(message if params is None else {**message, "params": params})
            result: Message = await answer
            return result
        finally:
            self._waiting.pop(number, None)

    async def _send(self, message: Mapping[str, Any]) -> None:
        self._check()
        try:
            async with self._sending:  # a pipe takes a long message in pieces
                await self._stream.write(encode_message(message))
        except OSError as error:
            self._break(ServerEndedError(f"the server does not read any more: {error}"))
            raise self._again() from error

    async def _listen(self) -> None:
        reader = MessageReader()
        try:
            while data := await self._stream.read():
                for message in reader.feed(data):
                    await self._take(message)
                self._changed.set()
            await asyncio.sleep(0.05)  # what it says about its end comes over the other channel
            said = [line for line in self._stderr.decode("utf-8", "replace").splitlines() if "rror" in line]
            self._break(ServerEndedError(f"the server ended{': ' + said[0].strip()[:200] if said else ''}"))
        except ServerBrokenError as error:
            self._break(error)
        except (AttributeError, TypeError, KeyError, ValueError) as error:  # JSON of another form than the protocol's
            self._break(ServerGarbageError(f"a message of the wrong form: {error!r}"[:300]))
        except OSError as error:
            self._break(ServerEndedError(f"the server's output broke: {error}"))

    async def _collect_stderr(self) -> None:
        with suppress(OSError):
            while data := await self._stream.read_control():
                self._stderr = (self._stderr + data)[-STDERR_BYTES:]

    async def _take(self, message: Message) -> None:
        method = message.get("method")
        if method is None:
            answer = self._waiting.get(message["id"])
            if answer is not None and not answer.done():
                answer.set_result(message)
        elif "id" in message:
            await self._send({"id": message["id"], **self._answer(str(method), message.get("params"))})
        elif method == "textDocument/publishDiagnostics":
            params = message["params"]
            uri = str(params["uri"])
            self.diagnostics[uri] = list(params["diagnostics"])
            self.versions[uri] = params.get("version")
            self.published[uri] = self.published.get(uri, 0) + 1
        elif method == "window/logMessage" and self._counted:
            self.num_counted += self._counted in str(message["params"]["message"])
        elif method == "$/progress":
            self._note_progress(message["params"])

    def _answer(self, method: str, params: Any) -> Message:
        if method == "workspace/configuration":
            return {"result": [self._settings(str(item.get("section") or "")) for item in params["items"]]}
        if method == "workspace/workspaceFolders":
            return {"result": None}
        if method == "workspace/applyEdit":
            return {"result": {"applied": False}}
        if method in _ACCEPTED or method.endswith("/refresh"):
            return {"result": None}
        return {"error": {"code": METHOD_NOT_FOUND, "message": f"{method} is not supported"}}

    def _note_progress(self, params: Any) -> None:
        token, value = str(params["token"]), params["value"]
        kind = value.get("kind")
        if kind == "begin":
            self.num_reports += 1
            self.busy[token] = str(value.get("title", ""))
        elif kind == "end":
            self.busy.pop(token, None)

    def _check(self) -> None:
        if self._broken is not None:
            raise self._again()

    def _again(self) -> ServerBrokenError:
        assert self._broken is not None
        return type(self._broken)(str(self._broken))

    def _break(self, error: ServerBrokenError) -> None:
        if self._broken is None:
            self._broken = error
        for answer in self._waiting.values():
            if not answer.done():
                answer.set_exception(self._again())
        self._changed.set()
