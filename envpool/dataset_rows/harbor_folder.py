"""Reading Harbor task directories: `task.toml`, `instruction.md`, `environment/`, `tests/`, `solution/`."""

import base64
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from envpool.dataset_rows.dataset_row import RowError

MAX_FOLDER_BYTES = 67_108_864
"""Tests and solution of one task, together; more is an error of that row."""


def is_harbor(path: Path) -> bool:
    """True for a task directory and for a folder with one or more of them."""
    return (path / "task.toml").is_file() or any(path.glob("*/task.toml"))


def read_harbor(path: Path) -> Iterator[dict[str, Any] | RowError]:
    """One row per task directory (`path` itself, or its folders in name order); the row's id is the folder's name."""
    folders = [path] if (path / "task.toml").is_file() else sorted(found.parent for found in path.glob("*/task.toml"))
    for folder in folders:
        try:
            yield _row(folder)
        except RowError as error:
            yield error
        except UnicodeDecodeError:
            yield RowError(folder.name, "(row)", "has a task.toml, instruction.md or Dockerfile that is not UTF-8")
        except OSError as error:
            yield RowError(folder.name, "(row)", f"cannot be read ({error.strerror or error})")


def _row(folder: Path) -> dict[str, Any]:
    name = folder.resolve().name
    dockerfile = folder / "environment" / "Dockerfile"
    tests, solution = _files(name, folder / "tests"), _files(name, folder / "solution")
    if sum(len(file["base64"]) for file in (*tests, *solution)) * 3 // 4 > MAX_FOLDER_BYTES:
        raise RowError(name, "tests", f"is larger than {MAX_FOLDER_BYTES} bytes together with solution")
    return {
        "instance_id": name,
        "task_toml": (folder / "task.toml").read_text("utf-8"),
        "instruction": (folder / "instruction.md").read_text("utf-8"),
        "dockerfile": dockerfile.read_text("utf-8") if dockerfile.is_file() else "",
        "tests": tests,
        "solution": solution,
    }


def _files(name: str, folder: Path) -> list[dict[str, Any]]:
    """All plain files below a folder, in path order; links, pipes and devices are refused, and nothing is read past the limit."""
    found: list[dict[str, Any]] = []
    size = 0
    for parent, folders, files in os.walk(folder):
        folders.sort()
        for file in sorted((*files, *(link for link in folders if (Path(parent) / link).is_symlink()))):
            path = Path(parent) / file
            status = path.lstat()
            if not stat.S_ISREG(status.st_mode):
                raise RowError(name, folder.name, f"holds something that is no plain file: {file[:80]}")
            size += status.st_size
            if size > MAX_FOLDER_BYTES:
                raise RowError(name, folder.name, f"is larger than {MAX_FOLDER_BYTES} bytes")
            data = base64.b64encode(path.read_bytes()).decode("ascii")
            executable = bool(status.st_mode & stat.S_IXUSR)
            found.append({"path": path.relative_to(folder).as_posix(), "base64": data, "executable": executable})
    return sorted(found, key=lambda item: str(item["path"]))
