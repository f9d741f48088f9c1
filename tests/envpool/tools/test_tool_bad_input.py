"""Hostile files and arguments, in a real shell: each is answered in one clear observation, and the episode goes on."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from configs.rollout_config import EpisodeConfig
from configs.sandbox_config import SandboxConfig
from envpool.action_format import ToolCall
from envpool.sandbox import Sandbox
from envpool.sandbox_parts.image_cache import FolderImages
from envpool.sandboxes.process_sandbox import ProcessBackend
from envpool.tool import Tool, ToolLimits, call_tool
from envpool.tools import open_tools

FILES = {"a.py": "x = 1\n", "Makefile": "all:\n\techo 1\n"}


class Setting:
    def __init__(self, sandbox: Sandbox, tools: dict[str, Tool]) -> None:
        self.sandbox, self.tools = sandbox, tools

    async def say(self, name: str, compact: bool = True, **arguments: str) -> str:
        limits = ToolLimits(timeout_s=30.0, max_observation_bytes=4096, compact=compact)
        return (await call_tool(ToolCall(name, arguments), self.tools, self.sandbox, limits)).text

    async def edit(self, command: str, path: str, **arguments: str) -> str:
        return await self.say("str_replace_editor", command=command, path=path, **arguments)

    async def bash(self, command: str) -> str:
        return await self.say("execute_bash", command=command)


@asynccontextmanager
async def real_shell(tmp_path: Path) -> AsyncIterator[Setting]:
    images = FolderImages(tmp_path / "images")
    backend = ProcessBackend(SandboxConfig(isolation="none"), images, owner="test-bad-input")
    try:
        sandbox = await backend.start(images.add("demo", FILES), "/testbed")
        async with open_tools(EpisodeConfig()) as tools:
            yield Setting(sandbox, tools)
    finally:
        await backend.close()


async def test_files_of_odd_encodings_keep_the_bytes_that_an_edit_does_not_touch(tmp_path: Path) -> None:
    async with real_shell(tmp_path) as shell:
        await shell.bash(r"printf 'caf\351 = 1\n\tb = 2\r\n' > latin.py; printf 'a\0b' > binary.dat")
        assert await shell.edit("view", "latin.py") == "caf\ufffd = 1\n\tb = 2"
        assert await shell.edit("str_replace", "latin.py", old_str="b = 2", new_str="b = 3") == "edited"
        assert await shell.bash("od -An -c latin.py | tr -s ' '") == r" c a f 351 = 1 \n \t b = 3 \r" + "\n" + r" \n"
        assert await shell.edit("undo_edit", "latin.py") == "undone"
        assert "b = 2" in await shell.edit("view", "latin.py")
        assert await shell.edit("view", "binary.dat") == "binary file"


async def test_a_makefile_keeps_its_tabs(tmp_path: Path) -> None:
    async with real_shell(tmp_path) as shell:
        assert await shell.edit("str_replace", "Makefile", old_str="\techo 1", new_str="\techo 2") == "edited"
        assert await shell.bash("make -s -f Makefile 2>/dev/null || tail -1 Makefile | cut -c1-7") in ("2", "\techo 2")


async def test_paths_that_lead_outside_or_in_circles_are_refused(tmp_path: Path) -> None:
    outside = tmp_path / "secret.txt"
    outside.write_text("secret")
    async with real_shell(tmp_path) as shell:
        await shell.bash(f"ln -s loop2 loop; ln -s loop loop2; ln -s {outside} out; ln -s {tmp_path} folder")
        for path in ("loop", "out", "folder/secret.txt", str(outside), "../../../../../etc/hostname", "/testbed/../x"):
            for command, arguments in (("view", {}), ("create", {"file_text": "x"}), ("undo_edit", {})):
                answer = await shell.edit(command, path, **arguments)
                # Links lead where they lead in the sandbox's own root; `create` may find room for a new file there.
                if command == "view" and answer != "x":
                    assert answer in ("not allowed", "no such file"), (path, answer)
                elif command != "view":
                    assert answer in ("not allowed", "file exists", "edited", "nothing to undo", "undone"), (path, answer)
                assert outside.read_text() == "secret"
        assert sorted(os.listdir(tmp_path)) == ["images", "secret.txt"]
        for path in ("", " ", "a\0b", "x" * 5000):
            assert await shell.edit("view", path) == "bad path"
        assert await shell.edit("view", "x" * 300 + "/" + "y" * 300) in ("no such file", "file name too long")


async def test_a_file_of_100_mb_is_neither_shown_nor_edited(tmp_path: Path) -> None:
    async with real_shell(tmp_path) as shell:
        await shell.bash("truncate -s 100M large.txt")
        assert await shell.edit("view", "large.txt") == "file too large"
        assert await shell.edit("str_replace", "large.txt", old_str="a", new_str="b") == "file too large"
        assert await shell.edit("create", "large.txt", file_text="x") == "file exists"
        shown = await shell.bash("head -c 3000000 large.txt | tr '\\0' 'x'")
        assert len(shown) <= 4096
        assert "bytes left out" in shown


async def test_special_files_do_not_hang(tmp_path: Path) -> None:
    async with real_shell(tmp_path) as shell:
        await shell.bash("mkfifo pipe")
        answer = await shell.edit("view", "pipe")
        assert answer
        assert await shell.bash("echo alive") == "alive"


async def test_control_characters_in_output_are_spelled_out(tmp_path: Path) -> None:
    async with real_shell(tmp_path) as shell:
        shown = await shell.bash(r"printf '\033[31mred\033[0m \033]0;title\007 bell\007 nul\000 back\010.\r\n'")
        assert shown == r"red  bell\x07 nul\x00 back\x08."
        assert await shell.bash("echo \0") == "empty command"
        assert await shell.edit("create", "c.py", file_text="a\x07b\n") == "edited"
        assert await shell.edit("view", "c.py") == "a\x07b"


async def test_huge_arguments_are_carried_out_or_refused(tmp_path: Path) -> None:
    async with real_shell(tmp_path) as shell:
        text = "y" * 900_000
        assert await shell.edit("create", "big.txt", file_text=text) == "edited"
        assert await shell.bash("wc -c < big.txt | tr -d ' '") == "900000"
        assert await shell.edit("str_replace", "big.txt", old_str="z" * 900_000, new_str="") == "old_str not found"
        assert await shell.bash(f": {'x' * 300_000}; echo done") == "done"
        assert await shell.say("str_replace_editor", command="insert", path="a.py", insert_line="9" * 400, new_str="x") == (
            "insert_line must be an integer"
        )
        assert await shell.say("x" * 100_000) == f"unknown tool {'x' * 100_000}"[:80]


async def test_long_output_keeps_40_lines_at_either_end(tmp_path: Path) -> None:
    async with real_shell(tmp_path) as shell:
        lines = (await shell.say("execute_bash", compact=False, command="seq 81")).split("\n")[2:]
        assert lines == [*map(str, range(1, 41)), "[... 1 lines left out ...]", *map(str, range(42, 82))]
        assert (await shell.say("execute_bash", compact=False, command="seq 80")).split("\n")[2:] == [*map(str, range(1, 81)), ""]
