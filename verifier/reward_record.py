"""What simulated rewards have cost and what their audits have found, on disk: the process after a dead one goes on with it."""

import hashlib
import logging
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path

import orjson

from verifier.audit import AuditState
from verifier.world_model_client import ModelUsage

logger = logging.getLogger(__name__)


@dataclass
class RewardCost:
    """What rewards have cost so far. `simulated`: patches that the model was asked about, `simulated_s` the seconds of that;
    `unreadable_reports` of its answers; `unreadable_patches`: no report on them could be read; `audited`: rewards that came from
    real tests, `audited_s` the seconds of those."""

    simulated: int = 0
    unreadable_reports: int = 0
    unreadable_patches: int = 0
    simulated_s: float = 0.0
    audited: int = 0
    audited_s: float = 0.0


@dataclass
class RewardRecord:
    """Where the watch over the audits stands, which patches it has `counted` (each once, `patch_key`), and all costs."""

    state: AuditState
    cost: RewardCost = field(default_factory=RewardCost)
    usage: ModelUsage = field(default_factory=ModelUsage)
    counted: set[str] = field(default_factory=set)


def patch_key(instance_id: str, diff: str) -> str:
    """A short name of one patch of one task."""
    return hashlib.sha256(f"{instance_id}\0{diff}".encode("utf-8", "surrogatepass")).hexdigest()[:16]


def write_record(path: Path, record: RewardRecord, watched: str) -> None:
    """Replace the file by rename, so that a reader finds a whole one. `watched` names the scorer, calibration and rule that the
    audits are about."""
    values = {"watched": watched, **asdict(record), "counted": sorted(record.counted)}
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        partial.write_bytes(orjson.dumps(values))
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def read_record(path: Path, fresh: RewardRecord, watched: str) -> RewardRecord:
    """The record of an earlier process; `fresh` where there is none, or none that can be read (a warning says so). Audits of
    something else than `watched` say nothing about it: then only the costs go on."""
    try:
        values = orjson.loads(path.read_bytes())
        cost, usage = RewardCost(**values["cost"]), ModelUsage(**values["usage"])
        if values["watched"] != watched:
            return RewardRecord(fresh.state, cost, usage)
        return RewardRecord(AuditState(**values["state"]), cost, usage, set(values["counted"]))
    except FileNotFoundError:
        return fresh
    except (KeyError, TypeError, ValueError) as error:
        logger.warning("%s cannot be read, the record of simulated rewards begins anew: %s", path, error)
        return fresh
