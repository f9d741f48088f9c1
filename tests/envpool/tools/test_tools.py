import asyncio
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from configs.sandbox_config import SandboxConfig
from envpool.action_format import ToolCall
from envpool.sandbox import ExecResult
from envpool.sandbox_errors import SandboxLostError
from envpool.sandbox_parts.image_cache import FolderImages
from envpool.sandboxes.process_sandbox import ProcessBackend
from envpool.sandboxes.scripted_sandbox import ScriptedSandbox, said
from envpool.tool import Observation, ToolLimits, call_tool, cut_middle
from envpool.tools import TOOLS, select_tools
from envpool.tools.execute_bash import cut_lines
from envpool.tools.str_replace_editor import MAX_FILE_BYTES

COMPACT = ToolLimits(timeout_s=5.0, max_observation_bytes=4096, compact=True)
FULL = ToolLimits(timeout_s=5.0, max_observation_bytes=4096, compact=False)
GEOMETRY = "def area(w, h):\n    return w - h\n\n\ndef edge(w, h):\n    return w + h\n"


def sandbox_with(**answers: ExecResult) -> ScriptedSandbox:
    return ScriptedSandbox({"/testbed/geometry.py": GEOMETRY}, dict(answers))


async def call(sandbox: ScriptedSandbox, name: str, limits: ToolLimits = COMPACT, **arguments: str) -> str:
    return (await call_tool(ToolCall(name, arguments), TOOLS, sandbox, limits)).text


async def edit(sandbox: ScriptedSandbox, command: str, limits: ToolLimits = COMPACT, **arguments: str) -> str:
    return await call(sandbox, "str_replace_editor", limits, command=command, **arguments)


# --- the editor, compact wording


@pytest.mark.parametrize("path", ["geometry.py", "/testbed/geometry.py", "./x/../geometry.py"])
async def test_view_is_the_text_without_trailing_newline(path: str) -> None:
    assert await edit(sandbox_with(), "view", path=path) == GEOMETRY[:-1]


async def test_view_range() -> None:
    sandbox = sandbox_with()
    assert await edit(sandbox, "view", path="geometry.py", view_range="[1, 2]") == "def area(w, h):\n    return w - h"
    assert await edit(sandbox, "view", path="geometry.py", view_range="5, -1") == "def edge(w, h):\n    return w + h"
    assert await edit(sandbox, "view", path="geometry.py", view_range="[5, 99]") == "def edge(w, h):\n    return w + h"
    for wrong in ("[0, 2]", "[3, 2]", "[7, 9]", "[-1, 2]"):
        assert await edit(sandbox, "view", path="geometry.py", view_range=wrong) == "view_range is not within 1 to 6"
    assert await edit(sandbox, "view", path="geometry.py", view_range="all") == "view_range must be two integers, like [1, 20]"


async def test_str_replace_changes_the_one_match() -> None:
    sandbox = sandbox_with()
    assert await edit(sandbox, "str_replace", path="geometry.py", old_str="w - h", new_str="w * h") == "edited"
    assert sandbox.files["/testbed/geometry.py"].decode() == GEOMETRY.replace("w - h", "w * h")


@pytest.mark.parametrize(
    ("old", "new", "answer"),
    [
        ("w / h", "w", "old_str not found"),
        ("return w", "w", "old_str matches 2 times"),
        ("", "w", "old_str is empty"),
        ("w - h", "w - h", "no change"),
    ],
)
async def test_str_replace_that_cannot_be_done_changes_nothing(old: str, new: str, answer: str) -> None:
    sandbox = sandbox_with()
    assert await edit(sandbox, "str_replace", path="geometry.py", old_str=old, new_str=new) == answer
    assert sandbox.files["/testbed/geometry.py"].decode() == GEOMETRY


@pytest.mark.parametrize(
    ("before", "line", "added", "after"),
    [
        ("a\nb\n", "0", "x", "x\na\nb\n"),
        ("a\nb\n", "1", "x\n", "a\nx\nb\n"),
        ("a\nb\n", "2", "x\ny", "a\nb\nx\ny\n"),
        ("a\nb", "1", "x", "a\nx\nb"),
        ("a\nb", "2", "x", "a\nb\nx\n"),
        ("", "0", "x", "x\n"),
        ("a\r\nb\r\n", "1", "x", "a\r\nx\r\nb\r\n"),
    ],
)
async def test_insert(before: str, line: str, added: str, after: str) -> None:
    sandbox = ScriptedSandbox({"/testbed/f": before}, {})
    assert await edit(sandbox, "insert", path="f", insert_line=line, new_str=added) == "edited"
    assert sandbox.files["/testbed/f"].decode() == after


async def test_insert_outside_the_file() -> None:
    assert await edit(sandbox_with(), "insert", path="geometry.py", insert_line="7", new_str="x") == (
        "insert_line is not within 0 to 6"
    )
    assert await edit(sandbox_with(), "insert", path="geometry.py", insert_line="one", new_str="x") == (
        "insert_line must be an integer"
    )


async def test_create_writes_a_new_file_and_refuses_an_old_one() -> None:
    sandbox = sandbox_with()
    assert await edit(sandbox, "create", path="pkg/new.py", file_text="x = 1\n") == "edited"
    assert sandbox.files["/testbed/pkg/new.py"] == b"x = 1\n"
    assert await edit(sandbox, "create", path="geometry.py", file_text="") == "file exists"
    assert sandbox.files["/testbed/geometry.py"].decode() == GEOMETRY


async def test_an_edit_keeps_tabs_line_ends_and_odd_bytes() -> None:
    sandbox = sandbox_with()
    sandbox.files["/testbed/Makefile"] = b"all:\r\n\techo \xe9 1\r\n\techo 2\r\n"
    assert await edit(sandbox, "view", path="Makefile") == "all:\n\techo \ufffd 1\n\techo 2"
    assert await edit(sandbox, "str_replace", path="Makefile", old_str=" 1\n\techo 2", new_str=" 1\n\techo 3") == "edited"
    assert sandbox.files["/testbed/Makefile"] == b"all:\r\n\techo \xe9 1\r\n\techo 3\r\n"


async def test_files_that_cannot_be_shown() -> None:
    sandbox = sandbox_with()
    sandbox.files["/testbed/image"] = b"\x89PNG\0\1"
    sandbox.files["/testbed/huge"] = b"a" * (MAX_FILE_BYTES + 1)
    assert await edit(sandbox, "view", path="image") == "binary file"
    assert await edit(sandbox, "view", path="huge") == "file too large"
    assert await edit(sandbox, "view", path="absent.py") == "no such file"
    assert await edit(sandbox, "str_replace", path="absent.py", old_str="a", new_str="b") == "no such file"
    assert await edit(sandbox, "str_replace", path=".", old_str="a", new_str="b") == "is a directory"
    assert await edit(sandbox, "create", path="/etc/passwd", file_text="") == "not allowed"
    assert await edit(sandbox, "create", path="../../etc/new", file_text="") == "not allowed"
    assert await edit(sandbox, "view", path="a\0b") == "bad path"
    assert await edit(sandbox, "view", path="") == "bad path"


async def test_view_of_a_directory_lists_two_levels() -> None:
    sandbox = ScriptedSandbox({"/testbed/pkg/a.py": ""}, lambda command: said("./pkg/\n./pkg/a.py\n"))
    assert await edit(sandbox, "view", path=".") == "pkg/\npkg/a.py"
    assert sandbox.commands == [
        "( cd /testbed && find . -mindepth 1 -maxdepth 2 ! -path '*/.*' -exec ls -1dp {} + | LC_ALL=C sort )"
    ]
    assert await edit(sandbox, "view", path=".", view_range="[1, 2]") == "view_range needs a file"


# --- the editor, full wording


async def test_full_view_numbers_lines_in_six_columns() -> None:
    text = await edit(sandbox_with(), "view", FULL, path="geometry.py", view_range="[1, 2]")
    assert text == (
        "Output of str_replace_editor:\n/testbed/geometry.py, lines 1 to 2 of 6:\n     1 def area(w, h):\n     2     return w - h"
    )


async def test_full_edit_shows_four_lines_on_each_side() -> None:
    numbers = "".join(f"line {number}\n" for number in range(1, 21))
    sandbox = ScriptedSandbox({"/testbed/f": numbers}, {})
    text = await edit(sandbox, "str_replace", FULL, path="f", old_str="line 10\n", new_str="new a\nnew b\n")
    shown = text.splitlines()
    assert shown[:2] == ["Output of str_replace_editor:", "Edited /testbed/f. The lines around the change:"]
    assert shown[2] == "     6 line 6"
    assert shown[6:8] == ["    10 new a", "    11 new b"]
    text = await edit(sandbox, "insert", FULL, path="f", insert_line="0", new_str="top")
    assert text.splitlines()[2:] == ["     1 top", "     2 line 1", "     3 line 2", "     4 line 3", "     5 line 4"]


async def test_full_errors_say_what_to_do() -> None:
    text = await edit(sandbox_with(), "str_replace", FULL, path="geometry.py", old_str="return w", new_str="w")
    assert text == (
        "Output of str_replace_editor:\nError: old_str occurs 2 times in /testbed/geometry.py (lines 2, 6); "
        "add lines around it until it is unique."
    )


# --- execute_bash


@pytest.mark.parametrize(
    ("result", "answer"),
    [
        (said("passed\n"), "passed"),
        (said("failed area\n", 1), "failed area\nexit 1"),
        (said("", 2), "exit 2"),
        (said("  \n\n", 2), "exit 2"),
        (said(""), ""),
        (ExecResult(124, "", False, True, 5.0), "timeout"),
        (ExecResult(124, "one\n", False, True, 5.0), "one\ntimeout"),
        (said("\x1b[31mred\x1b[0m\r\nnext\n"), "red\nnext"),
    ],
)
async def test_bash_compact(result: ExecResult, answer: str) -> None:
    assert await call(ScriptedSandbox({}, {"run": result}), "execute_bash", command="run") == answer


async def test_bash_full_wording() -> None:
    sandbox = ScriptedSandbox({}, {"bad": said("no\n", 3), "slow": ExecResult(124, "", False, True, 5.0)})
    assert await call(sandbox, "execute_bash", FULL, command="bad") == "Exit code: 3\nOutput of execute_bash:\nno\n"
    assert (await call(sandbox, "execute_bash", FULL, command="slow")).startswith(
        "Exit code: 124 (killed: it ran longer than 5 s)\n"
    )


@pytest.mark.parametrize("command", ["", "  \n", "a\0b"])
async def test_bash_refuses_an_empty_command(command: str) -> None:
    assert await call(ScriptedSandbox({}, {}), "execute_bash", command=command) == "empty command"


def test_eighty_lines_are_shown_and_eighty_one_are_cut() -> None:
    lines = [f"line {number}" for number in range(1, 82)]
    assert cut_lines("\n".join(lines[:80]) + "\n") == "\n".join(lines[:80]) + "\n"
    assert cut_lines("\n".join(lines)).split("\n") == [*lines[:40], "[... 1 lines left out ...]", *lines[41:]]


async def test_observations_are_capped_in_bytes() -> None:
    sandbox = ScriptedSandbox({}, {"flood": said("é" * 50_000)})
    for limits in (COMPACT, FULL):
        text = await call(sandbox, "execute_bash", limits, command="flood")
        assert len(text.encode()) <= 4096
        assert "bytes left out ...]" in text
        assert text.endswith("éé")


@given(st.text(), st.integers(0, 200))
def test_cut_middle_keeps_the_bound(text: str, max_bytes: int) -> None:
    cut = cut_middle(text, max_bytes)
    assert len(cut.encode()) <= max_bytes
    assert cut == text or len(text.encode()) > max_bytes


# --- calls that are wrong


@pytest.mark.parametrize(
    ("wrong", "answer"),
    [
        (ToolCall("python", {}), "unknown tool python"),
        (ToolCall("str_replace_editor", {"path": "a"}), "missing parameter command"),
        (ToolCall("str_replace_editor", {"command": "view"}), "missing parameter path"),
        (ToolCall("str_replace_editor", {"command": "create", "path": "a"}), "missing parameter file_text"),
        (ToolCall("str_replace_editor", {"command": "str_replace", "path": "a", "old_str": "b"}), "missing parameter new_str"),
        (
            ToolCall("str_replace_editor", {"command": "undo", "path": "a"}),
            "command must be one of view, create, str_replace, insert, undo_edit",
        ),
        (ToolCall("execute_bash", {"command": "ls", "cwd": "/"}), "unknown parameter cwd"),
        (ToolCall("execute_bash", {"command": "ls"}, ("command",)), "repeated parameter command"),
        (ToolCall("submit", {"result": "done"}), "unknown parameter result"),
    ],
)
async def test_wrong_calls_are_answered_in_one_short_line(wrong: ToolCall, answer: str) -> None:
    assert await call_tool(wrong, TOOLS, sandbox_with(), COMPACT) == Observation(answer)
    full = await call_tool(wrong, TOOLS, sandbox_with(), FULL)
    assert not full.done
    assert len(full.text) > len(answer)


async def test_submit_ends_the_episode() -> None:
    assert await call_tool(ToolCall("submit", {}), TOOLS, sandbox_with(), FULL) == Observation("", done=True)


async def test_a_lost_sandbox_is_no_observation() -> None:
    sandbox = sandbox_with()
    await sandbox.close()
    for made in (ToolCall("execute_bash", {"command": "ls"}), ToolCall("str_replace_editor", {"command": "view", "path": "a"})):
        with pytest.raises(SandboxLostError):
            await call_tool(made, TOOLS, sandbox, COMPACT)


async def test_other_file_errors_are_observations() -> None:
    class FullDisk(ScriptedSandbox):
        async def write_file(self, path: str, data: bytes) -> None:
            raise OSError(28, "No space left on device")

    sandbox = FullDisk({}, {})
    assert await edit(sandbox, "create", path="a", file_text="x") == "no space left on device"


VALUES = st.one_of(
    st.text(st.characters(), max_size=8), st.sampled_from(["view", "insert", "str_replace", "create", "geometry.py", "."])
)
KEYS = st.sampled_from(["command", "path", "old_str", "new_str", "insert_line", "view_range", "file_text", "x"])


@settings(max_examples=300, deadline=None)
@given(st.sampled_from([*TOOLS, "nothing"]), st.dictionaries(KEYS, VALUES), st.booleans())
def test_no_call_raises(name: str, arguments: dict[str, str], compact: bool) -> None:
    sandbox = ScriptedSandbox({"/testbed/geometry.py": GEOMETRY}, lambda command: said("out\n"))
    limits = ToolLimits(1.0, 200, compact)
    observation = asyncio.run(call_tool(ToolCall(name, arguments), TOOLS, sandbox, limits))
    assert len(observation.text.encode()) <= 400


def test_every_tool_has_a_usable_schema() -> None:
    for name, tool in TOOLS.items():
        assert tool.name == name
        assert set(tool.parameters["required"]) <= set(tool.parameters["properties"])
        assert all(schema["type"] in ("string", "integer", "array") for schema in tool.parameters["properties"].values())


def test_select_tools_names_the_unknown_one() -> None:
    assert list(select_tools(("submit", "execute_bash"))) == ["submit", "execute_bash"]
    with pytest.raises(ValueError, match="no such tool 'lsp'; known: execute_bash, str_replace_editor, submit"):
        select_tools(("submit", "lsp"))


async def test_in_a_real_shell_a_directory_is_listed_and_the_working_directory_kept(tmp_path: Path) -> None:
    images = FolderImages(tmp_path)
    image = images.add("demo", {"b.py": "", "pkg/a file.py": "", "pkg/deep/c.py": "", ".hidden/x": "", "pkg/.y": ""})
    backend = ProcessBackend(SandboxConfig(isolation="none"), images, owner="test-tools")
    try:
        sandbox = await backend.start(image, "/testbed")

        async def say(name: str, **arguments: str) -> str:
            return (await call_tool(ToolCall(name, arguments), TOOLS, sandbox, COMPACT)).text

        assert await say("execute_bash", command="cd pkg") == ""
        assert await say("str_replace_editor", command="view", path=".") == "b.py\npkg/\npkg/a file.py\npkg/deep/"
        assert await say("str_replace_editor", command="view", path="pkg") == "a file.py\ndeep/\ndeep/c.py"
        assert await say("str_replace_editor", command="view", path="pkg/deep/c.py/d") == "not a directory"
        assert await say("execute_bash", command="pwd; exit 3") == "/testbed/pkg\nexit 3"
        assert await say("str_replace_editor", command="create", path="new/a.py", file_text="\tx\r\n") == "edited"
        assert await say("execute_bash", command="od -c /testbed/new/a.py | head -1") == "0000000  \\t   x  \\r  \\n"
    finally:
        await backend.close()
