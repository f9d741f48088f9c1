"""What the documents tell people to type: it parses, what it names exists, and the tutorial runs from start to end."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import click
import pytest
import typer

from cluster.cli import app
from configs.stage_loading import load_config
from tests.cluster.doc_commands import ShellBlock, commands, shell_blocks
from tests.envpool.packages.small_sdist import SDIST

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "benchmarks" / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCKS = [block for page in PAGES for block in shell_blocks(page)]
PLACEHOLDER = ("...", "VERB", "[CONFIG.yaml]")


def each_command(*programs: str) -> list[tuple[str, list[str]]]:
    """(page, words after the program) of every use of one of the programs; there must be one, or nothing is tested."""
    found = []
    for block in BLOCKS:
        for words in commands(block):
            at = next((index for index, word in enumerate(words) if word in programs), None)
            if at is not None and not any(word in PLACEHOLDER for word in words):
                found.append((block.path.name, words[at + 1 :]))
    assert found, f"no document uses {' or '.join(programs)}"
    return found


@pytest.mark.parametrize(("page", "words"), each_command("swe-master"), ids=lambda value: str(value)[:60])
def test_every_swe_master_command_parses(page: str, words: list[str]) -> None:
    group = typer.main.get_command(app)
    context = click.Context(group)
    while isinstance(group, click.Group) or hasattr(group, "commands"):
        command = group.commands.get(words[0])  # type: ignore[attr-defined]
        assert command is not None, f"{page}: there is no verb {words[0]}"
        group, words = command, words[1:]
    parsed = group.make_context(group.name, list(words), parent=context, resilient_parsing=False)
    settings = [str(word) for word in words if "=" in word and not word.startswith("-")]
    config_file = next((ROOT / word for word in words if word.endswith(".yaml") and (ROOT / word).exists()), None)
    load_config(config_file, settings)
    assert parsed is not None


def test_every_named_module_and_file_exists() -> None:
    for page, words in each_command("python", "python3"):
        if "-m" in words:
            module = words[words.index("-m") + 1]
            assert importlib.util.find_spec(module) is not None, f"{page}: there is no module {module}"
        elif words and words[0].endswith(".py"):
            assert (ROOT / words[0]).is_file(), f"{page}: there is no {words[0]}"


def test_every_make_target_exists() -> None:
    targets = {line.split(":")[0] for line in (ROOT / "Makefile").read_text().splitlines() if line[:1].isalpha() and ":" in line}
    assert {words[0] for _, words in each_command("make")} <= targets


@pytest.mark.ray
@pytest.mark.engine
@pytest.mark.timeout(1600)
def test_the_tutorial_runs(tmp_path: Path) -> None:
    blocks = [block for block in BLOCKS if block.path.name == "tutorial.md" and block.run]
    assert len(blocks) == 6
    for name, text in SDIST.items():
        (tmp_path / "mypkg" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "mypkg" / name).write_text(text)
    script = "set -euo pipefail\n" + "\n".join(block.text for block in blocks)
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "NO_COLOR": "1"}
    done = subprocess.run(
        ["bash", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=1500, check=False
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    assert (tmp_path / "mine.html").stat().st_size > 10_000
    assert (tmp_path / "mine-model" / "model" / "config.json").is_file()
    assert list((tmp_path / "atif").iterdir())


def test_blocks_are_read() -> None:
    block = ShellBlock(Path("x.md"), "cat > a <<'E'\nswe-master bad\nE\nswe-master tasks \\\n    a=1  # comment\n", run=False)
    assert commands(block) == [["cat", ">", "a"], ["swe-master", "tasks", "a=1"]]
