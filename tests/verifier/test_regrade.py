"""Recorded runs graded again, and SWE-bench's own tools on our evaluation folder."""

import contextlib
import io
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cluster.cli import app
from cluster.predictions_command import grade_predictions
from cluster.regrade_command import print_regraded
from cluster.run_folder import RunFolder
from configs.stage_loading import load_config
from envpool.dataset_rows.dataset_row import RowError
from envpool.dataset_rows.row_file import RowFileError
from envpool.sandbox_parts.image_cache import FolderImages
from envpool.task_sets.task_store import write_tasks
from tests.verifier.pytest_repo import ADD, BUGGY, DOUBLE, FIXED, GOLD, TASK, add_pytest_image
from tests.verifier.small_repo import file_diff
from verifier.evaluation_folder import test_output as output_file
from verifier.predictions import Prediction, read_predictions
from verifier.regrade import Regraded, RegradeError, regrade_log, regrade_trajectories
from verifier.test_report import TestReport, TestStatus

SHARED = Path(__file__).parents[2].parent / "shared" / "data"
DS = {"instance_id": "a-1", "FAIL_TO_PASS": '["t.py::a"]', "PASS_TO_PASS": ["t.py::b"], "log_parser": "parse_log_pytest"}
ROW = {"ds": DS, "reward": 1.0, "test_output": "PASSED t.py::a\nPASSED t.py::b\n"}


def regraded(tmp_path: Path, *rows: object) -> list[Regraded | RowError]:
    path = tmp_path / "t.jsonl"
    path.write_text("".join(row if isinstance(row, str) else json.dumps(row) + "\n" for row in rows))
    return list(regrade_trajectories(path))


def test_rows_are_graded_and_broken_ones_named(tmp_path: Path) -> None:
    found = regraded(
        tmp_path,
        ROW,
        ROW | {"reward": 0.0},
        {"reward": 1.0},
        "not json\n",
        ROW | {"reward": "1"},
        ROW | {"ds": DS | {"log_parser": "parse_log_none"}},
        ROW | {"ds": DS | {"FAIL_TO_PASS": 3}},
    )
    assert [(item.recorded, item.report.resolved, item.agrees) for item in found if isinstance(item, Regraded)] == [
        (True, True, True),
        (False, True, False),
    ]
    assert [item.field for item in found if isinstance(item, RowError)] == ["ds", "(row)", "reward", "log_parser", "FAIL_TO_PASS"]


def test_the_real_runs_print_as_recorded(capsys: pytest.CaptureFixture[str]) -> None:
    path = SHARED / "swe_master" / "trajectories" / "swe_rebench_glm46.jsonl"
    if not path.is_file():
        pytest.skip("the recorded runs are not here")
    assert print_regraded(path, None, None, "", as_json=True) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["recorded"] == row["resolved"] for row in rows] == [True] * 6
    assert [row["instance_id"] for row in rows][:2] == ["fair-workflows__nanopub-140", "fetzerch__kasserver-6"]


def test_the_real_logs_of_another_harness_print_as_recorded() -> None:
    folders = sorted(path.parent for path in (SHARED / "swe_smith_logs").glob("*/report.json"))
    if not folders:
        pytest.skip("the recorded logs are not here")
    for folder in folders:
        found = regrade_log(folder / "test_output.txt", folder / "report.json")
        assert found.agrees
        assert found.report.grader.endswith("parse_log_pytest_verbose")
        assert not regrade_log(folder / "test_output.txt", folder / "report.json", "parse_log_pytest").report.resolved


def test_reports_and_logs_that_cannot_be_read(tmp_path: Path) -> None:
    log, report = tmp_path / "log", tmp_path / "report.json"
    for text, reason in [
        (None, "No such file"),
        ("{", "not valid JSON"),
        ("[]", "no tests_status"),
        ('{"tests_status": {}}', "FAIL_TO_PASS"),
    ]:
        if text is not None:
            report.write_text(text)
        with pytest.raises(RegradeError, match=reason):
            regrade_log(log, report)
    report.write_text(
        '{"a-1": {"resolved": true, "tests_status": {"FAIL_TO_PASS": {"success": ["t.py::a"]}, "PASS_TO_PASS": {}}}}'
    )
    with pytest.raises(RegradeError, match="No such file"):
        regrade_log(log, report)
    log.write_bytes(b"\xff\xfe noise \x00\nPASSED t.py::a\n")
    found = regrade_log(log, report)
    assert (found.instance_id, found.agrees, found.report.resolved) == ("a-1", True, True)


def test_a_huge_log_is_read_from_its_end(tmp_path: Path) -> None:
    log, report = tmp_path / "log", tmp_path / "report.json"
    report.write_text('{"resolved": true, "tests_status": {"FAIL_TO_PASS": {"success": ["t.py::a"]}, "PASS_TO_PASS": {}}}')
    with log.open("wb") as file:
        file.seek(1 << 30)  # a sparse gigabyte
        file.write(b"\nPASSED t.py::a\n")
    assert regrade_log(log, report).report.resolved


@pytest.mark.parametrize("name", ["p.jsonl", "p.json", "by_id.json"])
def test_predictions_in_their_three_shapes(tmp_path: Path, name: str) -> None:
    rows = [{"instance_id": "a", "model_name_or_path": "m/n", "model_patch": "d"}, {"instance_id": "b", "model_patch": None}]
    path = tmp_path / name
    text = {
        "p.jsonl": "\n".join(map(json.dumps, rows)),
        "p.json": json.dumps(rows),
        "by_id.json": json.dumps(
            {row["instance_id"]: {key: value for key, value in row.items() if key != "instance_id"} for row in rows}
        ),
    }
    path.write_text(text[name])
    found = [item for item in read_predictions(path) if isinstance(item, Prediction)]
    assert [(item.instance_id, item.model, item.patch.diff) for item in found] == [("a", "m/n", "d"), ("b", "model", "")]


def test_predictions_that_cannot_be_used(tmp_path: Path) -> None:
    path = tmp_path / "p.json"
    rows = [1, {}, {"instance_id": "../x"}, {"instance_id": "a", "model_name_or_path": "../../m"}]
    path.write_text(json.dumps([*rows, {"instance_id": "a", "model_patch": 1}]))
    assert all(isinstance(item, RowError) for item in read_predictions(path))
    path.write_text("[")
    with pytest.raises(RowFileError, match="truncated"):
        list(read_predictions(path))


def test_swebenchs_own_tools_grade_and_sum_up_our_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A fix, a failure, a patch that does not apply and a forged log, graded here; then by swebench 5 from what was written."""
    harness = pytest.importorskip("swebench.harness.run_evaluation")
    reporting = pytest.importorskip("swebench.harness.reporting")
    specs = pytest.importorskip("swebench.harness.utils")
    from dataclasses import replace

    diffs = {
        "fix": GOLD,
        "failure": file_diff("src/calc.py", BUGGY, BUGGY.replace("a - b", "b")),
        "broken": file_diff("src/calc.py", "nothing\n", "x\n"),
        "forged": file_diff(
            "src/calc.py",
            BUGGY,
            f"print('PASSED {ADD}\\nPASSED {DOUBLE}\\n>>>>> End Test Output', flush=True)\nimport os\nos._exit(0)\n" + BUGGY,
        ),
        "empty": "",
    }
    tasks = [
        replace(TASK, problem=replace(TASK.problem, instance_id=name), oracle=replace(TASK.oracle, instance_id=name))
        for name in diffs
    ]
    images = tmp_path / "images"
    add_pytest_image(FolderImages(images), tmp_path / "tree")
    predictions = [{"instance_id": name, "model_name_or_path": "org/model", "model_patch": diff} for name, diff in diffs.items()]
    path = tmp_path / "preds.jsonl"
    path.write_text("\n".join(map(json.dumps, [*predictions, {"instance_id": "unknown", "model_patch": "x"}])))
    said: list[str] = []
    code = grade_predictions(load_config(None, []), tasks, images, path, tmp_path / "graded", "run1", said.append)
    assert code == 1
    ours = {row["instance_id"]: row for row in map(json.loads, said)}
    assert ours.pop("unknown")["error"] == "no task of that name"
    assert [name for name, row in ours.items() if row["resolved"]] == ["fix"]

    monkeypatch.chdir(tmp_path / "graded")
    dataset = [json.loads(line) for line in Path("dataset.jsonl").read_text().splitlines()]
    assert len(dataset) == len(diffs)
    for row, prediction in zip(dataset, predictions, strict=True):
        with contextlib.redirect_stdout(io.StringIO()):
            name, report = harness.run_instance(specs.make_test_spec(row), prediction, None, "run1", rewrite_reports=True)
        assert report[name]["resolved"] is ours[name]["resolved"], name
    summary = reporting.make_run_report({p["instance_id"]: p for p in predictions}, dataset, "run1")
    counted = json.loads(Path(summary).read_text())
    assert counted["resolved_ids"] == ["fix"]
    assert sorted(counted["unresolved_ids"]) == ["broken", "failure", "forged"]
    assert counted["empty_patch_ids"] == ["empty"]


def test_markers_in_a_log_are_defused() -> None:
    log = "x\n>>>>> End Test Output\n>>>>> Test Exit Code: 0\n"
    text = output_file(TestReport("a", {"t": TestStatus.PASSED}, False, True, 1, log, notes=("no report",)))
    assert text.count(">>>>> End Test Output") == 1
    assert text.endswith(">>>>> Test Exit Code: 1\n>>>>> Tests Errored: no report\n")
    assert FIXED not in text


def test_predictions_are_graded_with_the_settings_of_their_run(tmp_path: Path) -> None:
    """The run lets patches change the tests' set-up; a word on the command line, and a file, replace what it says."""
    run = RunFolder.create(load_config(None, [f"runs_dir={tmp_path}", "verifier.protect_test_setup=false"]))
    add_pytest_image(FolderImages(run.images), tmp_path / "tree")
    write_tasks(run.tasks, [TASK])
    predictions, strict = tmp_path / "preds.jsonl", tmp_path / "strict.yaml"
    diff = file_diff("setup.cfg", "[metadata]\nname = calc\n", "[metadata]\nname = calc2\n") + GOLD
    predictions.write_text(json.dumps({"instance_id": "calc-7", "model_name_or_path": "m", "model_patch": diff}))
    strict.write_text("verifier: {protect_test_setup: true}\n")

    def left_out(tasks: Path, *words: str) -> tuple[bool, int]:
        command = ["grade", "--predictions", str(predictions), "--tasks", str(tasks), "--to", str(tmp_path / "graded"), *words]
        row = json.loads(CliRunner().invoke(app, command).stdout)
        return row["resolved"], len(row["dropped"])

    assert left_out(run.root) == (True, 0)
    assert left_out(run.root, "verifier.protect_test_setup=true") == (True, 1)
    assert left_out(run.root, str(strict)) == (True, 1)
    assert left_out(run.tasks) == (True, 1)  # a folder of tasks is no run: the defaults
