"""Tasks: micro tasks, tasks from a real package, and dataset rows, written as one task set."""

from collections import Counter
from pathlib import Path
from typing import Any

from cluster.stage import Stage, StageContext, StageError
from cluster.tasks_prepare import knows_parser
from envpool.dataset_rows.row_file import RowFileError
from envpool.dataset_rows.task_rows import import_tasks
from envpool.micro.micro_tasks import generate_micro_tasks
from envpool.packages.package_sources import PackageTasksError
from envpool.packages.package_tasks import PackageTasksResult, make_package_tasks
from envpool.pool.sandbox_pool import SandboxPool
from envpool.sandbox_parts.image_cache import FolderImages
from envpool.sandboxes import SANDBOXES
from envpool.task import Task
from envpool.task_sets.task_file import TaskFileError, iter_tasks
from envpool.task_sets.task_store import TaskStoreError, write_tasks
from verifier.validation_grader import HiddenTestGrader


async def make_tasks(context: StageContext) -> dict[str, Any]:
    """Generate, import, store. Broken rows are named in the record and counted; the rest goes on."""
    config = context.config.tasks
    images = FolderImages(context.folder.images)
    record: dict[str, Any] = {}
    tasks: list[Task] = []
    progress = context.progress.stage("tasks", config.micro.num_train + config.micro.num_heldout)
    try:
        for micro in generate_micro_tasks(config.micro, config.seed):
            images.add(micro.task.instance_id, micro.files)
            tasks.append(micro.task)
            progress.advance()
    except ValueError as error:
        raise StageError(f"tasks.micro: {error}") from error
    record["micro_train"] = sum(task.split == "train" for task in tasks)
    record["micro_heldout"] = sum(task.split == "heldout" for task in tasks)
    for source in config.package.sources:
        progress.note(f"tasks from {Path(source).name}")
        result = await package_tasks(context, images, Path(source))
        tasks.extend(result.tasks)
        record["package"] = record.get("package", 0) + len(result.tasks)
        record[f"package {result.package}"] = package_record(result)
        for line in filter(None, (result.note, f"left out {len(result.flaky)} flaky tests" if result.flaky else "")):
            context.progress.say(f"tasks: {result.package}: {line}")
    if len({task.instance_id for task in tasks}) < len(tasks):
        raise StageError("tasks.package.sources: the same package in the same version is listed twice")
    if config.rows:
        imported, errors = imported_rows(Path(config.rows), config.rows_source)
        tasks.extend(imported)
        record |= {"imported": len(imported), "row_errors": errors}
        for left_out in errors:
            context.progress.say(f"tasks: left out {left_out}")
    for prepared in config.prepared:
        taken = prepared_tasks(Path(prepared))
        tasks.extend(taken)
        record["prepared"] = record.get("prepared", 0) + len(taken)
    try:
        write_tasks(context.folder.tasks, tasks)
    except TaskStoreError as error:
        raise StageError(f"tasks: {error}") from error
    return record


async def package_tasks(context: StageContext, images: FolderImages, source: Path) -> PackageTasksResult:
    """Bugs injected into a package's sources, kept when some of its tests fail, others pass and the gold patch resolves."""
    config = context.config
    package = config.tasks.package
    backend = SANDBOXES[config.sandbox.real_backend](config.sandbox, images, f"{context.folder.root.name}-tasks")
    pool = SandboxPool(backend, package.concurrency, config.rollout.lease_s + 10 * package.test_timeout_s)
    try:
        return await make_package_tasks(source, images, pool, package, HiddenTestGrader(pool), config.seed)
    except PackageTasksError as error:
        raise StageError(f"tasks.package: {error}") from error
    finally:
        await pool.close()


def package_record(result: PackageTasksResult) -> dict[str, Any]:
    """What stages.json keeps of a package's tasks."""
    difficulty = Counter(task.difficulty for task in result.tasks)
    return {
        "candidates": result.counts,
        "issues": result.issue_counts,
        "difficulty": dict(difficulty),
        "flaky_tests": list(result.flaky),
        "note": result.note,
    }


def imported_rows(path: Path, source: str) -> tuple[list[Task], list[str]]:
    """Tasks of a dataset file and one message per row that was left out."""
    try:
        result = import_tasks(path, source, knows_parser)
    except (RowFileError, ValueError) as error:
        raise StageError(f"tasks.rows: {error}") from error
    return list(result.tasks), [str(error) for error in result.errors]


def prepared_tasks(path: Path) -> list[Task]:
    """The tasks of a file of `tasks prepare`."""
    try:
        return list(iter_tasks(path))
    except TaskFileError as error:
        raise StageError(f"tasks.prepared: {error}") from error


STAGE = Stage("tasks", (), make_tasks)
