"""From an API path to JSON: `/api/` and one of the paths below. The server and the export ask here, nobody else reads a run.

runs                             run/RUN              index/RUN            tasks/RUN           metrics/RUN
task/RUN/INSTANCE                trajectory/RUN/SHARD/ROW                  tokens/RUN/SHARD/ROW
spans/RUN/SHARD/FIRST/COUNT      (SHARD is `stage/shard_00000`)
"""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import Any

from cluster.run_folder import RunFolderError
from cluster.viewer.viewed_run import ViewedRun, is_run
from envpool.task_sets.problem_store import TaskStoreError
from envpool.trajectories.trajectory_store import TrajectoryFileError


class AnswerError(LookupError):
    """A request that cannot be answered: `status` is 404 (no such thing) or 422 (it cannot be read); one line says why."""

    def __init__(self, message: str, status: int = 404) -> None:
        super().__init__(message)
        self.status = status


class RunLibrary:
    """A run folder, or a folder of run folders, by name. Raises RunFolderError when `path` is neither."""

    def __init__(self, path: Path) -> None:
        self._path = path.absolute()
        self._single = is_run(self._path)
        self._open: dict[str, ViewedRun] = {}
        self._lock = Lock()
        if not self._path.is_dir():
            raise RunFolderError(f"{path} is not a folder")
        if not self._single and not self._folders():
            raise RunFolderError(f"{path} is no run folder and holds none: a run has a config.yaml or a trajectories folder")

    def run(self, name: str) -> ViewedRun:
        """Raises AnswerError for a name that is not listed, so that no request names a path."""
        with self._lock:
            if name not in self._open:
                root = self._folders().get(name)
                if root is None:
                    raise AnswerError(f"no run {name}")
                self._open[name] = ViewedRun(root)
            return self._open[name]

    def read_ahead(self) -> None:
        """Build the index of a single run before anybody asks; what goes wrong is said when it is asked for."""
        if self._single:
            with suppress(AnswerError, OSError, ValueError):
                self.run(self._path.name).index.table()

    def runs(self) -> list[dict[str, Any]]:
        """Name, stages finished and time of every run, the newest first."""
        rows = []
        for name, root in self._folders().items():
            run = self.run(name).summary()
            changed = max((root / one).stat().st_mtime for one in ("", "stages.json", "metrics.jsonl") if (root / one).exists())
            stages = [stage["name"] for stage in run["stages"]]
            rows.append(
                {"name": name, "stages": stages, "changed": changed, "results": run["results"], "problems": run["problems"]}
            )
        return sorted(rows, key=lambda row: -row["changed"])

    def answer(self, words: Sequence[str]) -> Any:
        """What the path of `words` (decoded segments) answers. Raises AnswerError."""
        try:
            return self._answer(list(words))
        except AnswerError:
            raise
        except (KeyError, IndexError, FileNotFoundError) as error:
            raise AnswerError(f"not found: {' '.join(str(error).split())}") from error
        except (TrajectoryFileError, TaskStoreError, RunFolderError) as error:
            raise AnswerError(str(error), 422) from error

    def _answer(self, words: list[str]) -> Any:
        match words:
            case ["runs"]:
                return self.runs()
            case ["run", name]:
                return self.run(name).overview()
            case ["index", name]:
                return self.run(name).index.table()
            case ["tasks", name]:
                return self.run(name).tasks()
            case ["metrics", name]:
                return self.run(name).metrics()
            case ["task", name, instance_id]:
                return self.run(name).task(instance_id)
            case ["trajectory", name, *shard, row]:
                return self.run(name).trajectory("/".join(shard), number(row))
            case ["tokens", name, *shard, row]:
                return self.run(name).tokens("/".join(shard), number(row))
            case ["spans", name, *shard, first, count]:
                return self.run(name).spans("/".join(shard), number(first), number(count))
        raise AnswerError(f"nothing at {'/'.join(words)}")

    def _folders(self) -> dict[str, Path]:
        if self._single:
            return {self._path.name: self._path}
        return {child.name: child for child in sorted(self._path.iterdir()) if child.is_dir() and is_run(child)}


def number(word: str) -> int:
    """A row number of a path. Raises AnswerError."""
    if not word.isascii() or not word.isdigit() or len(word) > 9:
        raise AnswerError(f"{word!r} is no row number")
    return int(word)
