"""The copy of a sandbox's files that language servers read: in step with every change, in processes and in containers."""

import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from configs.lsp_config import LspConfig
from configs.sandbox_config import SandboxConfig
from envpool.lsp.lsp_errors import MirrorError
from envpool.lsp.sandbox_mirror import Changes, SandboxMirror
from envpool.sandbox import ExecResult, Sandbox
from envpool.sandbox_parts.image_cache import FolderImages
from envpool.sandboxes.docker_sandbox import DockerBackend
from envpool.sandboxes.process_sandbox import ProcessBackend
from envpool.sandboxes.scripted_sandbox import ScriptedSandbox, said
from envpool.tools.lsp_tool import LspTool
from tests.envpool.lsp.lsp_projects import PYTHON
from tests.envpool.lsp.lsp_setting import PATIENT, Setting, need_server, usable_config

PATTERNS = ("*.py", "*.d.ts", "package.json")
FILES = {
    "a.py": "a = 1\n",
    "pkg/b.py": "b = 2\n",
    "words.txt": "no\n",
    "node_modules/x/index.d.ts": "x\n",
    "node_modules/x/y.py": "",
}


@pytest.fixture
async def sandbox(images: FolderImages, isolation: str) -> AsyncIterator[Sandbox]:
    backend = ProcessBackend(SandboxConfig(isolation=isolation), images, owner="test-mirror")
    yield await backend.start(images.add("mirror", FILES), "/testbed")
    await backend.close()


def mirror_of(sandbox: Sandbox, tmp_path: Path, **limits: int) -> SandboxMirror:
    (tmp_path / "mirror").mkdir()
    return SandboxMirror(sandbox, tmp_path / "mirror", PATTERNS, LspConfig(**limits))  # type: ignore[arg-type]


def on_disk(mirror: SandboxMirror) -> dict[str, str]:
    root = mirror.folder.root
    return {str(path.relative_to(root)): path.read_text() for path in sorted(root.rglob("*")) if path.is_file()}


async def test_every_change_arrives(sandbox: Sandbox, tmp_path: Path) -> None:
    mirror = mirror_of(sandbox, tmp_path)
    first = await mirror.sync(30)
    assert first == Changes(created=("a.py", "node_modules/x/index.d.ts", "pkg/b.py"))
    assert on_disk(mirror) == {"a.py": "a = 1\n", "node_modules/x/index.d.ts": "x\n", "pkg/b.py": "b = 2\n"}
    assert not await mirror.sync(30)

    await sandbox.run("echo 'a = 9' > a.py; mkdir new; echo c > new/c.py; rm -r pkg", 10)
    assert await mirror.sync(30) == Changes(created=("new/c.py",), edited=("a.py",), deleted=("pkg/b.py",))
    assert on_disk(mirror) == {"a.py": "a = 9\n", "new/c.py": "c\n", "node_modules/x/index.d.ts": "x\n"}

    # Same size and an older time, a file that becomes a folder, a touch that changes nothing.
    await sandbox.run("echo 'a = 8' > a.py; touch -d '2001-01-01' a.py; touch new/c.py", 10)
    assert await mirror.sync(30) == Changes(edited=("a.py",))
    await sandbox.run("rm new/c.py; mkdir new/c.py; echo d > new/c.py/d.py", 10)
    assert await mirror.sync(30) == Changes(created=("new/c.py/d.py",), deleted=("new/c.py",))
    assert on_disk(mirror)["new/c.py/d.py"] == "d\n"

    await sandbox.run("mv new/c.py/d.py a.py", 10)
    assert (await mirror.sync(30)).deleted == ("new/c.py/d.py",)
    assert on_disk(mirror) == {"a.py": "d\n", "node_modules/x/index.d.ts": "x\n"}


async def test_edits_within_one_tick_are_seen(sandbox: Sandbox, tmp_path: Path) -> None:
    mirror = mirror_of(sandbox, tmp_path)
    for number in range(20):
        await sandbox.write_file("a.py", b"%02d" % number)
        await mirror.sync(30)
        assert on_disk(mirror)["a.py"] == f"{number:02d}"


async def test_many_files_come_as_archives(sandbox: Sandbox, tmp_path: Path) -> None:
    await sandbox.run('mkdir many; for i in $(seq 900); do echo $i > "many/it\'s $i.py"; done', 60)
    mirror = mirror_of(sandbox, tmp_path)
    await mirror.sync(60)
    assert len(mirror.files) == 903
    assert on_disk(mirror)["many/it's 450.py"] == "450\n"


async def test_limits_leave_files_out_and_say_why(sandbox: Sandbox, tmp_path: Path) -> None:
    await sandbox.run("yes | head -c 3000 > big.py", 10)
    mirror = mirror_of(sandbox, tmp_path, max_files=2, max_file_kib=2)
    await mirror.sync(30)
    assert mirror.files == ["a.py", "pkg/b.py"]
    assert mirror.left_out == {
        "big.py": "2 KiB, over lsp.max_file_kib=2",
        "node_modules/x/index.d.ts": "more than lsp.max_files=2 files",
    }


async def test_links_and_what_a_shell_was_told(sandbox: Sandbox, tmp_path: Path) -> None:
    """An agent's functions and variables do not reach the listing; links are copied as links."""
    await sandbox.run(
        "find() { echo nothing; }; tar() { echo nothing; }; PATH=/nowhere:$PATH; cd pkg; /bin/ln -s ../a.py l.py", 10
    )
    mirror = mirror_of(sandbox, tmp_path)
    assert (await mirror.sync(30)).created == ("a.py", "node_modules/x/index.d.ts", "pkg/b.py", "pkg/l.py")
    assert mirror.folder.resolved("pkg/l.py") == "a.py"
    assert mirror.files == ["a.py", "node_modules/x/index.d.ts", "pkg/b.py"]


@pytest.mark.parametrize(
    ("result", "message"),
    [
        (said("find: unrecognized: -printf\n", 1), r"cannot be listed \(GNU find is needed\): find: unrecognized"),
        (said("", 127), "cannot be listed"),
        (ExecResult(124, "", truncated=False, timed_out=True, seconds=1.0), "too many files to be listed"),
        (ExecResult(0, "", truncated=True, timed_out=False, seconds=1.0), "too many files to be listed"),
    ],
)
async def test_a_sandbox_that_cannot_list(result: ExecResult, message: str, tmp_path: Path) -> None:
    mirror = mirror_of(ScriptedSandbox({}, lambda command: result), tmp_path)
    with pytest.raises(MirrorError, match=message):
        await mirror.sync(5)


async def test_a_list_that_lies_writes_nothing_outside(tmp_path: Path) -> None:
    """Links that lead out of the copy, and files listed below them."""
    outside = tmp_path / "outside"
    outside.mkdir()
    listing = f"99.0\nl 1 1.0 1.0 1 door\0{outside}\0f 3 1.0 1.0 2 door/x.py\0\0f 3 1.0 1.0 3 ../up.py\0\0f 3 1.0 1.0 4 ok.py\0\0"
    sandbox = ScriptedSandbox({"/testbed/door/x.py": "bad", "/testbed/ok.py": "yes"}, lambda command: said(listing))
    mirror = mirror_of(sandbox, tmp_path)
    await mirror.sync(5)
    await mirror.sync(5)
    assert list(outside.iterdir()) == []
    assert not (tmp_path / "up.py").exists()
    assert on_disk(mirror)["ok.py"] == "yes"


@pytest.mark.docker
@pytest.mark.timeout(300)
async def test_in_a_container(docker_engine: str, images: FolderImages) -> None:
    """Nothing is installed into the container; its files are asked about as any other's."""
    need_server("python")
    backend = DockerBackend(SandboxConfig(docker_host=docker_engine), images, "test-lsp")
    tool = LspTool().opened(usable_config(servers=("python",)))
    try:
        sandbox = await backend.start(images.add("project", PYTHON.files), "/testbed")
        setting = Setting(sandbox, tool)
        told = await setting.ask("get_definition", file_path="report.py", line=6, symbol="total_area")
        assert "/testbed/geometry/shapes.py, line 19 in function total_area" in told
        await sandbox.run("sed -i '1i # one more line' geometry/shapes.py", 20)
        told = await setting.ask("get_definition", file_path="report.py", line=6, symbol="total_area")
        assert "/testbed/geometry/shapes.py, line 20 in function total_area" in told
        assert re.search(r"^ +20 def total_area", told, re.MULTILINE)
        processes = await sandbox.run("ls /proc | grep -c '^[0-9]'; ls -A /tmp; ls -A /testbed", 20)
        assert "node" not in (await sandbox.run("cat /proc/[0-9]*/cmdline | tr '\\0' ' '", 20)).output
        assert processes.output.split("\n")[1:] == ["geometry", "report.py", ""] or ".git" in processes.output
        assert PATIENT.timeout_s > 0
    finally:
        await tool.close()
        await backend.close()
