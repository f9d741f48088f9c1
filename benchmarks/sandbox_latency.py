"""What one command costs in a sandbox, side by side with how others run it, in one run on a real Docker engine.

    make docker-local
    python -m benchmarks.sandbox_latency --json                  # about three minutes on a quiet machine of two cores
    python -m benchmarks.sandbox_latency --svg benchmarks/sandbox_throughput.svg --swe-rex VENV

Round trip of `true` in a warm sandbox; commands per second of 1 to 64 sandboxes at once; cold start against the engine's own
create and start with the same options; memory, threads and descriptors of this process per idle sandbox. Times are wall-clock
milliseconds: on a busy machine only the ratios say something.
"""

import argparse
import asyncio
import gc
import json
import math
import os
import platform
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))  # also when it is run as a file

from benchmarks.sandbox_peers import SweRexContainer, exec_once, swe_rex_venv, swe_rex_version
from cluster.svg_charts import Series, line_chart
from configs.sandbox_config import SandboxConfig
from envpool.pool.sandbox_pool import SandboxPool
from envpool.sandbox import Sandbox, SandboxBackend
from envpool.sandbox_parts.container_options import ENVIRONMENT, host_options
from envpool.sandbox_parts.docker_engine import connect
from envpool.sandbox_parts.image_cache import FolderImages
from envpool.sandboxes.docker_sandbox import DockerBackend
from envpool.sandboxes.process_sandbox import ProcessBackend, bubblewrap_works

COUNTS = (1, 8, 32, 64)
COMMANDS_EACH = 20
EXECS_EACH = 3
WARM_UP = 20
COMMAND_S = 60.0
STYLE = "<style>text{font:11px sans-serif;fill:#333}.t{font-size:13px;font-weight:bold}.g{stroke:#ddd}</style>"

Json = dict[str, Any]


def summary(seconds: list[float]) -> Json:
    """Milliseconds at p50, p90, p99 and how many were measured.

    >>> summary([0.001] * 98 + [0.002, 0.003])
    {'p50_ms': 1.0, 'p90_ms': 1.0, 'p99_ms': 2.0, 'n': 100}
    """
    ranked = sorted(seconds)

    def at(share: float) -> float:
        return round(1000 * ranked[max(0, math.ceil(share * len(ranked)) - 1)], 3)

    return {"p50_ms": at(0.5), "p90_ms": at(0.9), "p99_ms": at(0.99), "n": len(ranked)}


async def round_trips(run: Callable[[], Awaitable[int]], count: int) -> Json:
    """Times of `count` calls that must answer 0, after some that warm up."""
    for _ in range(min(WARM_UP, count)):
        await run()
    taken = []
    for _ in range(count):
        began = time.perf_counter()
        code = await run()
        taken.append(time.perf_counter() - began)
        if code != 0:
            raise RuntimeError(f"a command that does nothing ended with {code}")
    return summary(taken)


async def shell_round_trips(sandbox: Sandbox, command: str, count: int) -> Json:
    async def run() -> int:
        return (await sandbox.run(command, COMMAND_S)).exit_code

    return await round_trips(run, count)


async def throughput(sandboxes: list[Sandbox]) -> Json:
    """Commands per second of all of them at once, COMMANDS_EACH in each, and how many did not answer 0."""
    failures = 0

    async def use(sandbox: Sandbox) -> None:
        nonlocal failures
        for _ in range(COMMANDS_EACH):
            failures += (await sandbox.run("true", COMMAND_S)).exit_code != 0

    began = time.perf_counter()
    await asyncio.gather(*(use(sandbox) for sandbox in sandboxes))
    total = COMMANDS_EACH * len(sandboxes)
    return {"sandboxes": len(sandboxes), "per_s": round(total / (time.perf_counter() - began), 1), "failures": failures}


async def exec_throughput(client: Any, containers: list[str], threads: ThreadPoolExecutor) -> Json:
    """The same with one exec per command, a thread per container."""

    def use(container: str) -> int:
        return sum(exec_once(client, container, "true") != 0 for _ in range(EXECS_EACH))

    began = time.perf_counter()
    loop = asyncio.get_running_loop()
    failures = await asyncio.gather(*(loop.run_in_executor(threads, use, container) for container in containers))
    total = EXECS_EACH * len(containers)
    return {"sandboxes": len(containers), "per_s": round(total / (time.perf_counter() - began), 1), "failures": sum(failures)}


async def cold_starts(backend: SandboxBackend, client: Any, config: SandboxConfig, count: int) -> Json:
    """The engine's own create and start, and a started sandbox with its shell, in turns."""
    engine, ours = [], []

    def create_and_start() -> str:
        options = client.create_host_config(**host_options(config))
        container = client.create_container(config.base_image, ["sleep", "600"], environment=ENVIRONMENT, host_config=options)[
            "Id"
        ]
        client.start(container)
        return str(container)

    for number in range(count + 2):
        began = time.perf_counter()
        container = await asyncio.to_thread(create_and_start)
        between = time.perf_counter()
        await asyncio.to_thread(client.remove_container, container, force=True)
        again = time.perf_counter()
        sandbox = await backend.start(f"docker:{config.base_image}", "/testbed")
        ended = time.perf_counter()
        await sandbox.close()
        if number >= 2:  # the first ones warm up
            engine.append(between - began)
            ours.append(ended - again)
    return {"engine_create_start": summary(engine), "docker": summary(ours)}


def footprint() -> dict[str, float]:
    """This process: resident KiB, threads, descriptors."""
    gc.collect()
    with open("/proc/self/statm", encoding="ascii") as file:
        pages = int(file.read().split()[1])
    return {
        "kib": pages * os.sysconf("SC_PAGE_SIZE") / 1024,
        "threads": threading.active_count(),
        "descriptors": len(os.listdir("/proc/self/fd")),
    }


async def many(start: Callable[[], Awaitable[Sandbox]], count: int) -> tuple[list[Sandbox], Json]:
    """Start `count` at once; what each idle one costs this process."""
    warm = [await start() for _ in range(2)]
    before = footprint()
    began = time.perf_counter()
    sandboxes = list(await asyncio.gather(*(start() for _ in range(count - len(warm)))))
    seconds = time.perf_counter() - began
    after = footprint()
    each = {name: round((after[name] - before[name]) / len(sandboxes), 2) for name in before}
    return warm + sandboxes, {"start_all_s": round(seconds, 2), "per_idle_sandbox": each}


async def measure_docker(client: Any, config: SandboxConfig, arguments: argparse.Namespace) -> Json:
    backend = DockerBackend(config, FolderImages(Path("/nonexistent")), f"bench{uuid.uuid4().hex[:8]}")
    threads = ThreadPoolExecutor(max(COUNTS))
    found: Json = {}
    try:
        sandboxes, found["start"] = await many(lambda: backend.start(f"docker:{config.base_image}", "/testbed"), max(COUNTS))
        containers = [sandbox.container for sandbox in backend._open]
        found["true"] = await shell_round_trips(sandboxes[0], "true", arguments.commands)
        found["/bin/true"] = await shell_round_trips(sandboxes[0], "/bin/true", arguments.commands)

        async def run_exec() -> int:
            return await asyncio.get_running_loop().run_in_executor(threads, exec_once, client, containers[0], "true")

        found["exec_per_call"] = await round_trips(run_exec, 100)
        found["throughput"] = [await throughput(sandboxes[:count]) for count in COUNTS]
        found["exec_throughput"] = [await exec_throughput(client, containers[:count], threads) for count in COUNTS]
        await asyncio.gather(*(sandbox.close() for sandbox in sandboxes))
        found["cold_start"] = await cold_starts(backend, client, config, arguments.cold_starts)
        found["warm_acquire"] = await warm_acquires(config, arguments.cold_starts)
    finally:
        await backend.close()
        threads.shutdown()
    return found


async def warm_acquires(config: SandboxConfig, count: int) -> Json:
    """How long a lease takes that finds a sandbox started ahead, one at a time; each is waited for before it is asked for."""
    backend = DockerBackend(config, FolderImages(Path("/nonexistent")), f"bench{uuid.uuid4().hex[:8]}")
    pool = SandboxPool(backend, 4, 600.0, num_warm=4)
    image, taken = f"docker:{config.base_image}", []
    try:
        for _ in range(count):
            pool.prefetch(image, "/testbed", 1)
            async with asyncio.timeout(60):
                while pool.num_warm_ready == 0:  # noqa: ASYNC110 (the pool tells nobody)
                    await asyncio.sleep(0.005)
            began = time.perf_counter()
            async with pool.lease(image, "/testbed"):
                taken.append(time.perf_counter() - began)
        return summary(taken) | {"hits": pool.warm_hits}
    finally:
        await pool.close()


async def measure_processes(config: SandboxConfig, arguments: argparse.Namespace) -> Json:
    """Bubblewrap on a small folder; {} where it does not run."""
    if not bubblewrap_works():
        return {}
    with tempfile.TemporaryDirectory(prefix="swe-master-bench-") as folder:
        images = FolderImages(Path(folder))
        image = images.add("small", {f"pkg/file_{number}.py": "x = 1\n" * 50 for number in range(30)})
        backend = ProcessBackend(config, images, f"bench{uuid.uuid4().hex[:8]}")
        try:
            sandboxes, start = await many(lambda: backend.start(image, "/testbed"), max(COUNTS))
            found = {"start": start, "true": await shell_round_trips(sandboxes[0], "true", arguments.commands)}
            found["throughput"] = [await throughput(sandboxes[:count]) for count in COUNTS]  # type: ignore[assignment]
            taken = []
            for _ in range(100):
                began = time.perf_counter()
                sandbox = await backend.start(image, "/testbed")
                taken.append(time.perf_counter() - began)
                await sandbox.close()
            return found | {"cold_start": summary(taken)}
        finally:
            await backend.close()


async def measure_swe_rex(client: Any, config: SandboxConfig, venv: Path | None) -> Json:
    with swe_rex_venv(venv) as folder:
        began = time.perf_counter()
        peer = SweRexContainer(client, config.base_image, folder)
        try:
            await asyncio.to_thread(peer.open)
            started = time.perf_counter() - began

            async def run() -> int:
                return await asyncio.to_thread(peer.run, "true")

            return {"version": swe_rex_version(folder), "true": await round_trips(run, 100), "start_ms": round(started * 1000)}
        finally:
            await asyncio.to_thread(peer.close)


def targets(found: Json) -> list[Json]:
    """Each number that was to be reached, what was measured, and whether it was reached."""
    docker = found["docker"]
    ours, start = docker["true"]["p50_ms"], docker["cold_start"]
    wanted: list[tuple[str, float, str, float]] = [
        ("true, p50 ms", ours, "<=", 1.0),
        ("true, p99 ms", docker["true"]["p99_ms"], "<=", 10.0),
        ("times faster than one exec per call", docker["exec_per_call"]["p50_ms"] / ours, ">=", 60.0),
        ("commands/s of 32 sandboxes", docker["throughput"][2]["per_s"], ">=", 2000.0),
        ("failures of 64 sandboxes", docker["throughput"][3]["failures"], "<=", 0.0),
        ("cold start / engine's create+start", start["docker"]["p50_ms"] / start["engine_create_start"]["p50_ms"], "<=", 1.3),
        ("acquire from the warm pool, p50 ms", docker["warm_acquire"]["p50_ms"], "<=", 20.0),
        ("KiB of the driver per idle sandbox", docker["start"]["per_idle_sandbox"]["kib"], "<=", 1024.0),
        ("threads per idle sandbox", docker["start"]["per_idle_sandbox"]["threads"], "<=", 0.2),
    ]
    if found["swe_rex"]:
        wanted.insert(3, ("times faster than SWE-ReX's session", found["swe_rex"]["true"]["p50_ms"] / ours, ">=", 60.0))
    return [
        {
            "what": what,
            "measured": round(value, 3),
            "target": f"{sign} {bound:g}",
            "met": value <= bound if sign == "<=" else value >= bound,
        }
        for what, value, sign, bound in wanted
    ]


def plot(found: Json) -> str:
    """Commands per second over the number of sandboxes, as powers of ten: the approaches are a hundred times apart."""

    def line(points: list[Json]) -> Series:
        return Series([(point["sandboxes"], math.log10(point["per_s"])) for point in points])

    series = {"shell (Docker)": line(found["docker"]["throughput"])}
    if found["process"]:
        series["shell (bwrap)"] = line(found["process"]["throughput"])
    series["exec per call"] = line(found["docker"]["exec_throughput"])
    chart = line_chart("Trivial commands per second", series, "sandboxes at once", "commands/s, power of ten", (0.0, 4.2))
    return chart.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1).replace(">", f">{STYLE}", 1)


async def measure(arguments: argparse.Namespace) -> Json:
    config = SandboxConfig(isolation="auto")
    client = connect(config.docker_host, timeout_s=120)
    try:
        version = client.version()
        found: Json = {
            "machine": {
                "cores": os.cpu_count(),
                "load_before": round(os.getloadavg()[0], 2),
                "kernel": platform.release(),
                "python": platform.python_version(),
                "docker": version["Version"],
            },
            "docker": await measure_docker(client, config, arguments),
            "process": await measure_processes(config, arguments),
            "swe_rex": {} if arguments.no_swe_rex else await measure_swe_rex(client, config, arguments.swe_rex),
        }
        found["machine"]["load_after"] = round(os.getloadavg()[0], 2)
        return found | {"targets": targets(found)}
    finally:
        client.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print everything that was measured")
    parser.add_argument("--svg", type=Path, help="write the plot of commands/s over sandboxes here")
    parser.add_argument("--commands", type=int, default=1000, help="round trips per approach (the slow ones: 100)")
    parser.add_argument("--cold-starts", type=int, default=100)
    parser.add_argument("--swe-rex", type=Path, help="a virtual environment with SWE-ReX; without it a throw-away one is made")
    parser.add_argument("--no-swe-rex", action="store_true")
    arguments = parser.parse_args()
    found = asyncio.run(measure(arguments))
    if arguments.svg:
        arguments.svg.write_text(plot(found), encoding="utf-8")
    if arguments.json:
        print(json.dumps(found, indent=2))
    else:
        for row in found["targets"]:
            print(f"{row['what']:40s} {row['measured']:10,.3f}   target {row['target']:8s} {'met' if row['met'] else 'NOT met'}")
    sys.exit(0)


if __name__ == "__main__":
    main()
