"""Files of trajectories between formats, on the command line."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cluster.cli import app
from envpool.trajectories.trajectory_store import read_trajectories

CLI = CliRunner()
DOCUMENT = {
    "trajectory_steps": [
        {"thought": "Look. ", "action": "<function=bash>\n<parameter=command>ls</parameter>\n</function>", "observation": "a"}
    ],
    "ds": {"instance_id": "a/b-1"},
    "problem_statement": "It breaks",
    "exit_reason": "agent",
    "reward": 1.0,
}


def run(*words: str | Path) -> tuple[int, str]:
    result = CLI.invoke(app, ["trajectories", *map(str, words)])
    return result.exit_code, result.output


@pytest.mark.parametrize(
    ("form", "name"), [("atif", "00000-a_b-1.json"), ("swe_agent", "00000-a_b-1.traj"), ("openai", "00000-a_b-1.json")]
)
def test_a_file_becomes_a_folder_and_a_line_file(tmp_path: Path, form: str, name: str) -> None:
    source = tmp_path / "in.jsonl"
    source.write_text("\n".join([json.dumps(DOCUMENT), "", json.dumps(DOCUMENT)]))
    code, output = run(source, "--from", "r2e_gym", "--format", form, "--to", tmp_path / "out")
    assert (code, "2 trajectories" in output) == (0, True)
    assert (tmp_path / "out" / name).is_file()
    assert len(list((tmp_path / "out").iterdir())) == 2
    code, _ = run(tmp_path / "out" / name, "--from", form, "--format", "r2e_gym", "--to", tmp_path / "back.jsonl")
    assert code == 0
    assert (
        json.loads((tmp_path / "back.jsonl").read_text())["trajectory_steps"][0]["action"]
        == DOCUMENT["trajectory_steps"][0]["action"]
    )


@pytest.mark.parametrize(
    ("text", "words", "reason"),
    [
        ("{}\n{", ("--from", "r2e_gym"), "in.jsonl: document 1: r2e_gym ?: trajectory_steps is missing"),
        ("[1]\n", ("--from", "r2e_gym"), "document 1 is list"),
        ("{", ("--from", "r2e_gym"), "document 1 is not valid JSON"),
        ("", ("--from", "nonsense"), "unknown format 'nonsense'"),
        ("", (), "is not a run folder"),
    ],
)
def test_what_cannot_be_read_is_one_line(tmp_path: Path, text: str, words: tuple[str, ...], reason: str) -> None:
    source = tmp_path / "in.jsonl"
    source.write_text(text)
    code, output = run(source, *words, "--to", tmp_path / "out")
    assert code == 2
    assert reason in output
    assert output.count("\n") == 1


def test_to_parquet_and_back(tmp_path: Path) -> None:
    """Imported trajectories are stored like played ones: tokens, scores, and nothing of the conversation lost."""
    source, stored, back = tmp_path / "in.jsonl", tmp_path / "store" / "runs.parquet", tmp_path / "back.jsonl"
    source.write_text(f"{json.dumps(DOCUMENT)}\n{json.dumps(DOCUMENT | {'reward': 0.0})}\n")
    assert run(source, "--from", "r2e_gym", "--format", "parquet", "--to", stored)[0] == 0
    rows = [(t.sample_index, len(t.turns), c["resolved"], c["reward"]) for t, c in read_trajectories(stored)]
    assert rows == [(0, 1, True, 1.0), (1, 1, False, 0.0)]
    assert run(stored, "--from", "parquet", "--format", "r2e_gym", "--to", back)[0] == 0
    first = json.loads(back.read_text().splitlines()[0])
    names = ("thought", "action", "observation")
    assert {name: first["trajectory_steps"][0][name] for name in names} == DOCUMENT["trajectory_steps"][0]
    assert (first["reward"], first["problem_statement"], first["ds"]) == (1.0, "It breaks", {"instance_id": "a/b-1"})
    code, output = run(source, "--from", "r2e_gym", "--format", "parquet", "--model", tmp_path, "--to", stored)
    assert (code, output.count("\n")) == (2, 1)
