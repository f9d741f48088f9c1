"""How fast the viewer is on a large run: first list, scrolling, opening a trajectory, full-text search, in headless Chromium.

    python -m benchmarks.viewer_speed --trajectories 10000 --turns 100 --json

The run is written through the project's own store: 100 turns of some 80 sampled and 350 shown tokens, texts of code-like lines of
about 1.6 kB a turn, groups of 8. `--run FOLDER` keeps it there and takes it again.
"""

import argparse
import json
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.chromium_page import ChromiumPage, chromium_page
from cluster.group_store import GroupStore
from cluster.viewer.run_index import CACHE_FILE
from cluster.viewer.text_search import SearchLimits
from cluster.viewer.viewer_answers import RunLibrary
from cluster.viewer.web_server import ViewerServer
from envpool.patch import Patch
from envpool.trajectory import StopReason, Trajectory, Turn
from verifier.reward import Group, Reward, ScoredTrajectory

GROUP_SIZE = 8
RARE = "quixotic_needle"
"""Written once in a thousand trajectories, so that a search has to read everything."""
WORDS = (
    *("return", "self", "value", "index", "error", "result", "config", "path", "node", "token", "update"),
    *("parse", "merge", "count", "total", "raise", "yield", "import", "class", "def"),
)
SCROLL = """
new Promise((done) => {
  const list = document.querySelector('.vlist'), times = [];
  let last = performance.now(), frames = 0;
  const step = (now) => {
    times.push(now - last); last = now;
    list.scrollTop += 340;
    if (++frames < 240) requestAnimationFrame(step);
    else done({times: times.slice(2), rows: document.querySelectorAll('.vrow').length, top: list.scrollTop});
  };
  requestAnimationFrame(step);
})
"""


def code_lines(rng: np.random.Generator, count: int) -> list[str]:
    """Lines of words with numbers, as compressible as source code is."""
    words = rng.integers(0, len(WORDS), (count, 7))
    numbers = rng.integers(0, 5000, count)
    return [
        f"{number:>5}     {' '.join(WORDS[word] for word in row)}" for row, number in zip(words.tolist(), numbers, strict=True)
    ]


def write_run(root: Path, trajectories: int, turns: int) -> None:
    """GRPO steps of 16 groups of 8; every second group has spread."""
    rng = np.random.default_rng(0)
    (root / "logs").mkdir(parents=True)
    (root / "config.yaml").write_text("name: large\n")
    lines = code_lines(rng, 20_000)
    with GroupStore(root / "trajectories" / "grpo") as store:
        for number in range(0, trajectories, GROUP_SIZE):
            name = f"owner{number % 40}__repo{number % 200}-{number // GROUP_SIZE}"
            members = tuple(
                one_member(rng, lines, name, index, turns, (number + index) % 1000 == 0)
                for index in range(min(GROUP_SIZE, trajectories - number))
            )
            store.add(Group(name, members, ()), 1 + number // (16 * GROUP_SIZE))


def one_member(rng: np.random.Generator, lines: list[str], name: str, index: int, turns: int, rare: bool) -> ScoredTrajectory:
    places = rng.integers(0, len(lines) - 40, turns)
    shown, wrote = rng.integers(200, 500, turns), rng.integers(40, 120, turns)
    ids = rng.integers(0, 150_000, int(shown.sum() + wrote.sum())).astype(np.int32)
    logprobs = -rng.exponential(0.3, int(wrote.sum())).astype(np.float32)
    played, at, sampled = [], 0, 0
    for turn, (place, context, completion) in enumerate(zip(places.tolist(), shown.tolist(), wrote.tolist(), strict=True)):
        command = f"sed -n {place},{place + 30}p src/module_{place % 90}.py"
        action = f"<function=execute_bash>\n<parameter=command>{command}</parameter>\n</function>"
        said = "\n".join(lines[place : place + 5]) + (f" {RARE}" if rare and turn == turns // 2 else "")
        played.append(
            Turn(
                ids[at : at + context],
                ids[at + context : at + context + completion],
                logprobs[sampled : sampled + completion],
                np.full(completion, index, np.int32),
                f"{said}\n{action}",
                action,
                "\n".join(lines[place + 5 : place + 5 + 22]),
                1.0,
                0.2,
            )
        )
        at, sampled = at + context + completion, sampled + completion
    resolved = bool(index % 2)
    patch = Patch("diff --git a/a.py b/a.py\n--- a/a.py\n+++ b/a.py\n@@ -1,1 +1,1 @@\n-x\n+y\n")
    trajectory = Trajectory(name, index, "engine", "Fix it.\n" * 40, tuple(played), patch, StopReason.SUBMITTED, 1.3 * turns)
    return ScoredTrajectory(
        trajectory, Reward(float(resolved), {"outcome": float(resolved)}, True), resolved, "PASSED t.py::a\n" * 30
    )


def measure(root: Path, repeats: int) -> dict[str, Any]:
    """All figures, in seconds or milliseconds as named; the first list once without and `repeats` times with the cached index."""
    (root / CACHE_FILE).unlink(missing_ok=True)
    figures: dict[str, Any] = {"first_list_without_index_s": [], "first_list_s": []}
    with chromium_page() as page:
        page.resize(1440, 900)
        for attempt in range(repeats + 1):
            with serving(root) as server:
                name = "first_list_s" if attempt else "first_list_without_index_s"
                figures[name].append(first_list(page, server.link, root.name))
                if attempt == repeats:
                    figures |= in_the_browser(page, server.link, root.name, repeats)
    return figures


def first_list(page: ChromiumPage, link: str, run: str) -> float:
    """From the navigation to a painted list, of a server that was just started."""
    page.open("about:blank")
    page.wait("document.readyState === 'complete'")
    began = time.monotonic()
    page.open(f"{link}#/{run}/trajectories")
    page.wait("document.querySelectorAll('.vrow').length > 10", 300)
    page.value("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    return time.monotonic() - began


def in_the_browser(page: ChromiumPage, link: str, run: str, repeats: int) -> dict[str, Any]:
    scrolled = page.value(SCROLL)
    frames = np.array(scrolled["times"])
    figures: dict[str, Any] = {
        "scroll_frames": len(frames),
        "scroll_frame_ms_p50": float(np.median(frames)),
        "scroll_frame_ms_p95": float(np.quantile(frames, 0.95)),
        "scroll_frame_ms_max": float(frames.max()),
        "rows_in_page": scrolled["rows"],
    }
    opened = []
    for number in range(repeats):
        began = time.monotonic()
        page.value(f"location.hash = '#/{run}/t/grpo/shard_{number * 3:05d}/9'")
        page.wait(f"document.querySelector('main').dataset.ready?.includes('shard_{number * 3:05d}/9')", 120)
        opened.append(time.monotonic() - began)
    figures["open_trajectory_s"] = opened
    for name, needle in (("search_rare", RARE), ("search_exact_case", RARE + "_Nowhere")):
        began = time.monotonic()
        page.value(f"location.hash = '#/{run}/trajectories?q={needle}'")
        page.wait("/searched(,|$)/.test(document.querySelector('.status')?.textContent || '')", 300)
        figures[f"{name}_s"] = time.monotonic() - began
        figures[f"{name}_says"] = page.value("document.querySelector('.status').textContent")
    return figures


@contextmanager
def serving(root: Path) -> Iterator[ViewerServer]:
    """A server of its own for the run, stopped at the end."""
    server = ViewerServer(RunLibrary(root), "127.0.0.1", 0, SearchLimits(deadline_s=120.0))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


def folder(args: argparse.Namespace) -> Iterator[Path]:
    """The run to measure; a temporary one is removed afterwards."""
    if args.run is not None:
        yield args.run
        return
    with tempfile.TemporaryDirectory(prefix="viewer-") as temporary:
        yield Path(temporary) / "large"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--trajectories", type=int, default=10_000)
    parser.add_argument("--turns", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--run", type=Path, default=None, help="keep the run in this folder, or take the one that is there")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    for root in folder(args):
        began = time.monotonic()
        if not root.exists():
            write_run(root, args.trajectories, args.turns)
        written_s = time.monotonic() - began
        size = sum(path.stat().st_size for path in root.rglob("*.parquet"))
        figures = {"trajectories": args.trajectories, "turns": args.turns, "written_s": written_s, "parquet_mib": size / 2**20}
        figures |= measure(root, args.repeats)
        figures["index_kib"] = (root / CACHE_FILE).stat().st_size / 1024
        if args.json:
            print(json.dumps(figures, indent=1))
        else:
            for name, value in figures.items():
                print(f"{name:30} {value}")


if __name__ == "__main__":
    main()
