"""Which model `swe-master serve` takes, and what it refuses."""

import socket
from pathlib import Path

import pytest
from typer.testing import CliRunner

from actors.openai_server import ServeError
from cluster.cli import app
from cluster.run_folder import RunFolder
from cluster.serve_command import model_to_serve
from configs.run_config import RunConfig
from trainers.model_paths import resolve_model_path

CLI = CliRunner()


def test_a_run_s_newest_policy_or_the_named_one(tmp_path: Path) -> None:
    run = RunFolder.create(RunConfig(runs_dir=str(tmp_path)))
    with pytest.raises(ServeError, match="holds no model grpo or sft; it has none"):
        model_to_serve(str(run.root))
    for stage in ("sft", "world-model"):
        run.hf(stage).mkdir()
        (run.hf(stage) / "config.json").write_text("{}")
    assert model_to_serve(str(run.root)) == run.hf("sft")
    assert model_to_serve(str(run.root), "world-model") == run.hf("world-model")
    with pytest.raises(ServeError, match="holds no model grpo; it has sft, world-model"):
        model_to_serve(str(run.root), "grpo")


def test_a_model_folder(tmp_path: Path) -> None:
    assert model_to_serve("tiny_base") == resolve_model_path("tiny_base")
    with pytest.raises(ServeError, match="--policy belongs to a run folder"):
        model_to_serve("tiny_base", "sft")


def test_mistakes_are_one_line(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        for words, reason in (
            (["serve", str(tmp_path)], "no model folder at"),
            (["serve", "tiny_base", "engine.max_len=4"], "max_model_len"),
            (["serve", "tiny_base", "--port", str(taken.getsockname()[1])], "cannot listen on 127.0.0.1"),
        ):
            result = CLI.invoke(app, words)
            assert result.exit_code == 2
            assert reason in result.output
            assert "Traceback" not in result.output
