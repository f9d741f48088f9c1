"""What determines the stored episodes of an evaluation, kept beside them: they are taken again only where it is the same.

trajectories/eval-grpo/played_by.json     written before the first episode is played, so that an interrupted evaluation goes on
trajectories/eval-grpo.old-1/             what another policy or other settings had played there
"""

import hashlib
from pathlib import Path
from typing import Any

import orjson

from cluster.run_folder import write_atomically

STAMP = "played_by.json"


def read_stamp(folder: Path) -> dict[str, Any] | None:
    """The stamp of the groups in `folder`; None where there is none that can be read."""
    try:
        stamp: dict[str, Any] = orjson.loads((folder / STAMP).read_bytes())
    except (FileNotFoundError, orjson.JSONDecodeError):
        return None
    return stamp


def stamp_name(folder: Path) -> str:
    """A short name of the stamp of the groups in `folder`; empty without one."""
    stamp = read_stamp(folder)
    return "" if stamp is None else hashlib.sha256(orjson.dumps(stamp, option=orjson.OPT_SORT_KEYS)).hexdigest()[:12]


def num_put_aside(folder: Path) -> int:
    """How often other groups were put aside for the ones in `folder`."""
    return sum(1 for _ in folder.parent.glob(f"{folder.name}.old-*"))


def put_aside_others(folder: Path, stamp: dict[str, Any]) -> str:
    """Make `folder` ready for groups with this stamp: what has another one, or none, is renamed and kept.

    Returns a line that says so, empty where nothing was put aside.
    """
    wanted = orjson.loads(orjson.dumps(stamp))
    found = read_stamp(folder)
    if found == wanted:
        return ""
    said = ""
    if folder.exists() and any(folder.iterdir()):
        aside = folder.with_name(f"{folder.name}.old-{num_put_aside(folder) + 1}")
        folder.rename(aside)
        why = "nothing says which weights and settings played the stored episodes"
        if found is not None:
            others = [key for key in sorted(wanted.keys() | found.keys()) if wanted.get(key) != found.get(key)]
            why = f"the stored episodes are of other {', '.join(others)}"
        said = f"{folder.name}: {why}; they are kept as {aside.name}, and the tasks are played anew"
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / STAMP, orjson.dumps(stamp, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS))
    return said
