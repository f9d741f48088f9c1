"""One run as the viewer's pages need it. What cannot be read is named in `problems`; the rest is shown."""

from pathlib import Path
from threading import Lock
from typing import Any

import orjson
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from cluster.metric_sinks import read_metrics
from cluster.policy_logprobs import read_step
from cluster.run_folder import RunFolder, RunFolderError
from cluster.run_report import result_rows
from cluster.viewer.run_index import RunIndex
from cluster.viewer.stored_episode import EpisodeReader
from cluster.viewer.task_lookup import one_task, task_list
from cluster.viewer.token_pieces import TokenTexts, find_tokenizer, read_fields, token_turns
from configs.grpo_config import GRPOConfig
from configs.model_config import ModelConfig
from envpool.parquet_file import ParquetFileError
from envpool.task_sets.problem_store import TaskStoreError
from trainers.advantages import ADVANTAGES
from verifier.log_parsers import log_parser

RUN_FILES = ("config.yaml", "stages.json", "metrics.jsonl", "trajectories")
"""A folder with any of these is taken for a run, also when it was written by another version."""


def is_run(folder: Path) -> bool:
    return any((folder / name).exists() for name in RUN_FILES)


class ViewedRun:
    """The run in `root`. Reading never changes the run, but for the cached index in its logs folder."""

    def __init__(self, root: Path) -> None:
        self.root, self.name = root, root.name
        self._folder = RunFolder(root)
        self._problems: list[str] = []
        self._config_text, self._config = self._read_config()
        self._tasks = self._read_tasks()
        repos = {row["instance_id"]: row.get("repo", "") for row in self._tasks}
        estimator = self._setting("grpo", "advantage", GRPOConfig().advantage)
        if estimator not in ADVANTAGES:
            self._problems.append(f"config.yaml: unknown grpo.advantage {estimator!r}; shown with {GRPOConfig().advantage}")
            estimator = GRPOConfig().advantage
        self.index = RunIndex(root, estimator, lambda name: repos.get(name) or repo_from_id(name))
        self.episodes = EpisodeReader()
        self._texts: TokenTexts | None = None
        self._texts_lock = Lock()

    def summary(self) -> dict[str, Any]:
        """Results and stage records with what could not be read of them; looks at no trajectory."""
        problems = [*self._problems]
        try:
            records = self._folder.stage_records()
        except RunFolderError as error:
            records = {}
            problems.append(str(error))
        try:
            results = [list(row) for row in result_rows(records)]
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            results = []
            problems.append(
                f"stages.json: results of another version ({type(error).__name__}: {error}); the records are shown as is"
            )
        stages = [{"name": name, "record": record} for name, record in records.items() if isinstance(record, dict)]
        return {"name": self.name, "results": results, "stages": stages, "problems": problems}

    def overview(self) -> dict[str, Any]:
        """The summary with path, versions and configuration, and what could not be read of the whole run."""
        summary = self.summary()
        problems = summary["problems"]
        try:
            versions = orjson.loads((self.root / "versions.json").read_bytes())
        except FileNotFoundError:
            versions = {}
        except (OSError, ValueError) as error:
            versions = {}
            problems.append(f"versions.json cannot be read: {error}")
        return summary | {
            "path": str(self.root),
            "versions": versions,
            "config": self._config_text,
            "report": (self.root / "report.html").is_file(),
            "estimator": self._setting("grpo", "advantage", GRPOConfig().advantage),
            "problems": problems + self.index.table()["problems"],
        }

    def tasks(self) -> list[dict[str, Any]]:
        return self._tasks

    def task(self, instance_id: str) -> dict[str, Any]:
        """Problem and oracle. Raises KeyError for a task that the run does not have, TaskStoreError."""
        found = one_task(self._folder.tasks, instance_id)
        if found is None:
            raise KeyError(f"task {instance_id}")
        return found

    def metrics(self) -> dict[str, dict[str, Any]]:
        """{stage: {"steps": [...], "times": [...], "series": {metric: [number or None per step]}}} from metrics.jsonl."""
        found = {}
        for stage in self._metric_stages():
            rows = read_metrics(self.root, stage)
            names = sorted({name for row in rows for name in row} - {"stage", "step", "time"})
            found[stage] = {
                "steps": [row["step"] for row in rows],
                "times": [row.get("time") for row in rows],
                "series": {name: [row.get(name) for row in rows] for name in names},
            }
        return found

    def trajectory(self, shard: str, row: int) -> dict[str, Any]:
        """Texts, patch, scores and the status of every hidden test. Raises KeyError, IndexError, TrajectoryFileError."""
        episode = self.episodes.texts(self.index.shard_path(shard), row)
        for name, default in (("reward_parts", "{}"), ("grading_notes", "[]")):
            episode[name] = read_fields(str(episode.get(name, default)))
        context = read_fields(str(episode.pop("context", "") or "null"))
        episode["observed"] = context.get("observed", "") if isinstance(context, dict) else ""
        try:
            task = one_task(self._folder.tasks, episode["instance_id"])
        except TaskStoreError as error:
            task, episode["problem"] = None, str(error)
        episode["gold_patch"] = None if task is None else task.get("gold_patch", "")
        episode["tests"] = [] if task is None else hidden_tests(task, str(episode.get("report_text", "")))
        return episode

    def tokens(self, shard: str, row: int) -> dict[str, Any]:
        """{"turns": as token_turns gives them, "tokenizer": whether pieces are text, "problem": why log-probs are missing}."""
        turns = self.episodes.tokens(self.index.shard_path(shard), row)
        table, place = self.index.table(), self.index.place(shard, row)
        rows = table["rows"]
        step = rows["step"][place]
        key = (table["instances"][rows["instance"][place]], rows["sample_index"][place])
        policy, problem = None, ""
        try:
            policy = read_step(self.root, step, key, sum(len(turn["completion_ids"]) for turn in turns)) if step else None
        except ParquetFileError as error:
            problem = str(error)
        with self._texts_lock:
            if self._texts is None:
                model = self._setting("model", "path", ModelConfig().path)
                self._texts = TokenTexts(find_tokenizer(self.root, model))
        train = bool(rows["train"][place])
        return {"turns": token_turns(turns, self._texts, policy, train), "problem": problem}

    def spans(self, shard: str, first: int, count: int) -> list[list[list[float]]]:
        """Per trajectory and turn [generate_s, tool_s]. Raises KeyError, IndexError, TrajectoryFileError."""
        return self.episodes.spans(self.index.shard_path(shard), range(first, first + count))

    def _metric_stages(self) -> list[str]:
        stages: dict[str, None] = {}
        try:
            lines = (self.root / "metrics.jsonl").read_bytes().splitlines()
        except OSError:
            return []
        for line in lines:
            try:
                stages[str(orjson.loads(line)["stage"])] = None
            except (ValueError, KeyError, TypeError):
                continue  # torn by a crash
        return list(stages)

    def _read_config(self) -> tuple[str, dict[str, Any]]:
        """config.yaml as text and as a plain dict, whatever version wrote it."""
        try:
            text = (self.root / "config.yaml").read_text(encoding="utf-8")
            config = OmegaConf.to_container(OmegaConf.create(text))
        except FileNotFoundError:
            self._problems.append("config.yaml is missing: settings are shown as defaults")
            return "", {}
        except (OSError, ValueError, YAMLError, OmegaConfBaseException) as error:
            self._problems.append(f"config.yaml cannot be read: {' '.join(str(error).split())[:200]}")
            return "", {}
        return text, dict(config) if isinstance(config, dict) else {}  # type: ignore[arg-type]

    def _read_tasks(self) -> list[dict[str, Any]]:
        try:
            return task_list(self._folder.tasks)
        except TaskStoreError as error:
            self._problems.append(str(error))
            return []

    def _setting(self, section: str, key: str, default: str) -> str:
        values = self._config.get(section)
        return str(values.get(key, default)) if isinstance(values, dict) else default


def repo_from_id(instance_id: str) -> str:
    """The repository in an instance id of SWE-bench's form; the id itself otherwise.

    >>> repo_from_id("django__django-11099")
    'django/django'
    """
    owner, _, rest = instance_id.partition("__")
    return f"{owner}/{rest.rpartition('-')[0] or rest}" if rest else instance_id


def hidden_tests(task: dict[str, Any], log: str) -> list[list[str]]:
    """[name, "fail_to_pass" or "pass_to_pass", status] as the task's parser reads the stored log.

    Status is "not read" when the log has no parser here (an exit code decides, or the optional extra `grade` is not installed).
    """
    try:
        status = {name: found.value for name, found in log_parser(str(task.get("log_parser", "")))(log).items()}
        unknown = "missing"
    except (LookupError, ImportError):
        status, unknown = {}, "not read"
    return [[name, kind, status.get(name, unknown)] for kind in ("fail_to_pass", "pass_to_pass") for name in task.get(kind) or ()]
