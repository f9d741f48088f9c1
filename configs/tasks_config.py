"""Which tasks a run uses and how they are made."""

from dataclasses import dataclass, field

from configs.rollout_config import EndpointConfig


@dataclass(frozen=True)
class MicroTasksConfig:
    """Knobs of the generator of micro-SWE tasks (envpool.micro.micro_tasks)."""

    num_train: int = 480
    """Distinct training tasks."""
    num_heldout: int = 128
    """Distinct held-out tasks: other names and templates than the training tasks."""
    explicit_share: float = 0.5
    """Share of issues that name the right operation; the others only say that something is wrong."""
    functions_per_file: int = 3
    """Functions in the module; one is broken."""


@dataclass(frozen=True)
class PackageTasksConfig:
    """Tasks from real Python packages with their own pytest suites."""

    sources: tuple[str, ...] = ()
    """Paths of sdists, git checkouts (their HEAD is used) or folders; empty: none."""
    max_tasks: int = 5
    """Stop after this many validated tasks of a source."""
    test_timeout_s: float = 120.0
    """One run of the package's suite; also the deadline of grading a task."""
    max_candidates: int = 60
    """Single bugs tried at most for a source."""
    combined_share: float = 0.2
    """Share of the tasks that have several bugs at once, made of bugs that were kept on their own."""
    bugs_per_combination: int = 2
    """Bugs in such a task; at least 2."""
    max_failing_share: float = 0.5
    """Bugs that break a larger share of the suite are dropped: anyone would notice them."""
    operators: tuple[str, ...] = ()
    """Names of envpool.bug_operators.BUG_OPERATORS; empty: all."""
    concurrency: int = 2
    """Bugs tried at once."""
    python: str = "python3"
    """The sandbox's interpreter."""
    test_packages: tuple[str, ...] = ("pytest",)
    """Pure-Python distributions of this environment packed into the image, with what they need; empty: `python` has pytest."""
    issue: EndpointConfig = field(default_factory=EndpointConfig)
    """Who writes the issue texts; without a base_url a template."""


@dataclass(frozen=True)
class TasksConfig:
    seed: int = 0
    """Seeds the generators."""
    micro: MicroTasksConfig = MicroTasksConfig()
    package: PackageTasksConfig = PackageTasksConfig()
    play: tuple[str, ...] = ()
    """Sources whose tasks the stages play (micro, package, ...); empty: all."""
    rows: str = ""
    """Dataset rows to import (JSON, JSONL, Parquet, or a folder of Harbor tasks); empty: none."""
    rows_source: str = "swe_rebench"
    """Adapter for the rows, one of envpool.task_sources.TASK_SOURCES."""
    prepared: tuple[str, ...] = ()
    """Files of `swe-master tasks prepare` whose tasks are taken in."""
