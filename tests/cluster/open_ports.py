"""Which ports this process and its children listen on, and what they say to somebody without a token."""

import http.client
import os
import socket
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import grpc

from envpool.sandbox_parts.process_tree import descendants, live_processes

LISTEN = "0A"
CALLS = (
    "NodeInfoGcsService/GetClusterId",  # the head's control service
    "NodeManagerService/GetNodeStats",  # raylet
    "ObjectManagerService/Pull",  # object store
    "CoreWorkerService/GetCoreWorkerStats",  # drivers and actors
    "ReporterService/GetTraceback",  # agent, where metrics are collected
    "LogService/ListLogs",  # agent
)
"""One call that each kind of Ray server knows."""


@dataclass(frozen=True)
class ListeningPort:
    """A TCP port; `host` is an address it answers on."""

    host: str
    number: int
    loopback: bool


def listening_ports() -> list[ListeningPort]:
    """TCP ports of this process and its descendants."""
    ours = _socket_inodes([os.getpid(), *(process.pid for process in descendants(os.getpid(), live_processes()))])
    found = []
    for family in (socket.AF_INET, socket.AF_INET6):
        table = Path("/proc/net", "tcp" if family == socket.AF_INET else "tcp6").read_text().splitlines()[1:]
        for fields in map(str.split, table):
            if fields[3] == LISTEN and fields[9] in ours:
                address, _, number = fields[1].partition(":")
                found.append(_port(family, address, int(number, 16)))
    return found


def answer(port: ListeningPort, token: str = "") -> str:
    """The status of an HTTP request, or of a gRPC call where the port speaks that: `401`, `UNAUTHENTICATED`, `OK`, ..."""
    headers = {"authorization": f"Bearer {token}"} if token else {}
    connection = http.client.HTTPConnection(port.host, port.number, timeout=10)
    try:
        connection.request("GET", "/metrics", headers=headers)
        return str(connection.getresponse().status)
    except (http.client.HTTPException, OSError):
        return _grpc_status(port, tuple(headers.items()))
    finally:
        connection.close()


def _grpc_status(port: ListeningPort, metadata: tuple[tuple[str, str], ...]) -> str:
    """Of the first call that the server knows."""
    with grpc.insecure_channel(f"{port.host}:{port.number}") as channel:
        for name in CALLS:
            try:
                channel.unary_unary(f"/ray.rpc.{name}", bytes, bytes)(b"", timeout=20, metadata=metadata)
            except grpc.RpcError as error:
                if error.code() is grpc.StatusCode.UNIMPLEMENTED:
                    continue
                return str(error.code().name)
            return "OK"
    return "no known call"


def _socket_inodes(pids: list[int]) -> set[str]:
    inodes = set()
    for pid in pids:
        with suppress(OSError):
            for link in Path(f"/proc/{pid}/fd").iterdir():
                with suppress(OSError):
                    target = os.readlink(link)
                    if target.startswith("socket:["):
                        inodes.add(target[8:-1])
    return inodes


def _port(family: int, address: str, number: int) -> ListeningPort:
    words = [bytes.fromhex(address[start : start + 8])[::-1] for start in range(0, len(address), 8)]
    host = socket.inet_ntop(family, b"".join(words))
    loopback = host.startswith(("127.", "::ffff:127.")) or host == "::1"
    return ListeningPort("127.0.0.1" if host in ("0.0.0.0", "::") else host, number, loopback)
