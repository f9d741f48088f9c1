from configs.rollout_config import EpisodeConfig
from envpool.action_format import ToolCall
from envpool.agent.edit_history import MAX_BYTES, MAX_EDITS, Edit, EditHistory
from envpool.sandbox import ExecResult
from envpool.sandboxes.scripted_sandbox import ScriptedSandbox, said
from envpool.tool import ToolLimits, call_tool
from envpool.tools import TOOLS, open_tools
from envpool.tools.str_replace_editor import StrReplaceEditor

COMPACT = ToolLimits(timeout_s=5.0, max_observation_bytes=4096, compact=True)
PATH = "/testbed/a.py"


class Setting:
    """One episode's editor in a sandbox whose `rm` works."""

    def __init__(self) -> None:
        self.sandbox = ScriptedSandbox({PATH: "one\n\ttwo\r\n"}, self.shell)
        self.tools = {"str_replace_editor": StrReplaceEditor().for_episode(EpisodeConfig())}

    def shell(self, command: str) -> ExecResult:
        self.sandbox.files.pop(command.removeprefix("( rm -f -- ").removesuffix(" )"))
        return said("")

    async def edit(self, command: str, path: str = "a.py", **arguments: str) -> str:
        call = ToolCall("str_replace_editor", {"command": command, "path": path, **arguments})
        return (await call_tool(call, self.tools, self.sandbox, COMPACT)).text

    @property
    def text(self) -> bytes:
        return self.sandbox.files[PATH]


async def test_undo_takes_back_edit_after_edit_byte_for_byte() -> None:
    setting = Setting()
    first = setting.text
    await setting.edit("str_replace", old_str="one", new_str="1")
    second = setting.text
    await setting.edit("insert", insert_line="1", new_str="x")
    assert setting.text not in (first, second)
    assert await setting.edit("undo_edit") == "undone"
    assert setting.text == second
    assert await setting.edit("undo_edit", path="/testbed/./a.py") == "undone"
    assert setting.text == first
    assert await setting.edit("undo_edit") == "nothing to undo"


async def test_undo_of_a_creation_deletes_the_file() -> None:
    setting = Setting()
    await setting.edit("create", path="new.py", file_text="x")
    assert await setting.edit("undo_edit", path="new.py") == "undone"
    assert "/testbed/new.py" not in setting.sandbox.files
    assert await setting.edit("undo_edit", path="new.py") == "nothing to undo"


async def test_every_file_has_edits_of_its_own() -> None:
    setting = Setting()
    await setting.edit("str_replace", old_str="one", new_str="1")
    await setting.edit("create", path="new.py", file_text="x")
    assert await setting.edit("undo_edit") == "undone"
    assert setting.text == b"one\n\ttwo\r\n"
    assert setting.sandbox.files["/testbed/new.py"] == b"x"


async def test_what_something_else_changed_is_not_taken_back() -> None:
    setting = Setting()
    await setting.edit("str_replace", old_str="one", new_str="1")
    edited = setting.text
    setting.sandbox.files[PATH] = b"by the shell\n"
    assert await setting.edit("undo_edit") == "file has changed"
    assert setting.text == b"by the shell\n"
    del setting.sandbox.files[PATH]
    assert await setting.edit("undo_edit") == "no such file"
    setting.sandbox.files[PATH] = edited
    assert await setting.edit("undo_edit") == "undone"


async def test_a_refused_edit_is_none() -> None:
    setting = Setting()
    await setting.edit("str_replace", old_str="absent", new_str="1")
    await setting.edit("create", file_text="x")
    assert await setting.edit("undo_edit") == "nothing to undo"


async def test_episodes_share_nothing_and_the_registry_s_entry_remembers_nothing() -> None:
    sandbox = ScriptedSandbox({PATH: "one\n"}, {})
    undo = ToolCall("str_replace_editor", {"command": "undo_edit", "path": "a.py"})
    change = {"command": "str_replace", "path": "a.py", "old_str": "one", "new_str": "1"}
    async with open_tools(EpisodeConfig()) as first, open_tools(EpisodeConfig()) as second:
        assert (await call_tool(ToolCall("str_replace_editor", change), first, sandbox, COMPACT)).text == "edited"
        for tools in (second, TOOLS):
            assert (await call_tool(undo, tools, sandbox, COMPACT)).text == "nothing to undo"
        assert (await call_tool(undo, first, sandbox, COMPACT)).text == "undone"


def test_the_oldest_edits_are_forgotten() -> None:
    history = EditHistory()
    for index in range(MAX_EDITS + 2):
        history.add(Edit(str(index), None, b""))
    assert len(history.edits) == MAX_EDITS
    assert history.last("1") is None
    assert history.last("2") is not None
    history.add(Edit("large", b"", b"x" * MAX_BYTES))
    assert [edit.path for edit in history.edits][-1] == "large"
    history.add(Edit("small", b"", b"x"))
    assert [edit.path for edit in history.edits] == ["small"]
