"""Harbor task directories: invented tasks, written as folders and read back."""

import base64
import os
from pathlib import Path
from typing import Any

import pytest

from envpool.dataset_rows import harbor_folder
from envpool.dataset_rows.dataset_row import RowError
from envpool.dataset_rows.task_rows import RowFileError, import_tasks, read_rows
from envpool.oracle import HiddenFile, Oracle
from envpool.problem import Problem
from envpool.task import Task
from envpool.task_sources import TASK_SOURCES
from tests.envpool.task_sources.row_examples import TASK_TOML, harbor_row, packed


def write_task(folder: Path) -> Path:
    for name in ("environment", "tests/data", "solution"):
        (folder / name).mkdir(parents=True)
    (folder / "task.toml").write_text(TASK_TOML)
    (folder / "instruction.md").write_text("Write hello.txt.")
    (folder / "environment" / "Dockerfile").write_text("FROM python:3.12\nWORKDIR /srv\n")
    (folder / "tests" / "test.sh").write_text("#!/bin/bash\npytest\n")
    (folder / "tests" / "test.sh").chmod(0o755)
    (folder / "tests" / "data" / "x.bin").write_bytes(b"\xff\x00")
    (folder / "solution" / "solve.sh").write_text("echo hi > hello.txt\n")
    (folder / "solution" / "solve.sh").chmod(0o755)
    return folder


def test_a_row_by_literal() -> None:
    task = TASK_SOURCES["harbor"](harbor_row())
    assert task == Task(
        problem=Problem("hello", "hello", "HEAD", "docker:registry.example/tasks/hello:1", "/app", "Write hello.txt."),
        oracle=Oracle(
            instance_id="hello",
            gold_patch="",
            test_patch="",
            fail_to_pass=("reward",),
            pass_to_pass=(),
            eval_script="mkdir -p /logs/verifier\nrm -f /logs/verifier/reward.txt /logs/verifier/reward.json\n"
            "bash /tests/test.sh\n",
            log_parser="exit_code",
            timeout_s=90.5,
            hidden_files=(
                HiddenFile("/tests/data/x.bin", b"\xff\x00", False),
                HiddenFile("/tests/test.sh", b"#!/bin/bash\npytest\n", True),
            ),
            resolution="reward_file",
        ),
        source="harbor",
        split="train",
        language="",
        licence="MIT",
        raw=task.raw,
        difficulty="hard",
    )


def test_a_folder_reads_as_its_row_and_a_folder_of_folders_in_name_order(tmp_path: Path) -> None:
    write_task(tmp_path / "hello")
    assert list(read_rows(tmp_path / "hello")) == [(0, harbor_row())]
    write_task(tmp_path / "a-first")
    assert [task.instance_id for task in import_tasks(tmp_path, "harbor").tasks] == ["a-first", "hello"]


def test_broken_folders_are_row_errors_and_the_rest_goes_on(tmp_path: Path) -> None:
    for name in ("a-fine", "b-no-instruction", "c-latin", "d-link", "e-pipe"):
        write_task(tmp_path / name)
    (tmp_path / "b-no-instruction" / "instruction.md").unlink()
    (tmp_path / "c-latin" / "task.toml").write_bytes(b'name = "caf\xe9"\n')
    (tmp_path / "d-link" / "tests" / "secret").symlink_to("/etc/hostname")
    os.mkfifo(tmp_path / "e-pipe" / "tests" / "pipe")
    result = import_tasks(tmp_path, "harbor")
    assert [task.instance_id for task in result.tasks] == ["a-fine"]
    assert [str(error) for error in result.errors] == [
        "row b-no-instruction: field (row) cannot be read (No such file or directory)",
        "row c-latin: field (row) has a task.toml, instruction.md or Dockerfile that is not UTF-8",
        "row d-link: field tests holds something that is no plain file: secret",
        "row e-pipe: field tests holds something that is no plain file: pipe",
    ]


def test_a_folder_that_is_too_large_or_no_task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RowFileError, match="without Harbor tasks"):
        list(read_rows(tmp_path))
    write_task(tmp_path / "hello")
    monkeypatch.setattr(harbor_folder, "MAX_FOLDER_BYTES", 10)
    assert [error.field for error in import_tasks(tmp_path, "harbor").errors] == ["tests"]


def test_the_workdir_of_the_dockerfile_is_the_second_choice() -> None:
    toml = TASK_TOML.replace('workdir = "/app"\n', "")
    assert TASK_SOURCES["harbor"](harbor_row(task_toml=toml)).problem.workdir == "/srv"
    with pytest.raises(RowError, match=r"environment\.workdir is missing"):
        TASK_SOURCES["harbor"](harbor_row(task_toml=toml, dockerfile="FROM x\n"))


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"task_toml": "= no toml"}, "task_toml"),
        ({"task_toml": "environment = 3"}, "task_toml"),
        ({"task_toml": ""}, "task_toml"),
        ({"task_toml": '[environment]\nworkdir = "/app"\n'}, "environment.docker_image"),
        ({"task_toml": TASK_TOML.replace("90.5", '"90"')}, "verifier.timeout_sec"),
        ({"task_toml": TASK_TOML.replace("90.5", "nan")}, "verifier.timeout_sec"),
        ({"instruction": ""}, "instruction"),
        ({"tests": [packed("run.sh", b"")]}, "tests"),
        ({"tests": [packed("test.sh", b""), packed("../../etc/passwd", b"")]}, "tests"),
        ({"tests": [packed("test.sh", b"") | {"base64": "no base64!"}]}, "tests"),
        ({"tests": None}, "tests"),
    ],
)
def test_the_field_at_fault_is_named(fields: dict[str, Any], field: str) -> None:
    with pytest.raises(RowError) as caught:
        TASK_SOURCES["harbor"](harbor_row(**fields))
    assert (caught.value.row_id, caught.value.field) == ("hello", field)


def test_the_solution_stays_in_the_raw_row_only() -> None:
    task = TASK_SOURCES["harbor"](harbor_row())
    secret = base64.b64encode(b"echo hi > hello.txt\n").decode()
    assert secret in task.raw
    assert secret not in repr((task.problem, task.oracle, task.preparation))
