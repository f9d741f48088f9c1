"""Every trajectory of a run by its scalar columns: built once, kept beside the run, renewed file by file."""

import time
from collections.abc import Callable
from contextlib import suppress
from itertools import accumulate
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import orjson

from cluster.run_folder import write_atomically
from cluster.viewer.shard_facts import COLUMNS, shard_facts, stamp
from trainers.advantages import ADVANTAGES

CACHE_VERSION = 1
FRESH_S = 1.0
CACHE_FILE = Path("logs") / "viewer_index.json"
PLAIN = ("sample_index", "num_turns", "num_tokens", "reward", "resolved", "train")
ROW_COLUMNS = ("shard", "row", "stage", "instance", "policy", "stop", "group", "seconds", "advantage", "step", *PLAIN)
GROUP_COLUMNS = ("stage", "instance", "step", "first", "members", "lost", "shard", "number")


class RunIndex:
    """The trajectories of the run folder `root`. Thread-safe; `table` looks again at what is on disk."""

    def __init__(self, root: Path, advantage: str, repo_of: Callable[[str], str]) -> None:
        self._root, self._repo_of = root, repo_of
        self._advantage = ADVANTAGES[advantage]
        self._lock = Lock()
        self._shards = _read_cache(root / CACHE_FILE)
        self._first: dict[str, int] = {}
        self._fresh_until = 0.0
        self._answer: tuple[list[Any], dict[str, Any]] | None = None

    def shard_path(self, shard: str) -> Path:
        """The file of a shard that the index lists. Raises KeyError for any other name, so that no request names a path."""
        self.table()
        if shard not in self._shards:
            raise KeyError(shard)
        return self._root / "trajectories" / f"{shard}.parquet"

    def place(self, shard: str, row: int) -> int:
        """Where a trajectory is in `table`'s rows. Raises KeyError."""
        self.table()
        place = self._first.get(shard, -1)
        if place < 0 or row >= len(self._shards[shard]["columns"]["instance_id"]):
            raise KeyError(f"{shard}/{row}")
        return place + row

    def shards(self) -> list[str]:
        """Names of all shards, sorted: `stage/shard_00000`."""
        self.table()
        return list(self._shards)

    def table(self) -> dict[str, Any]:
        """The whole index as `index_table` gives it; looks at the files' times and sizes when the last look is FRESH_S ago."""
        with self._lock:
            if self._answer is not None and time.monotonic() < self._fresh_until:
                return self._answer[1]
            self._fresh_until = time.monotonic() + FRESH_S
            stamps = {name: stamp(path) for name, path in _shard_files(self._root)}
            key = list(stamps.items())
            if self._answer is not None and self._answer[0] == key:
                return self._answer[1]
            self._renew(stamps)
            table = index_table(self._shards, self._advantage, self._repo_of)
            sizes = [len(facts["columns"]["instance_id"]) for facts in self._shards.values()]
            self._first = dict(zip(self._shards, accumulate(sizes, initial=0), strict=False))
            self._answer = (key, table)
            return table

    def _renew(self, stamps: dict[str, list[int]]) -> None:
        """Read the files that are new or changed, drop those that went, and write the cache when anything differs."""
        renewed = {}
        for name, now in stamps.items():
            known = self._shards.get(name)
            path = self._root / "trajectories" / f"{name}.parquet"
            renewed[name] = known if known is not None and known["stamp"] == now else {**shard_facts(path), "stamp": now}
        changed = list(renewed) != list(self._shards) or any(renewed[name] is not self._shards[name] for name in renewed)
        self._shards = renewed
        if changed:
            # A read-only run is shown all the same; its index is built again next time.
            with suppress(OSError):
                write_atomically(self._root / CACHE_FILE, orjson.dumps({"version": CACHE_VERSION, "shards": renewed}))


def index_table(
    shards: dict[str, dict[str, Any]], advantage: Callable[[Any], Any], repo_of: Callable[[str], str]
) -> dict[str, Any]:
    """Columns over all trajectories, in the order of shards and rows; names are codes into lists.

    {"rows": {column: values}, "groups": {column: values}, "shards": [...], "stages": [...], "instances": [...], "repos": [...],
    "policies": [...], "stops": [...], "repo": [code per instance], "problems": [...]}. A row's `group` is a place in `groups`,
    whose `first` and `members` are rows; `advantage` is what the run's estimator makes of the stored rewards.
    """
    codes: dict[str, dict[str, int]] = {name: {} for name in ("shards", "stages", "instances", "policies", "stops")}
    rows: dict[str, list[Any]] = {name: [] for name in ROW_COLUMNS}
    groups: dict[str, list[Any]] = {name: [] for name in GROUP_COLUMNS}

    def code(kind: str, name: str) -> int:
        return codes[kind].setdefault(name, len(codes[kind]))

    for name, facts in shards.items():
        columns, first = facts["columns"], len(rows["row"])
        count = len(columns["instance_id"])
        stage, shard = code("stages", name.rpartition("/")[0] or "trajectories"), code("shards", name)
        rows["shard"] += [shard] * count
        rows["row"] += range(count)
        rows["stage"] += [stage] * count
        for kind, column, key in (("instances", "instance_id", "instance"), ("policies", "policy_name", "policy")):
            rows[key] += [code(kind, value) for value in columns[column]]
        rows["stop"] += [code("stops", value) for value in columns["stop_reason"]]
        rows["seconds"] += [round(value, 3) for value in columns["seconds"]]
        for column in PLAIN:
            rows[column] += columns[column]
        sizes = [group[1] for group in facts["groups"]]
        for number, (group, start) in enumerate(zip(facts["groups"], accumulate(sizes, initial=0), strict=False)):
            instance_id, members, step, lost = group
            rows["group"] += [len(groups["first"])] * members
            rows["step"] += [step] * members
            taken = slice(start, start + members)
            rows["advantage"] += group_advantages(columns["reward"][taken], columns["train"][taken], advantage)
            values = (stage, code("instances", instance_id), step, first + start, members, lost, shard, number)
            for key, value in zip(groups, values, strict=True):
                groups[key].append(value)
    repos: dict[str, int] = {}
    repo = [repos.setdefault(repo_of(name), len(repos)) for name in codes["instances"]]
    problems = [facts["problem"] for facts in shards.values() if facts["problem"]]
    lists = {kind: list(names) for kind, names in codes.items()}
    return {"rows": rows, "groups": groups, **lists, "repos": list(repos), "repo": repo, "problems": problems}


def group_advantages(rewards: list[Any], train: list[Any], advantage: Callable[[Any], Any]) -> list[float | None]:
    """The advantages of a group's members; None for those that do not train and where no reward is stored.

    >>> group_advantages([1.0, 0.0, 1.0], [True, True, False], ADVANTAGES["leave_one_out"])
    [1.0, -1.0, None]
    """
    places = [place for place, value in enumerate(rewards) if value is not None and train[place]]
    values = advantage(np.array([rewards[place] for place in places], dtype=np.float64))
    found: list[float | None] = [None] * len(rewards)
    for place, value in zip(places, values, strict=True):
        found[place] = round(float(value), 6)
    return found


def _shard_files(root: Path) -> list[tuple[str, Path]]:
    folder = root / "trajectories"
    paths = [path for path in sorted(folder.glob("**/*.parquet")) if not path.name.startswith(".")]
    return [(path.relative_to(folder).with_suffix("").as_posix(), path) for path in paths]


def _read_cache(path: Path) -> dict[str, dict[str, Any]]:
    """The cached shards; nothing when the cache is missing, damaged or of another version."""
    try:
        cache = orjson.loads(path.read_bytes())
        if cache["version"] != CACHE_VERSION:
            return {}
        shards: dict[str, dict[str, Any]] = cache["shards"]
        whole = all(set(COLUMNS) == set(facts["columns"]) and len(facts["stamp"]) == 4 for facts in shards.values())
        return shards if whole else {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}
