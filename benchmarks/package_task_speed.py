"""How many validated tasks come from real packages, and how fast: sdists, git checkouts or folders in, tasks out.

    python -m benchmarks.package_task_speed toolz-1.0.0.tar.gz sqlparse-0.5.3.tar.gz --tasks 100 --json

Everything runs as in the stage `tasks`: process sandboxes, the real grader. Each task was noticed by the package's own tests,
failed twice more with its bugs alone in a fresh sandbox, and was resolved by its gold patch there. Images and tasks go to
a temporary folder, or to --keep FOLDER (as images/ and tasks.parquet of a run folder have them).

Both wall and CPU seconds (of this process and all it started) are given: on a busy machine only the second says something.
"""

import argparse
import asyncio
import json
import os
import resource
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from configs.sandbox_config import SandboxConfig
from configs.tasks_config import PackageTasksConfig
from envpool.packages.package_tasks import PackageTasksError, PackageTasksResult, make_package_tasks
from envpool.pool.sandbox_pool import SandboxPool
from envpool.sandbox_parts.image_cache import FolderImages
from envpool.sandboxes.process_sandbox import ProcessBackend, bubblewrap_works
from envpool.task import Task
from envpool.task_sets.task_store import write_tasks
from verifier.validation_grader import HiddenTestGrader

LEASE_S = 1800.0


async def measure(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """One row per source and the totals; seconds are wall-clock."""
    images = FolderImages(folder / "images")
    config = PackageTasksConfig(
        max_tasks=arguments.tasks,
        max_candidates=arguments.candidates,
        combined_share=arguments.combined_share,
        concurrency=arguments.concurrency,
    )
    tasks: list[Task] = []
    rows = []
    began, cpu_began = time.monotonic(), cpu_seconds()
    for source in arguments.sources:
        started, cpu_started, load = time.monotonic(), cpu_seconds(), os.getloadavg()[0]
        pool = SandboxPool(ProcessBackend(SandboxConfig(), images, "benchmark"), config.concurrency, LEASE_S)
        try:
            result = await make_package_tasks(source, images, pool, config, HiddenTestGrader(pool), arguments.seed)
        except PackageTasksError as error:
            rows.append({"source": source.name, "tasks": 0, "error": str(error)})
            continue
        finally:
            await pool.close()
        seconds = time.monotonic() - started
        tasks += result.tasks
        used = {"cpu_seconds": round(cpu_seconds() - cpu_started, 1), "load_before": round(load, 2)}
        rows.append(source_row(source, result, seconds, pool.started) | used)
        print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
    write_tasks(folder / "tasks.parquet", tasks)
    total_s = time.monotonic() - began
    return {
        "sources": rows,
        "tasks": len(tasks),
        "seconds": round(total_s, 1),
        "cpu_seconds": round(cpu_seconds() - cpu_began, 1),
        "tasks_per_minute": round(60 * len(tasks) / total_s, 1),
        "difficulty": dict(Counter(task.difficulty for task in tasks)),
        "operators": dict(Counter(operator for task in tasks for operator in operators_of(task))),
        "cores": os.cpu_count(),
        "isolation": "bubblewrap" if bubblewrap_works() else "none",
        "seed": arguments.seed,
    }


def source_row(source: Path, result: PackageTasksResult, seconds: float, sandboxes: int) -> dict[str, Any]:
    """What became of one source."""
    return {
        "source": source.name,
        "tasks": len(result.tasks),
        "seconds": round(seconds, 1),
        "candidates": result.counts,
        "flaky_tests": len(result.flaky),
        "sandboxes": sandboxes,
    }


def cpu_seconds() -> float:
    """User and system time of this process and of its descendants that have ended and were waited for."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def operators_of(task: Task) -> list[str]:
    """`combined` and the operators of its bugs, or the one operator."""
    names = [bug["operator"] for bug in json.loads(task.raw)["bugs"]]
    return names if len(names) == 1 else ["combined"]


def arguments_of(words: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sources", nargs="+", type=Path)
    parser.add_argument("--tasks", type=int, default=100, help="tasks wanted from each source")
    parser.add_argument("--candidates", type=int, default=2000, help="single bugs tried at most for a source")
    parser.add_argument("--combined-share", type=float, default=0.2)
    parser.add_argument("--concurrency", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="where images and tasks stay")
    parser.add_argument("--json", action="store_true", help="one JSON object and nothing else on stdout")
    return parser.parse_args(words)


def main(words: list[str]) -> None:
    arguments = arguments_of(words)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with tempfile.TemporaryDirectory(prefix="swe-master-benchmark-") as folder:
        try:
            report = asyncio.run(measure(arguments, arguments.keep or Path(folder)))
        except KeyboardInterrupt:
            raise SystemExit("interrupted; finished sources are in the lines above") from None
    if arguments.json:
        print(json.dumps(report))
        return
    for row in report["sources"]:
        print(f"{row['source']:40} {row['tasks']:5} tasks {row.get('seconds', 0):8} s  {row.get('error', row.get('candidates'))}")
    print(f"{report['tasks']} tasks in {report['seconds']} s, {report['tasks_per_minute']} a minute, on {report['cores']} cores")


if __name__ == "__main__":
    main(sys.argv[1:])
