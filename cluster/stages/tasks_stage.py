"""Tasks: micro tasks, tasks from a real package, and dataset rows, written as one task set."""

from pathlib import Path
from typing import Any

from cluster.stage import Stage, StageContext, StageError
from envpool.image_cache import FolderImages
from envpool.micro_tasks import generate_micro_tasks
from envpool.package_sources import PackageTasksError
from envpool.package_tasks import make_package_tasks
from envpool.row_file import RowFileError
from envpool.sandbox_pool import SandboxPool
from envpool.sandboxes import SANDBOXES
from envpool.task import Task
from envpool.task_rows import import_tasks
from envpool.task_store import write_tasks


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
    if config.package.source:
        progress.note(f"tasks from {Path(config.package.source).name}")
        package = await package_tasks(context, images)
        tasks.extend(package)
        record["package"] = len(package)
    if config.rows:
        imported, errors = imported_rows(Path(config.rows), config.rows_source)
        tasks.extend(imported)
        record |= {"imported": len(imported), "row_errors": errors}
        for error in errors:
            context.progress.say(f"tasks: left out {error}")
    write_tasks(context.folder.tasks, tasks)
    return record


async def package_tasks(context: StageContext, images: FolderImages) -> list[Task]:
    """Bugs injected into the package's sources, kept when some of its tests fail and others pass."""
    config = context.config
    backend = SANDBOXES[config.sandbox.backend](config.sandbox, images, f"{context.folder.root.name}-tasks")
    pool = SandboxPool(backend, 2, config.rollout.lease_s + 10 * config.tasks.package.test_timeout_s)
    try:
        result = await make_package_tasks(Path(config.tasks.package.source), images, pool, config.tasks.package, config.seed)
    except PackageTasksError as error:
        raise StageError(f"tasks.package: {error}") from error
    finally:
        await pool.close()
    return list(result.tasks)


def imported_rows(path: Path, source: str) -> tuple[list[Task], list[str]]:
    """Tasks of a dataset file and one message per row that was left out."""
    try:
        result = import_tasks(path, source)
    except (RowFileError, ValueError) as error:
        raise StageError(f"tasks.rows: {error}") from error
    return list(result.tasks), [str(error) for error in result.errors]


STAGE = Stage("tasks", (), make_tasks)
