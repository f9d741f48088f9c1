"""One real run of GRPO whose processes are killed from outside, found again by a mark in their environment."""

import os
import random
import signal
import subprocess
import sys
import time
import uuid
from contextlib import suppress
from pathlib import Path

from envpool.sandbox_parts.process_tree import carries, live_processes

MARK = "SWE_KILL_CAMPAIGN"
VICTIMS = ("engine", "rollout_worker", "learner", "sandbox", "driver")
TITLES = {
    "engine": ("ray::EngineActor", "VLLM::EngineCore"),
    "rollout_worker": ("ray::RolloutWorker",),
    "learner": ("ray::LearnerRank",),
}
ORPHAN_S = 30.0


class KilledRun:
    """One run folder and the processes that work on it."""

    def __init__(self, root: Path, overrides: list[str]) -> None:
        self.root, self._overrides = root, overrides
        self._mark = uuid.uuid4().hex
        self._driver: subprocess.Popen[bytes] | None = None
        self._log = root / "logs" / "campaign.log"
        self.leftovers = 0
        """Processes that were still there ORPHAN_S after their driver's death."""

    def start(self) -> None:
        environment = {**os.environ, MARK: self._mark}
        command = [sys.executable, "-m", "cluster.cli", "grpo", "--resume", str(self.root), *self._overrides]
        with self._log.open("ab") as log:
            self._driver = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)

    @property
    def exit_code(self) -> int | None:
        assert self._driver is not None
        return self._driver.poll()

    def written(self) -> int:
        """Bytes of everything that says that the run goes on."""
        files = [self.root / "window" / "ledger.jsonl", *(self.root / "journal").glob("*.jsonl")]
        return sum(path.stat().st_size for path in files if path.exists())

    def wait_for_progress(self, before: int, timeout_s: float) -> bool:
        """Whether the run wrote on, or ended well, in time."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline and self.exit_code is None:
            if self.written() > before:
                return True
            time.sleep(0.1)
        return self.exit_code == 0

    def kill(self, victim: str, dice: random.Random) -> bool:
        """Kill -9 one process of that kind; False when there is none now."""
        assert self._driver is not None
        if victim == "driver":
            self._driver.kill()
            self._driver.wait()
            self.leftovers += self._wait_until_gone()
            return True
        pids = self._pids(victim)
        if not pids:
            return False
        with suppress(ProcessLookupError):
            os.kill(dice.choice(pids), signal.SIGKILL)
            return True
        return False

    def _pids(self, victim: str) -> list[int]:
        mine = self._mine()
        if victim != "sandbox":
            return [pid for pid in mine if _title(pid).startswith(TITLES[victim])]
        workers = {pid for pid in mine if _title(pid).startswith(TITLES["rollout_worker"])}
        # Its first process only: what runs inside may have been killed by the agent, and is no lost sandbox.
        return [process.pid for process in live_processes() if process.parent in workers]

    def _wait_until_gone(self) -> int:
        deadline = time.monotonic() + ORPHAN_S
        while (left := self._mine()) and time.monotonic() < deadline:
            time.sleep(0.5)
        if left:
            note(f"{self.root.name}: left by the dead driver: {', '.join(_title(pid)[:60] for pid in left)}")
        self.end()
        return len(left)

    def _mine(self) -> list[int]:
        return [process.pid for process in live_processes() if carries(process.pid, f"{MARK}={self._mark}".encode())]

    def end(self) -> None:
        """Kill what is left of the run's processes."""
        for pid in self._mine():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def _title(pid: int) -> str:
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    return ""


def note(text: str) -> None:
    """A line of progress on stderr."""
    sys.stderr.write(text + "\n")
