"""Grading a file of predictions with real test runs on this machine, without Ray."""

import asyncio
from collections.abc import Callable
from functools import partial
from pathlib import Path

import orjson

from configs.run_config import RunConfig
from envpool.dataset_rows.dataset_row import RowError
from envpool.patch import Patch
from envpool.pool.sandbox_pool import SandboxPool
from envpool.sandbox_errors import SandboxError
from envpool.sandbox_parts.image_cache import FolderImages
from envpool.sandboxes import SANDBOXES
from envpool.task import Task
from envpool.task_sets.task_file import iter_tasks
from envpool.task_sets.task_store import read_tasks
from verifier.evaluation_folder import swebench_row, write_evaluation
from verifier.hidden_tests import grade_patch
from verifier.predictions import Prediction, read_predictions
from verifier.test_report import TestReport

Say = Callable[[str], None]
Write = Callable[[str, Task, Patch, TestReport], object]


def grade_predictions(config: RunConfig, tasks: list[Task], images: Path, path: Path, to: Path, run_id: str, say: Say) -> int:
    """Grade every prediction whose task is known; write SWE-bench's evaluation folder to `to`; a JSON line per prediction.

    Returns 1 when predictions were left out or infrastructure broke. Raises RowFileError, SandboxError, OSError.
    """
    known, num_left_out = _known_predictions(path, {task.instance_id for task in tasks}, say)
    used = {prediction.instance_id for prediction in known}
    to.mkdir(parents=True, exist_ok=True)
    rows = (swebench_row(task) for task in tasks if task.instance_id in used)
    (to / "dataset.jsonl").write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
    by_id = {task.instance_id: task for task in tasks}
    graded = asyncio.run(_grade_all(config, by_id, images, known, partial(write_evaluation, to, run_id), f"grade-{run_id}", say))
    return int(num_left_out > 0 or not graded)


def task_set(path: Path) -> tuple[list[Task], Path]:
    """The tasks of a run folder, of its tasks folder or of a prepared file, and where their `folder:` images lie.

    Raises TaskStoreError, TaskFileError.
    """
    if path.is_file():
        return list(iter_tasks(path)), path.parent / "images"
    folder = path / "tasks" if (path / "config.yaml").is_file() else path
    return read_tasks(folder), folder.parent / "images"


def _known_predictions(path: Path, known: set[str], say: Say) -> tuple[list[Prediction], int]:
    """The predictions of known tasks, and how many others there are; each of those is said."""
    found, num_left_out = [], 0
    for item in read_predictions(path):
        if isinstance(item, Prediction) and item.instance_id in known:
            found.append(item)
            continue
        num_left_out += 1
        name, problem = (item.row_id, str(item)) if isinstance(item, RowError) else (item.instance_id, "no task of that name")
        say(orjson.dumps({"instance_id": name, "error": problem}).decode())
    return found, num_left_out


async def _grade_all(
    config: RunConfig, tasks: dict[str, Task], images: Path, predictions: list[Prediction], write: Write, owner: str, say: Say
) -> bool:
    """Grade side by side; False when infrastructure broke for one (reported, and not a verdict)."""
    backend = SANDBOXES[config.sandbox.real_backend](config.sandbox, FolderImages(images), owner)
    concurrency = max(1, config.rollout.concurrency)
    pool = SandboxPool(backend, concurrency, config.rollout.lease_s + 2 * config.verifier.grading_timeout_s)
    slots = asyncio.Semaphore(2 * concurrency)

    async def grade_one(prediction: Prediction) -> bool:
        task = tasks[prediction.instance_id]
        timeout_s = min(config.verifier.grading_timeout_s, task.oracle.timeout_s)
        async with slots:
            try:
                graded = await grade_patch(task, prediction.patch, pool, timeout_s, False, config.verifier.protect_test_setup)
            except SandboxError as error:
                say(orjson.dumps({"instance_id": task.instance_id, "error": f"{type(error).__name__}: {error}"}).decode())
                return False
        report = graded.report
        write(prediction.model, task, prediction.patch, report)
        row = {"instance_id": task.instance_id, "resolved": report.resolved, "applied": report.applied}
        say(orjson.dumps(row | {"notes": report.notes, "dropped": report.dropped, "grader": report.grader}).decode())
        return True

    try:
        return all(await asyncio.gather(*map(grade_one, predictions)))
    finally:
        await pool.close()
