"""What must not be possible in a sandbox, as one list that every isolating backend is put through."""

import os
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path

from envpool.sandbox import Sandbox
from tests.envpool.sandboxes.sandbox_faults import running_with, runs, unique_seconds, works

Proof = Callable[[Sandbox, Sandbox], Awaitable[None]]  # the sandbox under test, and another one

CONNECT = "import socket; socket.create_connection(({host!r}, {port}), 3)"
LOOKUP = "import socket; socket.getaddrinfo('pypi.org', 443)"
UNIX = "import socket; socket.socket(socket.AF_UNIX).connect({path!r})"
NEW_NAMESPACE = "import ctypes, os; r = ctypes.CDLL(None, use_errno=True).unshare(0x10000000); print(r)"  # CLONE_NEWUSER
SET_CLOCK = "import time; time.clock_settime(time.CLOCK_REALTIME, 1)"
SET_HOSTNAME = "import socket; socket.sethostname('owned')"
MAKE_DEVICE = "import os; os.mknod('/tmp/disk', 0o60600, os.makedev(8, 0))"

# Docker masks the first two; writing to the others asks for a capability, or sets an alarm for the writer only.
HARMLESS = {"/proc/keys", "/proc/timer_list", "/proc/mtrr", "/proc/pressure/io", "/proc/pressure/cpu", "/proc/pressure/memory"}


def has_argument(pid: int, argument: str) -> bool:
    try:
        return argument.encode() in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False


async def fails(sandbox: Sandbox, python: str, expected: str) -> None:
    result = await sandbox.run(f'python3 -c "{python}"', 30)
    assert result.exit_code == 1, (python, result)
    assert expected in result.output, (python, result)


async def no_way_out(sandbox: Sandbox, other: Sandbox) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:  # on this machine, so that the machine's own network plays no part
        await fails(sandbox, CONNECT.format(host="127.0.0.1", port=server.getsockname()[1]), "refused")
    await fails(sandbox, CONNECT.format(host="1.1.1.1", port=80), "unreachable")
    await fails(sandbox, LOOKUP, "gaierror")
    devices = await sandbox.run("tail -n +3 /proc/net/dev | cut -d: -f1 | tr -d ' '", 20)
    assert devices.output == "lo\n"
    assert len((await sandbox.run("cat /proc/net/route", 20)).output.splitlines()) <= 1


async def no_abstract_sockets(sandbox: Sandbox, other: Sandbox) -> None:
    name = f"swe-master-{os.getpid()}"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(f"\0{name}")
        server.listen()
        await fails(sandbox, UNIX.format(path=f"\\0{name}"), "refused")


async def no_host_files(sandbox: Sandbox, other: Sandbox) -> None:
    here = Path(__file__)
    for path in (here, here.parents[3] / "pyproject.toml"):
        for seen_from in ("", "/proc/1/root", "/proc/1/cwd", "/proc/self/root/../.."):
            assert (await sandbox.run(f"ls {seen_from}{path}", 20)).exit_code != 0


async def no_docker_socket(sandbox: Sandbox, other: Sandbox) -> None:
    found = await sandbox.run(
        "find / -xdev -name '*.sock' -type s 2>/dev/null; ls /var/run/docker.sock /run/docker.sock 2>&1", 60
    )
    assert "docker.sock'" in found.output.replace("docker.sock:", "docker.sock':")  # ls complains about both
    assert not [line for line in found.output.splitlines() if line.startswith("/")]


async def no_sight_of_others(sandbox: Sandbox, other: Sandbox) -> None:
    seconds = unique_seconds()
    await other.run(f"sleep {seconds} & echo private > /tmp/private; echo private > /dev/shm/private", 20)
    await runs(seconds)
    assert (await sandbox.run("cat /proc/[0-9]*/cmdline | tr '\\0' '\\n'", 20)).output.count(seconds) == 0
    pids = [int(name) for name in os.listdir("/proc") if name.isdigit() and has_argument(int(name), seconds)]
    kill = await sandbox.run(f"kill -9 {pids[0]}; kill -9 1", 20)
    assert "No such process" in kill.output
    assert len(running_with(seconds)) == 1, "a signal reached another sandbox"
    await works(other)
    await works(sandbox)
    assert (await sandbox.run("ls /tmp/private /dev/shm/private", 20)).exit_code != 0
    await other.run("kill %1", 20)


async def no_privilege(sandbox: Sandbox, other: Sandbox) -> None:
    status = (await sandbox.run("grep -E 'Cap(Inh|Prm|Eff|Bnd|Amb)|NoNewPrivs' /proc/self/status", 20)).output
    values = dict(line.split(":\t") for line in status.splitlines())
    assert values.pop("NoNewPrivs") == "1"
    assert set(values.values()) == {"0000000000000000"}, values
    await fails(sandbox, MAKE_DEVICE, "Operation not permitted")
    await fails(sandbox, SET_CLOCK, "Operation not permitted")
    await fails(sandbox, SET_HOSTNAME, "Operation not permitted")
    assert (await sandbox.run("mount -t tmpfs none /mnt", 20)).exit_code != 0
    assert (await sandbox.run("chroot / true", 20)).exit_code != 0
    # Asked, not tried: a write that succeeds would change this machine.
    knobs = await sandbox.run("find /proc /sys -path '/proc/[0-9]*' -prune -o -type f -writable -print 2>/dev/null", 60)
    assert set(knobs.output.split()) <= HARMLESS
    assert (await sandbox.run(f'python3 -c "{NEW_NAMESPACE}"', 20)).output == "-1\n", "a user namespace could be made"


async def hardly_anything_writable(sandbox: Sandbox, other: Sandbox) -> None:
    await sandbox.run("touch mine /tmp/mine /dev/shm/mine", 20)
    assert (await sandbox.run("ls mine /tmp/mine /dev/shm/mine", 20)).exit_code == 0
    assert (await sandbox.run("echo x > /proc/1/oom_score_adj; echo -1000 > /proc/self/oom_score_adj", 20)).exit_code != 0


async def memory_is_bounded(sandbox: Sandbox, other: Sandbox) -> None:
    """The fixture's sandboxes have 256 MiB."""
    result = await sandbox.run("python3 -c 'x = bytearray(10**9)'", 60)
    assert result.exit_code in (1, 137), result  # MemoryError where a process's own memory is bounded as well
    split = "for i in 1 2 3 4; do python3 -c 'import time; x = bytearray(150 * 2**20); time.sleep(2)' & done; wait; echo done"
    killed = await sandbox.run(f"({split}) 2>&1 | grep -c Killed", 60)
    assert killed.timed_out is False
    await works(sandbox)


async def shm_is_bounded(sandbox: Sandbox, other: Sandbox) -> None:
    result = await sandbox.run("(for n in 1 2 3 4; do head -c 20000000 /dev/zero > /dev/shm/full$n || exit 1; done)", 60)
    assert (result.exit_code, "No space left" in result.output) == (1, True)
    await works(sandbox)
    assert (await sandbox.run("rm /dev/shm/full*; echo x > /dev/shm/again; cat /dev/shm/again", 20)).output == "x\n"


async def processes_are_bounded(sandbox: Sandbox, other: Sandbox) -> None:
    """The fixture's sandboxes have 64 processes."""
    seconds = unique_seconds()
    bomb = await sandbox.run(f"bomb() {{ sleep {seconds} & bomb | bomb & }}; bomb; sleep {seconds}", 2)
    assert bomb.exit_code != 0
    assert len(running_with(seconds)) <= 64
    await sandbox.run("true", 30)
    await works(sandbox)
    await works(other)


async def one_file_is_bounded(sandbox: Sandbox, other: Sandbox) -> None:
    """The fixture's sandboxes have 32 MiB."""
    result = await sandbox.run("(head -c 100000000 /dev/zero > large); wc -c < large", 60)
    assert int(result.output.split()[-1]) <= 32 << 20
    await works(sandbox)


PROOFS: dict[str, Proof] = {
    proof.__name__: proof
    for proof in (
        no_way_out,
        no_abstract_sockets,
        no_host_files,
        no_docker_socket,
        no_sight_of_others,
        no_privilege,
        hardly_anything_writable,
        memory_is_bounded,
        shm_is_bounded,
        processes_are_bounded,
        one_file_is_bounded,
    )
}
