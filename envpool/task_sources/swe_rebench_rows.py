"""SWE-rebench v1 (`nebius/SWE-rebench`): SWE-bench fields plus `install_config`, which says how tests run."""

import re
import shlex
from typing import Any

from envpool.dataset_row import Row, RowError, mapping, row_id, text
from envpool.eval_script import compose_eval_script, runnable_test_files
from envpool.swe_bench_fields import WORKDIR, image_reference, swe_bench_task
from envpool.task import Task

_ACTIVATE = (". /opt/miniconda3/bin/activate", "conda activate testbed", f"cd {WORKDIR}")


def parse_row(row: Row) -> Task:
    """One row as a task; raises RowError. Rows without an image (most of the full set) are errors: they cannot be run."""
    image = image_reference(row, "docker_image", "image_name")
    config = {"instance_id": row_id(row)} | mapping(row, "install_config")
    files = runnable_test_files(text(row, "test_patch"))
    if not files:
        raise RowError(row_id(row), "test_patch", "changes no file that a test runner can run")
    setup = (*_ACTIVATE, *_exports(config), *_commands(config, "install"))
    *earlier, test_command = _commands(config, "test_cmd") or (text(config, "test_cmd"),)
    return swe_bench_task(
        row,
        source="swe_rebench",
        image=image,
        eval_script=compose_eval_script((*setup, *earlier), test_command, files),
        log_parser=text(config, "log_parser"),
    )


def _commands(config: dict[str, Any], field: str) -> tuple[str, ...]:
    """Shell commands given as null, one string or a list of strings."""
    value = config.get(field)
    items = value if isinstance(value, list) else [] if value is None or value == "" else [value]
    return tuple(text({"instance_id": row_id(config), field: item}, field) for item in items)


def _exports(config: dict[str, Any]) -> tuple[str, ...]:
    if not config.get("env_vars"):
        return ()
    values = mapping(config, "env_vars")
    for name, value in values.items():
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name) or not isinstance(value, str | int | float):
            raise RowError(row_id(config), "install_config.env_vars", f"has a value that cannot be exported ({name[:40]!r})")
    return tuple(f"export {name}={shlex.quote(str(value))}" for name, value in values.items())
