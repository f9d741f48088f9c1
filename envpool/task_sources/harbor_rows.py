"""Harbor task directories, read into rows by `envpool.dataset_rows.harbor_folder`.

A row has `instance_id`, the texts `task_toml`, `instruction` and `dockerfile`, and `tests` and `solution`: lists of
`{path, base64, executable}`. The tests enter the sandbox for grading only; `tests/test.sh` leaves a number in
`/logs/verifier/reward.txt`. The solution is a script and no diff, so it stays in the raw row.
"""

import base64
import binascii
import re
import tomllib
from collections.abc import Mapping
from typing import Any

from envpool.dataset_rows.dataset_row import Row, RowError, row_id, text
from envpool.dataset_rows.swe_bench_fields import GRADING_TIMEOUT_S, checked_image, licence, raw_json
from envpool.diff_paths import leaves_repository
from envpool.oracle import HiddenFile, Oracle
from envpool.problem import Problem
from envpool.task import Task

EVAL_SCRIPT = "mkdir -p /logs/verifier\nrm -f /logs/verifier/reward.txt /logs/verifier/reward.json\nbash /tests/test.sh\n"
_WORKDIR = re.compile(r"^\s*WORKDIR\s+\"?(/[\w./-]*)\"?\s*$", re.MULTILINE | re.IGNORECASE)


def parse_row(row: Row) -> Task:
    """One task directory as a task; raises RowError. A task that is built from a Dockerfile needs its built image's name."""
    instance_id = text(row, "instance_id")
    config = _toml(row)
    environment, metadata = _table(row, config, "environment"), _table(row, config, "metadata")
    image = _string(row, environment, "environment.docker_image")
    if not image:
        raise RowError(
            instance_id, "environment.docker_image", "is missing: build environment/Dockerfile and name the image in task.toml"
        )
    tests = _files(row, "tests")
    if not any(file.path == "/tests/test.sh" for file in tests):
        raise RowError(instance_id, "tests", "has no test.sh")
    problem = Problem(
        instance_id=instance_id,
        repo=_string(row, metadata, "metadata.repo") or instance_id,
        base_commit=_string(row, metadata, "metadata.base_commit") or "HEAD",
        image=f"docker:{checked_image(row, 'environment.docker_image', image)}",
        workdir=_workdir(row, environment),
        problem_statement=text(row, "instruction"),
    )
    oracle = Oracle(
        instance_id=instance_id,
        gold_patch="",
        test_patch="",
        fail_to_pass=("reward",),
        pass_to_pass=(),
        eval_script=EVAL_SCRIPT,
        log_parser="exit_code",
        timeout_s=_timeout(row, _table(row, config, "verifier")),
        hidden_files=tests,
        resolution="reward_file",
    )
    return Task(
        problem=problem,
        oracle=oracle,
        source="harbor",
        split="train",
        language=_string(row, metadata, "metadata.language"),
        licence=_string(row, metadata, "metadata.license") or licence(row),
        raw=raw_json(row),
        difficulty=_string(row, metadata, "metadata.difficulty"),
    )


def _toml(row: Row) -> dict[str, Any]:
    try:
        return tomllib.loads(text(row, "task_toml"))
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise RowError(row_id(row), "task_toml", f"is not TOML: {str(error)[:80]}") from error


def _table(row: Row, config: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    table = config.get(name, {})
    if not isinstance(table, Mapping):
        raise RowError(row_id(row), "task_toml", f"has a {name} that is no table")
    return table


def _string(row: Row, table: Mapping[str, Any], name: str) -> str:
    """An optional string; `name` is the dotted name for errors."""
    field = name.rpartition(".")[2]
    return text({"instance_id": row_id(row), name: table.get(field)}, name, default="")


def _workdir(row: Row, environment: Mapping[str, Any]) -> str:
    """`[environment] workdir`, else the Dockerfile's last absolute WORKDIR; nothing is guessed."""
    found = _WORKDIR.findall(text(row, "dockerfile", default=""))
    workdir = _string(row, environment, "environment.workdir") or (str(found[-1]) if found else "")
    if not workdir.startswith("/") or ".." in workdir.split("/") or "\n" in workdir:
        raise RowError(row_id(row), "environment.workdir", "is missing, or not an absolute path; the Dockerfile has no WORKDIR")
    return workdir


def _timeout(row: Row, verifier: Mapping[str, Any]) -> float:
    value = verifier.get("timeout_sec", GRADING_TIMEOUT_S)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e6:
        raise RowError(row_id(row), "verifier.timeout_sec", "is not a number of seconds")
    return float(value)


def _files(row: Row, field: str) -> tuple[HiddenFile, ...]:
    """The listed files as they will lie under `/<field>`. Raises RowError."""
    items = row.get(field)
    if not isinstance(items, list | tuple):
        raise RowError(row_id(row), field, "is missing, or not a list of files")
    files = []
    for item in items:
        if not isinstance(item, Mapping):
            raise RowError(row_id(row), field, "holds something that is no file")
        entry = {"instance_id": row_id(row)} | {str(key): value for key, value in item.items()}
        path = text(entry, "path")
        if leaves_repository(path):
            raise RowError(row_id(row), field, f"leaves its folder: {path[:80]!r}")
        try:
            data = base64.b64decode(text(entry, "base64", default=""), validate=True)
        except (binascii.Error, ValueError) as error:
            raise RowError(row_id(row), field, f"is not base64: {path[:80]}") from error
        files.append(HiddenFile(f"/{field}/{path}", data, entry.get("executable") is True))
    return tuple(files)
