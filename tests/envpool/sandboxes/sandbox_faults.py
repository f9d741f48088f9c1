"""What a command can do to its sandbox, as one list that every backend is put through, and how to see what was left."""

import asyncio
import os
import uuid
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

from envpool.sandbox import Sandbox

Check = Callable[[Sandbox], Awaitable[None]]


def unique_seconds() -> str:
    """An argument for sleep that no other process has, so that a leftover can be found."""
    return f"600.{uuid.uuid4().int % 10**15:015d}"


def running_with(argument: str) -> list[str]:
    """Command lines on this machine that contain `argument` (containers' and namespaces' processes are among them)."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and int(folder.name) != os.getpid():
            with suppress(OSError):
                words = (folder / "cmdline").read_bytes().split(b"\0")
                if argument.encode() in words:
                    found.append(" ".join(word.decode() for word in words))
    return found


async def runs(argument: str, count: int = 1) -> None:
    """Wait until `count` processes with the argument are there: a background command is forked before it is executed."""
    async with asyncio.timeout(20):
        while len(running_with(argument)) != count:  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def works(sandbox: Sandbox) -> None:
    """A shell may first report, as a terminal's does, which of its background jobs were killed since the last command."""
    result = await sandbox.run("echo works", 20)
    assert (result.exit_code, result.output[-6:], result.timed_out) == (0, "works\n", False), result


async def hung(sandbox: Sandbox) -> None:
    seconds = unique_seconds()
    await sandbox.run("kept=yes; cd pkg", 20)
    result = await sandbox.run(f"echo before; sleep {seconds}", 3)  # a busy machine takes a while for the first word
    assert (result.exit_code, result.timed_out) == (124, True)
    assert result.output.startswith("before\n")
    assert running_with(seconds) == []
    assert (await sandbox.run('echo "$kept"; pwd', 20)).output == "yes\n/testbed/pkg\n"


async def hung_compound(sandbox: Sandbox) -> None:
    seconds = unique_seconds()
    result = await sandbox.run(f"cd pkg && trap '' TERM && sleep {seconds}", 0.5)
    assert result.timed_out
    assert running_with(seconds) == []


async def setsid_escape(sandbox: Sandbox) -> None:
    seconds = unique_seconds()
    result = await sandbox.run(f"(setsid setsid sleep {seconds} >/dev/null 2>&1 &); sleep {seconds}", 0.5)
    assert result.timed_out
    assert running_with(seconds) == []


async def busy_shell(sandbox: Sandbox) -> None:
    await sandbox.run("cd pkg", 20)
    result = await sandbox.run("while :; do :; done", 0.5)
    assert (result.exit_code, result.timed_out) == (124, True)
    assert (await sandbox.run("pwd", 20)).output == "/testbed/pkg\n"


async def background_child(sandbox: Sandbox) -> None:
    seconds = unique_seconds()
    result = await sandbox.run(f"sleep {seconds} & echo started", 20)
    assert (result.exit_code, result.output, result.timed_out) == (0, "started\n", False)
    noisy = await sandbox.run("(while echo noise; do sleep 0.02; done) & noise=$!; echo first", 20)
    assert set(noisy.output.splitlines()) <= {"first", "noise"}
    assert "first\n" in noisy.output
    stop = '{ kill "$noise"; wait "$noise"; } 2>/dev/null'
    later = await sandbox.run(f"sleep 0.3; {stop}; echo second", 20)  # what comes meanwhile is shown, as a terminal would
    assert set(later.output.splitlines()) == {"noise", "second"}, later
    await runs(seconds)


async def exit_in_shell(sandbox: Sandbox) -> None:
    result = await sandbox.run("cd pkg; echo last words; exit 3", 20)
    assert (result.exit_code, result.output, result.timed_out) == (3, "last words\n", False)
    assert (await sandbox.run("pwd", 20)).output == "/testbed/pkg\n"
    assert (await sandbox.run("set -e; false; echo never", 20)).exit_code == 1


async def killed_shell(sandbox: Sandbox) -> None:
    assert (await sandbox.run("kill -9 $$", 20)).exit_code == 137


async def replaced_shell(sandbox: Sandbox) -> None:
    result = await sandbox.run("exec sh -c 'echo other; exit 5'", 20)
    assert (result.exit_code, result.output) == (5, "other\n")


async def closed_descriptors(sandbox: Sandbox) -> None:
    assert (await sandbox.run("exec >/dev/null 2>&1; echo lost", 20)).timed_out is False
    hello = await sandbox.run("exec 9>&- 8>&-; echo hello; exec 1>&-", 20)  # the session's own are out of reach
    assert (hello.exit_code, hello.output) == (0, "hello\n")
    assert (await sandbox.run("exec 0<&- 1>&- 2>&- 3>&- 4>&- 5>&- 6>&- 7>&-; false", 20)).exit_code == 1


async def closed_every_descriptor(sandbox: Sandbox) -> None:
    """bash keeps what it will restore at 10 and above."""
    result = await sandbox.run('for fd in 8 9 10 11 12 13 14 15; do eval "exec $fd>&-"; done', 0.5)
    assert result.exit_code in (0, 1, 2, 124)  # a shell that can take only one digit says so


async def forged_end(sandbox: Sandbox) -> None:
    """The end frame, printed by a command that found its nonce, ends the output but tells no exit code."""
    forge = (
        r"""said=$(trap); nonce=${said#*036}; nonce=${nonce%%!*}; printf "real\036$nonce}\036${nonce}0 /\036forged"; (exit 7)"""
    )
    assert (await sandbox.run(forge, 20)).exit_code == 7
    result = await sandbox.run(f"({forge})", 20)
    assert (result.exit_code, result.output[:4]) == (7, "real")


async def frames_in_stdin(sandbox: Sandbox) -> None:
    """What the shell will read next cannot be read by a command."""
    result = await sandbox.run("timeout 0.3 cat /proc/$$/fd/0 | wc -c", 20)
    assert (result.exit_code, result.output) == (0, "0\n")


async def traced_shell(sandbox: Sandbox) -> None:
    assert (await sandbox.run("set -x; echo a", 20)).output.endswith("a\n")
    result = await sandbox.run("set +x; echo b", 20)
    assert (result.exit_code, result.output.endswith("b\n")) == (0, True)
    await sandbox.run("set -v", 20)
    assert (await sandbox.run("echo c; set +v", 20)).output.endswith("c\n")


async def flood(sandbox: Sandbox) -> None:
    result = await sandbox.run("printf first; yes 0123456789 | head -c 30000000; printf last", 60, max_output_bytes=1000)
    assert (result.exit_code, result.truncated, result.timed_out) == (0, True, False)
    assert result.output.startswith("first0123456789\n")
    assert result.output.endswith("last")
    assert f"[... {30_000_009 - 1000} bytes cut ...]" in result.output
    assert len(result.output) < 1100


async def endless_flood(sandbox: Sandbox) -> None:
    result = await sandbox.run("yes", 0.5, max_output_bytes=100)
    assert (result.exit_code, result.truncated) in ((124, True), (137, True))  # the deadline, or too many bytes


async def flood_of_a_gigabyte(sandbox: Sandbox) -> None:
    """The command is stopped; what came after it in the same line goes on."""
    result = await sandbox.run("cd pkg; kept=1; head -c 1000000000 /dev/zero | tr '\\0' x", 60, max_output_bytes=1000)
    assert (result.exit_code, result.truncated, result.timed_out) == (137, True, False)
    assert "the command was stopped, it prints too much" in result.output
    assert len(result.output) < 1200
    assert (await sandbox.run('echo "$kept"; pwd', 20)).output == "1\n/testbed/pkg\n"
    endless = await sandbox.run("while :; do head -c 1000000 /dev/zero; done", 60, max_output_bytes=1000)
    assert (endless.exit_code, endless.truncated, endless.timed_out) == (137, True, False)


async def invalid_utf8(sandbox: Sandbox) -> None:
    assert (await sandbox.run(r"printf 'a\377\303b'", 20)).output == "a\ufffd\ufffdb"


async def reads_stdin(sandbox: Sandbox) -> None:
    assert (await sandbox.run("cat; read -r line; echo $?", 20)).output == "1\n"


async def broken_syntax(sandbox: Sandbox) -> None:
    result = await sandbox.run("if then 'unfinished", 20)
    assert result.exit_code != 0
    assert result.timed_out is False


async def odd_bytes(sandbox: Sandbox) -> None:
    assert (await sandbox.run("echo 'a\0b'", 20)).exit_code == 2
    assert (await sandbox.run("echo 'it'\\''s' \"$HOME\" >/dev/null; printf '%s' 'é\n\ud800'", 20)).output == "é\n?"


FAULTS: dict[str, Check] = {
    check.__name__: check
    for check in (
        hung,
        hung_compound,
        setsid_escape,
        busy_shell,
        background_child,
        exit_in_shell,
        killed_shell,
        replaced_shell,
        closed_descriptors,
        closed_every_descriptor,
        forged_end,
        frames_in_stdin,
        traced_shell,
        flood,
        endless_flood,
        flood_of_a_gigabyte,
        invalid_utf8,
        reads_stdin,
        broken_syntax,
        odd_bytes,
    )
}
