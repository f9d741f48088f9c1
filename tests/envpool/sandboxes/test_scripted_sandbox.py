import pytest

from envpool.sandbox_errors import SandboxLostError
from envpool.sandboxes.scripted_sandbox import ScriptedSandbox, ScriptEndedError, said


async def test_answers_and_fails_loudly_when_the_script_ends() -> None:
    sandbox = ScriptedSandbox({}, {"always": said("a"), "twice": [said("1"), said("2", exit_code=1)]})
    assert [(await sandbox.run(command, 5)).output for command in ("always", "twice", "always", "twice")] == ["a", "1", "a", "2"]
    with pytest.raises(ScriptEndedError, match="only 2 times"):
        await sandbox.run("twice", 5)
    with pytest.raises(ScriptEndedError, match="'other'"):
        await sandbox.run("other", 5)


async def test_files_in_memory() -> None:
    sandbox = ScriptedSandbox({"/testbed/a/b.txt": "text"}, {})
    assert await sandbox.read_file("a/b.txt", max_bytes=2) == b"te"
    await sandbox.write_file("/testbed/c.txt", b"new")
    assert await sandbox.read_file("a/../c.txt") == b"new"
    with pytest.raises(IsADirectoryError):
        await sandbox.read_file("/testbed/a")
    with pytest.raises(FileNotFoundError):
        await sandbox.read_file("none")
    with pytest.raises(PermissionError):
        await sandbox.write_file("../etc/passwd", b"")


async def test_dies_on_cue() -> None:
    sandbox = ScriptedSandbox({}, lambda command: said(command), die_after=1)
    assert (await sandbox.run("one", 5)).output == "one"
    with pytest.raises(SandboxLostError):
        await sandbox.read_file("x")
