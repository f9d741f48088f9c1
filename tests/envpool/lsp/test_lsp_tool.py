"""lsp_tool against the real servers, each on a small real project in a process sandbox."""

import os
import re
import signal
from contextlib import suppress
from pathlib import Path

import pytest

from configs.lsp_config import LspConfig
from configs.rollout_config import EpisodeConfig
from envpool.action_format import ToolCall
from envpool.language_servers import LANGUAGE_SERVERS, select_servers
from envpool.sandbox_parts.image_cache import FolderImages
from envpool.sandbox_parts.process_tree import descendants, live_processes
from envpool.sandboxes.process_sandbox import bubblewrap_works
from envpool.tool import EpisodeTool, ToolLimits, call_tool
from envpool.tools import TOOLS, open_tools
from envpool.tools.str_replace_editor import StrReplaceEditor
from tests.envpool.lsp.lsp_projects import PROJECTS, PYTHON, LspProject, area_name, total_name
from tests.envpool.lsp.lsp_setting import PATIENT, Setting, need_server, opened, usable_config

LANGUAGES = list(LANGUAGE_SERVERS)
pytestmark = pytest.mark.timeout(300)


@pytest.fixture(params=LANGUAGES)
def project(request: pytest.FixtureRequest) -> LspProject:
    """One for each language whose server is installed."""
    need_server(request.param)
    return PROJECTS[request.param]


def test_every_language_has_a_project() -> None:
    assert list(PROJECTS) == LANGUAGES


async def test_every_command_is_answered(project: LspProject, images: FolderImages) -> None:
    total, area, shapes, report = total_name(project), area_name(project), project.shapes, project.report
    call, declared = project.line(report, f"{total}("), project.line(shapes, f"{total}(")
    square = project.line(shapes, "class Square" if project.language != "go" else "type Square")
    async with opened(images, project.files, usable_config()) as setting:
        told = await setting.ask("get_definition", file_path=report, line=call, symbol=total)
        assert told.startswith(f"Status: success (get_definition of '{total}' on line {call} of {report}: 1 location)")
        assert "total" in told
        assert "[Result]\n/testbed/" in told
        where = "src/shapes.cpp" if project.language == "cpp" else shapes
        assert f"/testbed/{where}, line {project.line(where, total + '(')} in function {total}" in told
        assert "return total" in told

        first = project.line(report, "first")
        told = await setting.ask("get_type_definition", file_path=report, line=first, symbol="first")
        assert f"/testbed/{shapes}, line {square} in " in told

        told = await setting.ask("get_implementation", file_path=shapes, line=project.line(shapes, f"{area}("), symbol=area)
        assert re.search(r"return (self\.|this\.|s\.)?side_? \* ", told, re.IGNORECASE)

        told = await setting.ask("get_references", file_path=f"/testbed/{shapes}", line=declared, symbol=total)
        assert f"/testbed/{report} (" in told
        assert f"{call:>6} " in told

        told = await setting.ask("get_hover", file_path=report, line=call, symbol=total)
        assert total in told.partition("[Result]")[2]

        told = await setting.ask("get_document_symbols", file_path=shapes)
        assert f"function {total} (line" in told
        assert "variable" not in told.partition("[Result]")[2]

        told = await setting.ask("get_workspace_symbols", query="Square")
        assert f"at /testbed/{shapes} (line {square})" in told

        told = await setting.ask("get_call_hierarchy", file_path=shapes, line=declared, symbol=total)
        assert f"describe (function) at /testbed/{report}:{project.line(report, 'describe(')}, called on line {call}" in told
        if project.language == "cpp" and "cannot tell" in told:
            pass  # clangd knows outgoing calls from version 20 on
        else:
            assert f"at /testbed/{shapes}:" in told.partition("Outgoing")[2]

        areas = project.line(report, "areas")
        told = await setting.ask("get_document_highlights", file_path=report, line=areas, symbol="areas")
        assert ": 2 highlights)" in told

        told = await setting.ask("get_diagnostics", file_path=report)
        assert told == f"Status: success (get_diagnostics in {report}: 0 errors, 0 warnings)"


async def test_answers_are_fresh_after_every_kind_of_edit(project: LspProject, images: FolderImages) -> None:
    """By the editor tool, by shell commands, in the file asked about and in others; and the server is killed in between."""
    shapes, report = project.shapes, project.report
    old, new = project.edit
    symbol_line = project.line(report, "Square")
    square = project.line(shapes, old.split("\n")[-1] if project.language != "go" else "type Square")
    async with opened(images, project.files, usable_config()) as setting:

        async def square_is_at(path: str = shapes) -> list[int]:
            told = await setting.ask("get_definition", file_path=report, line=symbol_line, symbol="Square")
            return [
                int(line.split(", line ")[1].split(" ")[0]) for line in told.split("\n") if line.startswith(f"/testbed/{path}")
            ]

        assert await square_is_at() == [square]
        edit = {"command": "str_replace", "path": shapes, "old_str": old, "new_str": new}
        told = await call_tool(
            ToolCall("str_replace_editor", edit), {"str_replace_editor": StrReplaceEditor()}, setting.sandbox, PATIENT
        )
        assert "Edited" in told.text
        assert await square_is_at() == [square + project.shift]

        await setting.sandbox.run(f"sed -i '1i\\\\' {shapes} && sed -i '1i\\\\' {shapes}", 10)
        assert await square_is_at() == [square + project.shift + 2]

        for pid in setting.pids(project.language):
            with suppress(ProcessLookupError):  # with the first of a namespace all others die
                os.kill(pid, signal.SIGKILL)
        assert await square_is_at() == [square + project.shift + 2]

        await setting.sandbox.write_file(project.broken_path, project.broken.encode())
        told = await setting.ask("get_diagnostics", file_path=project.broken_path)
        assert f"/testbed/{project.broken_path}:{project.broken_line}:" in told
        assert project.broken_word in told.partition("[Result]")[2]
        await setting.sandbox.run(f"cat > {project.broken_path} <<'END'\n{project.files[project.broken_path]}END", 10)
        assert ": 0 errors," in await setting.ask("get_diagnostics", file_path=project.broken_path)

        extra = f"{os.path.dirname(report) or '.'}/extra{Path(report).suffix}".removeprefix("./")
        source = project.files[report].replace("describe", "recount").replace("main", "other_main")
        if project.language == "go":
            source = source.replace("package other_main", "package main")
        await setting.sandbox.run(f"cat > {extra} <<'END'\n{source}END", 10)
        assert "recount (function)" in await setting.ask("get_workspace_symbols", query="recount")
        await setting.sandbox.run(f"mv {extra} /tmp/", 10)
        assert "nothing found" in await setting.ask("get_workspace_symbols", query="recount")
        assert "there is no source file" in await setting.ask("get_hover", file_path=extra, line=1)


async def test_nothing_is_left_behind(project: LspProject, images: FolderImages) -> None:
    async with opened(images, project.files, usable_config()) as setting:
        assert "success" in await setting.ask("get_document_symbols", file_path=project.shapes)
        pids = setting.pids(project.language)
        assert len(pids) >= 2 or not bubblewrap_works()
        assert setting.tool.sessions is not None
        folder = setting.tool.sessions[setting.sandbox]._folder
        assert folder is not None
        assert folder.is_dir()
    assert {process.pid for process in live_processes()}.isdisjoint(pids)
    assert not folder.exists()


class TestWrongQuestions:
    """What the agent did wrong, in words that help."""

    @pytest.fixture
    async def setting(self, images: FolderImages):  # type: ignore[no-untyped-def]
        need_server("python")
        files = {**PYTHON.files, "long.py": "x = 1\n" * 300_000, "notes.txt": "words\n", "ü b.py": "größe = 1\nprint(größe)\n"}
        async with opened(images, files, usable_config()) as setting:
            await setting.sandbox.run(
                "ln -s ring_b ring_a; ln -s ring_a ring_b; ln -s /etc outside; ln -s geometry same; ln -s . up", 10
            )
            await setting.sandbox.run("printf 'nam\\351 = 1\\nvalue = 2\\nprint(value)  # \\377\\n' > latin.py", 10)
            yield setting

    async def test_all(self, setting: Setting) -> None:
        asked: list[tuple[dict[str, object], str]] = [
            ({"command": "get_hover", "line": 1}, "get_hover needs the parameter file_path"),
            ({"command": "get_definition", "file_path": "report.py", "line": 5}, "get_definition needs the parameter symbol"),
            ({"command": "get_workspace_symbols"}, "get_workspace_symbols needs the parameter query"),
            ({"command": "rename", "file_path": "report.py"}, "command must be one of get_definition, "),
            ({"command": "get_hover", "file_path": "report.py", "line": "five"}, "line must be an integer"),
            ({"command": "get_hover", "file_path": "report.py", "line": 99}, "line 99 does not exist: report.py has 11 lines"),
            ({"command": "get_hover", "file_path": "report.py", "line": 0}, "line 0 does not exist"),
            ({"command": "get_hover", "file_path": "missing.py", "line": 1}, "there is no source file missing.py"),
            ({"command": "get_hover", "file_path": "notes.txt", "line": 1}, "there is no source file notes.txt"),
            ({"command": "get_hover", "file_path": "/etc/passwd", "line": 1}, "/etc/passwd is outside the repository /testbed"),
            ({"command": "get_hover", "file_path": "../../x.py", "line": 1}, "is outside the repository /testbed"),
            ({"command": "get_hover", "file_path": "outside/x.py", "line": 1}, "is outside the repository /testbed"),
            ({"command": "get_hover", "file_path": "ring_a/x.py", "line": 1}, "leads round in circles"),
            ({"command": "get_hover", "file_path": "a\0b.py", "line": 1}, "failure"),
            ({"command": "get_hover", "file_path": "x" * 5000, "line": 1}, "failure"),
            ({"command": "get_hover", "file_path": "long.py", "line": 1}, "over lsp.max_file_kib=1024"),
            (
                {"command": "get_definition", "file_path": "report.py", "line": 4, "symbol": "total_area"},
                "symbol 'total_area' is not on line 4 of report.py: 'def describe(count: int) -> str:'; it is on lines 1, 6",
            ),
            (
                {"command": "get_definition", "file_path": "report.py", "line": 6, "symbol": "area"},
                "symbol 'area' is not on line 6",
            ),
            (
                {"command": "get_definition", "file_path": "report.py", "line": 4, "symbol": "nowhere"},
                "nor on any other line of the file",
            ),
            (
                {"command": "get_call_hierarchy", "file_path": "report.py", "line": 6, "symbol": "areas"},
                "areas is nothing that is called",
            ),
        ]
        for arguments, wanted in asked:
            told = await setting.ask(**arguments)  # type: ignore[arg-type]
            assert wanted in told, (arguments, told)
            assert "Status: success" not in told

    async def test_odd_files_are_answered_for(self, setting: Setting) -> None:
        told = await setting.ask("get_definition", file_path="latin.py", line=3, symbol="value")
        assert "/testbed/latin.py, line 2" in told
        told = await setting.ask("get_definition", file_path="ü b.py", line=2, symbol="größe")
        assert "/testbed/ü b.py, line 1" in told
        if bubblewrap_works():
            told = await setting.ask("get_hover", file_path="same/shapes.py", line=19, symbol="total_area")
            assert "of geometry/shapes.py: found" in told  # the file itself, whatever way leads to it

    async def test_short_wording(self, setting: Setting) -> None:
        compact = ToolLimits(timeout_s=60.0, max_observation_bytes=4000, compact=True)
        told = await setting.ask("get_definition", compact, file_path="report.py", line=6, symbol="total_area")
        assert told == "/testbed/geometry/shapes.py:19: def total_area(shapes: list[Shape]) -> float:"
        told = await setting.ask("get_hover", compact, file_path="report.py", line=99)
        assert told == "error: line 99 does not exist: report.py has 11 lines"


async def test_one_call_of_the_registry_entry_leaves_nothing(images: FolderImages) -> None:
    need_server("python")
    if not bubblewrap_works():
        pytest.skip("the entry's default isolation is bubblewrap, which does not work here")
    async with opened(images, PYTHON.files, usable_config()) as setting:
        call = ToolCall("lsp_tool", {"command": "get_document_symbols", "file_path": "report.py"})
        told = await call_tool(call, TOOLS, setting.sandbox, PATIENT)
        assert "function describe (lines 4 to 7)" in told.text
    names = [Path(f"/proc/{process.pid}/cmdline") for process in descendants(os.getpid(), live_processes())]
    assert not [path for path in names if path.exists() and b"langserver" in path.read_bytes()]


async def test_tools_of_an_episode(images: FolderImages) -> None:
    need_server("python")
    config = EpisodeConfig(tools=("submit", "lsp_tool"), lsp=usable_config(servers=("python",)))
    async with open_tools(config) as tools:
        assert list(tools) == ["submit", "lsp_tool"]
        assert isinstance(tools["lsp_tool"], EpisodeTool)
        assert tools["lsp_tool"] is not TOOLS["lsp_tool"]
    with pytest.raises(ValueError, match=r"lsp\.isolation='firejail': use bubblewrap or none"):
        async with open_tools(EpisodeConfig(tools=("lsp_tool",), lsp=LspConfig(isolation="firejail"))):
            pass
    with pytest.raises(ValueError, match="no language server for 'cobol'"):
        select_servers(("cobol",))
