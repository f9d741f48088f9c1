"""Which of a run's tasks a stage can play."""

from cluster.stage import StageContext, StageError
from envpool.task import Task
from envpool.task_sets.task_store import TaskStoreError, read_tasks


def tasks_of(context: StageContext, split: str) -> list[Task]:
    """The tasks of one split whose image this run's sandboxes can start: `folder:` images everywhere, `docker:` with Docker."""
    try:
        tasks = read_tasks(context.folder.tasks)
    except TaskStoreError as error:
        raise StageError(str(error)) from error
    prefixes = ("folder:", "docker:") if context.config.sandbox.backend == "docker" else ("folder:",)
    sources = context.config.tasks.play
    playable = [
        task
        for task in tasks
        if task.split == split and task.problem.image.startswith(prefixes) and (not sources or task.source in sources)
    ]
    if not playable:
        raise StageError(f"no {split} task can be played with sandbox.backend={context.config.sandbox.backend}")
    return playable
