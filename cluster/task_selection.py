"""Which of a run's tasks a stage can play."""

from cluster.run_folder import RunFolder
from cluster.stage import StageContext, StageError
from configs.run_config import RunConfig
from envpool.task import Task
from envpool.task_sets.task_store import TaskStoreError, read_tasks


def tasks_of(context: StageContext, split: str) -> list[Task]:
    """`playable_tasks` of the stage's run. Raises StageError."""
    return playable_tasks(context.config, context.folder, split)


def playable_tasks(config: RunConfig, folder: RunFolder, split: str) -> list[Task]:
    """The tasks of one split (train, heldout) whose image this run's sandboxes can start: `folder:` images everywhere, `docker:`
    with Docker. Raises StageError when there are none, and for held-out tasks where nothing executes: they are really played."""
    sandbox = config.sandbox
    if split == "heldout" and sandbox.real_backend == "scripted":
        raise StageError("held-out tasks are really played and tested; sandbox.backend=scripted executes nothing")
    try:
        tasks = read_tasks(folder.tasks)
    except TaskStoreError as error:
        raise StageError(str(error)) from error
    prefixes = ("folder:", "docker:") if sandbox.real_backend == "docker" else ("folder:",)
    sources = config.tasks.play
    playable = [
        task
        for task in tasks
        if task.split == split and task.problem.image.startswith(prefixes) and (not sources or task.source in sources)
    ]
    if not playable:
        files = f" and sandbox.files_in={sandbox.files_in}" if sandbox.backend == "simulated" else ""
        raise StageError(f"no {split} task can be played with sandbox.backend={sandbox.backend}{files}")
    return playable
