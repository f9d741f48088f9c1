"""How fast dataset rows become prepared tasks, what decontamination costs, and peak memory.

    python -m benchmarks.task_preparing_speed                       # 20,000 rows against 500 held-out tasks
    python -m benchmarks.task_preparing_speed --rows 2000 --json

Rows are SWE-rebench's in shape, with generated issue texts of 60 to 500 words, in one Parquet file; every hundredth is a
held-out issue with 2 % of its words changed. The measurement runs in a process of its own, so that its peak memory is its own.
"""

import argparse
import json
import multiprocessing
import random
import resource
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from envpool.curation.heldout_split import HeldoutSet
from envpool.curation.issue_index import DEFAULT_SIMILARITY
from envpool.dataset_rows.task_preparing import heldout_set, prepare_tasks
from envpool.problem import Problem

DIFF = "diff --git a/{0} b/{0}\n--- a/{0}\n+++ b/{0}\n@@ -1 +1 @@\n-old\n+new\n"
VOCABULARY = [f"word{number}" for number in range(20_000)]
PLANTED_EVERY = 100
CHUNK = 500


def issue(rng: random.Random) -> str:
    return " ".join(rng.choices(VOCABULARY, k=rng.randint(60, 500)))


def edited(rng: random.Random, text: str) -> str:
    """The text with 2 % of its words changed."""
    words = text.split()
    for _ in range(len(words) // 50):
        words[rng.randrange(len(words))] = rng.choice(VOCABULARY)
    return " ".join(words)


def row(name: str, repo: str, text: str) -> dict[str, Any]:
    return {
        "instance_id": name,
        "repo": repo,
        "base_commit": "0" * 40,
        "problem_statement": text,
        "patch": DIFF.format("pkg/code.py"),
        "test_patch": DIFF.format("tests/test_code.py"),
        "FAIL_TO_PASS": ["tests/test_code.py::test_a"],
        "PASS_TO_PASS": [f"tests/test_code.py::test_{number}" for number in range(50)],
        "docker_image": f"swerebench/sweb.eval.x86_64.{name}",
        "install_config": {"install": "pip install -e .", "test_cmd": "pytest -rA", "log_parser": "parse_log_pytest"},
    }


def write_rows(path: Path, rows: Iterator[dict[str, Any]]) -> None:
    writer = None
    chunk: list[dict[str, Any]] = []
    for found in rows:
        chunk.append(found)
        if len(chunk) == CHUNK:
            table = pa.Table.from_pylist(chunk)
            writer = writer or pq.ParquetWriter(path, table.schema)
            writer.write_table(table)
            chunk.clear()
    if writer is not None:
        writer.close()


def measured(folder: Path, num_rows: int, num_heldout: int, queue: Any) -> None:
    """Seconds (elapsed, and of this process's CPU time) of preparing and of the clash search alone, what was found, and the
    process's peak memory in MiB."""
    rng = random.Random(0)
    heldout = [issue(rng) for _ in range(num_heldout)]
    texts = [edited(rng, heldout[n % num_heldout]) if n % PLANTED_EVERY == 0 else issue(rng) for n in range(num_rows)]
    write_rows(folder / "heldout.parquet", (row(f"h-{n}", f"held/repo{n}", text) for n, text in enumerate(heldout)))
    write_rows(folder / "rows.parquet", (row(f"t-{n}", f"train/repo{n % 1400}", text) for n, text in enumerate(texts)))
    problems = [Problem(f"t-{n}", "train/x", "HEAD", "docker:x", "/testbed", text) for n, text in enumerate(texts)]
    began, began_cpu = time.monotonic(), time.process_time()
    kept_out = HeldoutSet(Problem(f"h-{n}", "held/x", "HEAD", "docker:x", "/testbed", text) for n, text in enumerate(heldout))
    found = sum(kept_out.clash(problem) is not None for problem in problems)
    search_s, search_cpu_s = time.monotonic() - began, time.process_time() - began_cpu
    del problems, texts, heldout
    began, began_cpu = time.monotonic(), time.process_time()
    prepare_tasks([str(folder / "heldout.parquet")], "swe_rebench", folder / "heldout_tasks.parquet", split="heldout")
    against = heldout_set([folder / "heldout_tasks.parquet"], repositories=True, similarity=DEFAULT_SIMILARITY)
    report = prepare_tasks([str(folder / "rows.parquet")], "swe_rebench", folder / "tasks.parquet", heldout=against)
    prepare_s, prepare_cpu_s = time.monotonic() - began, time.process_time() - began_cpu
    queue.put(
        {
            "rows": num_rows,
            "heldout": num_heldout,
            "clash_search_s": round(search_s, 2),
            "clash_search_cpu_s": round(search_cpu_s, 2),
            "clashes_found": found,
            "clashes_planted": len(range(0, num_rows, PLANTED_EVERY)),
            "prepare_s": round(prepare_s, 2),
            "prepare_cpu_s": round(prepare_cpu_s, 2),
            "rows_per_s": round(num_rows / prepare_s),
            "tasks": report.tasks,
            "contaminated": len(report.contaminated),
            "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        }
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=20_000, help="multiple of 500")
    parser.add_argument("--heldout", type=int, default=500, help="multiple of 500")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        queue = context.Queue()
        process = context.Process(target=measured, args=(Path(folder), options.rows, options.heldout, queue))
        process.start()
        result = queue.get(timeout=1800)
        process.join(60)
    if options.json:
        print(json.dumps(result))
    else:
        for name, value in result.items():
            print(f"{name:20} {value:>10}")


if __name__ == "__main__":
    main()
