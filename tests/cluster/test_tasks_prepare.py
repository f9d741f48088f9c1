"""`tasks prepare` from the command line, and prepared tasks in a run."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
from typer.testing import CliRunner

from cluster.cli import app
from cluster.progress_view import ProgressView
from cluster.run_folder import RunFolder
from cluster.stage import StageContext, StageError
from cluster.stages.tasks_stage import imported_rows, make_tasks, prepared_tasks
from cluster.tasks_prepare import knows_parser
from configs.run_config import RunConfig
from configs.tasks_config import MicroTasksConfig, TasksConfig
from envpool.dataset_rows.parser_names import SWEBENCH_PARSERS
from envpool.task_sets.task_file import iter_tasks
from envpool.task_sets.task_store import read_tasks
from tests.envpool.curation.test_decontamination import EDITED, ISSUE, OTHER
from tests.envpool.task_sources.row_examples import install_config, rebench_row, swe_row


def run(*words: object) -> Any:
    return CliRunner().invoke(app, ["tasks", *map(str, words)], env={"COLUMNS": "200"})


@pytest.fixture
def inputs(tmp_path: Path) -> tuple[Path, Path]:
    """A held-out file, prepared, and training rows: one fine, one with a held-out issue, one broken, one of an unknown parser."""
    heldout, rows = tmp_path / "heldout.json", tmp_path / "rows.json"
    heldout.write_text(json.dumps([swe_row(instance_id="v-1", problem_statement=ISSUE)]))
    unknown = install_config(log_parser="parse_log_of_nobody")
    train = [
        rebench_row(instance_id="a-1", repo="one/repo", problem_statement=OTHER),
        rebench_row(instance_id="a-2", repo="one/repo", problem_statement=EDITED),
        rebench_row(instance_id="a-3", repo="one/repo", patch="no diff"),
        rebench_row(instance_id="a-4", repo="one/repo", install_config=unknown),
        rebench_row(instance_id="a-5", repo="astropy/astropy", problem_statement="Something else is wrong here."),
    ]
    rows.write_text(json.dumps(train))
    prepared = tmp_path / "heldout.parquet"
    result = run("prepare", heldout, "--source", "swe_bench", "--to", prepared, "--split", "heldout")
    assert result.exit_code == 0, result.output
    return prepared, rows


def test_the_account_in_json(tmp_path: Path, inputs: tuple[Path, Path]) -> None:
    target = tmp_path / "train.parquet"
    result = run("prepare", inputs[1], "--source", "swe_rebench", "--to", target, "--against", inputs[0], "--json")
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert (told["rows"], told["tasks"], told["errors"]) == (5, 1, {"log_parser": 1, "patch": 1})
    assert [(clash["instance_id"], clash["reason"]) for clash in told["contaminated"]] == [
        ("a-2", "issue text"),
        ("a-5", "repository"),
    ]
    assert [(task.instance_id, task.split, task.source) for task in iter_tasks(target)] == [("a-1", "train", "swe_rebench")]


def test_the_account_as_tables(tmp_path: Path, inputs: tuple[Path, Path]) -> None:
    target = tmp_path / "train.parquet"
    options = ("--source", "swe_rebench", "--to", target, "--against", inputs[0], "--keep-repositories")
    result = run("prepare", inputs[1], *options)
    assert result.exit_code == 0, result.output
    cells = [[cell.strip() for cell in line.strip("│┃ ").split("│")] for line in result.stdout.splitlines()]
    for expected in (
        ["read", "5"],
        ["left out: field log_parser", "1"],
        ["left out: field patch", "1"],
        ["left out: held-out set has the same issue text", "1"],
        ["tasks written", "2"],
        ["of them near-duplicates of an earlier task", "0"],
        ["left out", "a-2", "v-1", "0.69"],
    ):
        assert expected in cells
    assert (tmp_path / "train.parquet.errors.jsonl").is_file()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["prepare"], "needs at least one INPUT, --source NAME and --to FILE"),
        (["prepare", "nowhere.json", "--source", "swe_bench", "--to", "x.parquet"], "nowhere.json: no such file"),
        (["prepare", "nowhere.json", "--source", "swe", "--to", "x.parquet"], "unknown task source 'swe'"),
        (["prepare", "hf:name", "--source", "swe_bench", "--to", "x.parquet"], "expected hf:owner/name"),
        (
            ["prepare", "a.json", "--source", "swe_bench", "--to", "x.parquet", "--against", "no.parquet"],
            "no.parquet: no such file",
        ),
        (["prepare", "a.json", "--source", "swe_bench", "--to", "x.parquet", "--split", "dev"], "unknown split 'dev'"),
        (["prepare", "a.json", "--source", "swe_bench", "--to", "x.parquet", "--plan"], "tasks prepare makes no run"),
        (["--source", "swe_bench"], "belong to `tasks prepare INPUT...`"),
    ],
)
def test_mistakes_are_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], message: str) -> None:
    monkeypatch.chdir(tmp_path)
    result = run(*words)
    assert result.exit_code == 2
    assert result.stderr.startswith("error: ")
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_parsers_that_are_known() -> None:
    assert len(SWEBENCH_PARSERS) == 57
    for name in ("parse_log_r2e", "parse_log_pytest_verbose", "exit_code", "parse_log_django"):
        assert knows_parser(name)
    assert not knows_parser("parse_log_of_nobody")


def test_the_list_of_parsers_is_swebenchs() -> None:
    parsers = pytest.importorskip("swebench.harness.log_parsers", reason="swebench (the extra `grade`) is not installed")
    assert set(parsers.PARSER_REGISTRY) >= SWEBENCH_PARSERS


def test_a_stage_takes_prepared_files_and_rows(tmp_path: Path, inputs: tuple[Path, Path]) -> None:
    assert [task.instance_id for task in prepared_tasks(inputs[0])] == ["v-1"]
    tasks, errors = imported_rows(inputs[1], "swe_rebench")
    assert [task.instance_id for task in tasks] == ["a-1", "a-2", "a-5"]
    assert [error.split(":")[0] for error in errors] == ["row a-3", "row a-4"]
    with pytest.raises(StageError, match=r"tasks\.prepared: .*none\.parquet: no such file; expected a file of"):
        prepared_tasks(tmp_path / "none.parquet")


async def test_a_run_keeps_prepared_tasks_beside_its_own(tmp_path: Path, inputs: tuple[Path, Path]) -> None:
    target = tmp_path / "train.parquet"
    run("prepare", inputs[1], "--source", "swe_rebench", "--to", target)
    micro = MicroTasksConfig(num_train=2, num_heldout=1)
    tasks = TasksConfig(micro=micro, prepared=(str(target), str(inputs[0])), rows=str(inputs[1]))
    record, folder = await made(tmp_path / "one", replace(tasks, rows=""))
    assert record == {"micro_train": 2, "micro_heldout": 1, "prepared": 4}
    kept = read_tasks(folder.tasks)
    assert kept[3:] == [*iter_tasks(target), *iter_tasks(inputs[0])]
    assert [task.split for task in kept[3:]] == ["train", "train", "train", "heldout"]
    with pytest.raises(StageError, match="instance_id a-1 is used twice"):
        await made(tmp_path / "two", tasks)


async def made(root: Path, tasks: TasksConfig) -> tuple[dict[str, Any], RunFolder]:
    config = RunConfig(runs_dir=str(root), tasks=tasks)
    folder = RunFolder.create(config)
    context = StageContext(config, folder, cast(Any, None), cast(Any, None), ProgressView())
    return await make_tasks(context), folder
