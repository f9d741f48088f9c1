"""SWE-rebench v1 (`nebius/SWE-rebench`): SWE-bench fields plus `install_config`, which says how tests run."""

import re
import shlex
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from envpool.dataset_rows.dataset_row import Row, RowError, mapping, row_id, text
from envpool.dataset_rows.eval_script import command_on_files, compose_eval_script, runnable_test_files
from envpool.dataset_rows.swe_bench_fields import WORKDIR, image_reference, swe_bench_task
from envpool.task import Task


def parse_row(row: Row) -> Task:
    """One row as a task; raises RowError. Rows without an image (most of the full set) are errors: they cannot be run."""
    image = image_reference(row, "docker_image", "image_name")
    config = {"instance_id": row_id(row)} | mapping(row, "install_config")
    files = runnable_test_files(text(row, "test_patch"))
    if not files:
        raise RowError(row_id(row), "test_patch", "changes no file that a test runner can run")
    *earlier, test_command = _commands(config, "test_cmd") or (text(config, "test_cmd"),)
    install = (*_commands(config, "install"), *earlier)
    task = swe_bench_task(
        row,
        source="swe_rebench",
        image=image,
        eval_script=compose_eval_script(_exports(config), install, command_on_files(test_command, files), WORKDIR),
        log_parser=text(config, "log_parser"),
    )
    return replace(task, difficulty=task.difficulty or _difficulty(row))


def _commands(config: dict[str, Any], field: str) -> tuple[str, ...]:
    """Shell commands given as null, one string or a list of strings."""
    value = config.get(field)
    items = value if isinstance(value, list) else [] if value is None or value == "" else [value]
    return tuple(text({"instance_id": row_id(config), field: item}, field) for item in items)


def _exports(config: dict[str, Any]) -> tuple[str, ...]:
    if not config.get("env_vars"):
        return ()
    # Parquet gives every row all keys that any row has, null where a row has it not
    values = {name: value for name, value in mapping(config, "env_vars").items() if value is not None}
    for name, value in values.items():
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name) or not isinstance(value, str | int | float):
            raise RowError(row_id(config), "install_config.env_vars", f"has a value that cannot be exported ({name[:40]!r})")
    return tuple(f"export {name}={shlex.quote(str(value))}" for name, value in values.items())


def _difficulty(row: Row) -> str:
    """The score a language model gave the task (0 easy to 3), as the dataset keeps it; "" where it is absent."""
    meta = mapping(row, "meta") if row.get("meta") else {}
    scores = meta.get("llm_score")
    score = scores.get("difficulty_score") if isinstance(scores, Mapping) else None
    return f"llm score {score}" if isinstance(score, int) and not isinstance(score, bool) else ""
