"""Runs stages in a run folder: in order, skipping finished ones, ending cleanly on errors and Ctrl-C."""

import asyncio
import logging
import shlex
import time
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from actors.learner_group import LearnerGroupError
from actors.weight_packing import WeightSyncError
from cluster.fleet import Fleet
from cluster.metric_sinks import MetricSinks
from cluster.placement import PlacementError
from cluster.progress_view import ProgressView
from cluster.ray_session import ClusterError
from cluster.run_folder import RunFolder, RunFolderError
from cluster.run_policies import newest_policy
from cluster.run_report import write_report
from cluster.run_view import results_table
from cluster.stage import StageContext, StageError
from cluster.stages import STAGES, demo_stages
from cluster.trackers import TrackerError
from cluster.window_ledger import WindowLedgerError
from configs.run_config import RunConfig
from envpool.policy import PolicyError
from envpool.sandbox_errors import SandboxError
from trainers.group_filter import NoLearningSignalError
from trainers.group_ledger import GroupNotKeptError
from trainers.model_paths import ModelPathError
from trainers.rollout_window import RolloutsFailedError

EXPECTED_ERRORS = (
    StageError,
    RunFolderError,
    ClusterError,
    PlacementError,
    SandboxError,
    PolicyError,
    WeightSyncError,
    LearnerGroupError,
    RolloutsFailedError,
    GroupNotKeptError,
    WindowLedgerError,
    NoLearningSignalError,
    ModelPathError,
    TrackerError,
)
INTERRUPTED = 130


def run_stages(verb: str, config: RunConfig, resume: Path | None, words: Sequence[str] = ()) -> int:
    """Run `verb` (a stage, or `demo` for all) and return the exit code. Errors a user can act on are one line. `words` are the
    settings given on the command line: a resumed run was interrupted with them, and goes on with them."""
    progress = ProgressView()
    folder = None
    settings = words if resume is not None else ()  # a new run's folder keeps them itself
    try:
        folder = RunFolder.open(resume) if resume is not None else RunFolder.create(config)
        log_to(folder)
        progress.say(f"run folder: {folder.root}")
        stages = stages_of(verb, config, folder.stage_records())
        asyncio.run(run_in_folder(stages, config, folder, progress, again=verb != "demo"))
    except KeyboardInterrupt:
        progress.say(
            "interrupted; everything finished is kept"
            + (f", go on with: {shlex.join(['swe-master', verb, '--resume', str(folder.root), *settings])}" if folder else "")
        )
        return INTERRUPTED
    except Exception as error:
        error = first_cause(error)
        if isinstance(error, EXPECTED_ERRORS):
            progress.say(f"error: {error}")
            return 2
        where = Path("traceback.txt") if folder is None else folder.root / "logs" / "traceback.txt"
        where.write_text("".join(traceback.format_exception(error)), encoding="utf-8")
        progress.say(f"error: {type(error).__name__}: {' '.join(str(error).split())[:300]} (details in {where})")
        return 1
    return 0


def stages_of(verb: str, config: RunConfig, records: Mapping[str, Any]) -> tuple[str, ...]:
    """The stages a verb runs: all for `demo`, the newest policy's evaluation for `eval`, else the stage of that name."""
    if verb == "demo":
        return demo_stages(config)
    if verb == "eval":
        return (f"eval-{newest_policy(config, records) or 'base'}",)
    return (verb,)


def first_cause(error: Exception) -> Exception:
    """The first error of a group of concurrent ones; of an error from an actor, the error that was raised there."""
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    cause = getattr(error, "cause", None)
    return cause if isinstance(cause, Exception) else error


def log_to(folder: RunFolder) -> None:
    """Library chatter goes to logs/driver.log; the terminal keeps the run's own lines."""
    handler = logging.FileHandler(folder.root / "logs" / "driver.log")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)
    logging.captureWarnings(True)


async def run_in_folder(
    verbs: tuple[str, ...], config: RunConfig, folder: RunFolder, progress: ProgressView, again: bool
) -> None:
    """Run the stages named by `verbs`; finished ones are skipped unless `again`."""
    sinks = MetricSinks(config, folder.root, progress.say)
    fleet = Fleet(config, folder)
    try:
        left = [verb for verb in verbs if again or STAGES[verb].name not in folder.stage_records()]
        if len(left) > 1:
            fleet.warm_up(left)
        with progress.live():
            for verb in verbs:
                stage = STAGES[verb]
                records = folder.stage_records()
                if stage.name in records and not again:
                    progress.say(f"{stage.name}: finished before, kept")
                    continue
                if refusal := stage.refusal(verb, config, records, folder.root):
                    raise StageError(refusal)
                for line in stage.advice(config):
                    progress.say(f"{stage.name}: {line}")
                started = time.monotonic()
                record = await stage.run(StageContext(config, folder, sinks, fleet, progress))
                folder.record_stage(stage.name, {**record, "seconds": round(time.monotonic() - started, 1)})
                write_report(folder)
    finally:
        await fleet.close()
        sinks.close()
    progress.console.print(results_table(folder))
    progress.say(f"report: {folder.root / 'report.html'}")
