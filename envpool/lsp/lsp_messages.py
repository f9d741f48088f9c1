"""Messages of the language server protocol on a byte stream: a header with the length, then JSON (LSP 3.17, base protocol)."""

import re
from collections.abc import Mapping
from typing import Any

import orjson

from envpool.lsp.lsp_errors import ServerGarbageError

MAX_HEADER_BYTES = 4096
MAX_MESSAGE_BYTES = 64 << 20
_LENGTH = re.compile(rb"(?:^|\r\n)content-length:[ \t]*([0-9]{1,10})[ \t]*(?:\r\n|$)", re.IGNORECASE)

Message = dict[str, Any]


def encode_message(message: Mapping[str, Any]) -> bytes:
    r"""
    >>> encode_message({"id": 1})
    b'Content-Length: 24\r\n\r\n{"jsonrpc":"2.0","id":1}'
    """
    body = orjson.dumps({"jsonrpc": "2.0", **message})
    return b"Content-Length: %d\r\n\r\n%s" % (len(body), body)


class MessageReader:
    r"""Cuts a stream into messages, however its bytes arrive.

    >>> reader = MessageReader()
    >>> reader.feed(b'Content-Length: 8\r\n\r\n{"id"'), reader.feed(b':1}')
    ([], [{'id': 1}])
    """

    def __init__(self, max_message_bytes: int = MAX_MESSAGE_BYTES) -> None:
        self._pending = bytearray()
        self._length: int | None = None
        self._max_message_bytes = max_message_bytes

    def feed(self, data: bytes) -> list[Message]:
        """The messages that are complete now. ServerGarbageError for anything else: the stream cannot be read on then."""
        self._pending += data
        messages: list[Message] = []
        while True:
            if self._length is None and not self._read_header():
                return messages
            assert self._length is not None
            if len(self._pending) < self._length:
                return messages
            body = bytes(self._pending[: self._length])
            del self._pending[: self._length]
            self._length = None
            messages.append(_parsed(body))

    def _read_header(self) -> bool:
        end = self._pending.find(b"\r\n\r\n", 0, MAX_HEADER_BYTES + 4)
        if end < 0:
            if len(self._pending) > MAX_HEADER_BYTES:
                raise ServerGarbageError(f"no header in {len(self._pending)} bytes: {bytes(self._pending[:80])!r}")
            return False
        header = bytes(self._pending[:end])
        found = _LENGTH.search(header)
        if found is None:
            raise ServerGarbageError(f"a header without Content-Length: {header[:80]!r}")
        length = int(found[1])
        if length > self._max_message_bytes:
            raise ServerGarbageError(f"a message of {length} bytes, over the limit of {self._max_message_bytes}")
        del self._pending[: end + 4]
        self._length = length
        return True


def _parsed(body: bytes) -> Message:
    try:
        message = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise ServerGarbageError(f"a message that is not JSON ({error}): {body[:80]!r}") from error
    if not isinstance(message, dict):
        raise ServerGarbageError(f"a message that is not an object: {body[:80]!r}")
    return message
