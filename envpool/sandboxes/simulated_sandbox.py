"""A sandbox in which files are real and executions are not: SWE-World's rollouts without containers.

Edits, navigation and every shell command that executes no code really happen, in a sandbox of another backend
(`sandbox.files_in`: process, isolated by bubblewrap). What executes code (envpool.simulation.executed_code) is answered by a
transition model. Of a list such as `cd src && python3 t.py || echo no` the parts that execute nothing are run and the joints are
followed.

What a command reads as a shell would cut it: code that is started some other way (a git hook, a program not in EXECUTORS) really
runs, inside the isolated sandbox. A model that gives no readable answer in `TRIES` samples makes the command end with exit code
125 and a line that says so; it is counted in `num_unreadable`. An engine that breaks is a SandboxLostError: the episode is
played again.
"""

import time
import zlib
from collections.abc import Awaitable, Callable

from configs.sandbox_config import SandboxConfig
from envpool.policy import PolicyError
from envpool.pool.sandbox_pool import SweepingBackend
from envpool.problem import Problem
from envpool.sandbox import ExecResult, Sandbox, SandboxBackend
from envpool.sandbox_errors import SandboxLostError, SandboxUnavailableError
from envpool.sandbox_parts.image_cache import FolderImages
from envpool.sandboxes.docker_sandbox import DockerBackend
from envpool.sandboxes.process_sandbox import ProcessBackend
from envpool.simulation.executed_code import CommandPart, command_parts
from envpool.simulation.execution_recorder import DelegatingSandbox
from envpool.simulation.transition_format import ExecutionContext, InvalidRun, parse_run

SimulateText = Callable[[ExecutionContext, int], Awaitable[str]]
"""A transition model: what it may see and a seed in, its answer's text out. Raises PolicyError when the engine broke."""
TRIES = 3
UNREADABLE = "the simulated run gave no readable result\n"
UNREADABLE_EXIT_CODE = 125
FILES_IN: dict[str, Callable[[SandboxConfig, FolderImages, str], SandboxBackend]] = {
    "docker": DockerBackend,
    "process": ProcessBackend,
}


class SimulatedSandbox(DelegatingSandbox):
    """`inner` holds the files; `simulate` answers for what would execute. `num_simulated` counts answered commands."""

    def __init__(self, inner: Sandbox, simulate: SimulateText, problem_statement: str) -> None:
        super().__init__(inner, problem_statement)
        self._simulate = simulate
        self.num_simulated = self.num_unreadable = 0

    async def run(self, command: str, timeout_s: float, max_output_bytes: int = 65_536) -> ExecResult:
        parts = command_parts(command)
        if not any(part.executes for part in parts):
            return await self.inner.run(command, timeout_s, max_output_bytes)
        started = time.monotonic()
        output, exit_code, truncated = "", 0, False
        for part in parts:
            if (part.joint == "&&" and exit_code != 0) or (part.joint == "||" and exit_code == 0):
                continue
            result = await self._run_part(part, timeout_s, max_output_bytes)
            output, exit_code, truncated = output + result.output, result.exit_code, truncated or result.truncated
            if result.timed_out:
                return ExecResult(exit_code, output, truncated, True, time.monotonic() - started)
        data = output.encode("utf-8", "replace")
        truncated = truncated or len(data) > max_output_bytes
        return ExecResult(
            exit_code, data[:max_output_bytes].decode("utf-8", "ignore"), truncated, False, time.monotonic() - started
        )

    async def _run_part(self, part: CommandPart, timeout_s: float, max_output_bytes: int) -> ExecResult:
        if not part.executes:
            return await self.inner.run(part.text, timeout_s, max_output_bytes)
        context = await self.watch.context(self.inner, part.text)
        seed = zlib.crc32(repr(context).encode("utf-8", "replace")) & 0x1FFF_FFFC
        for attempt in range(TRIES):
            try:
                run = parse_run(await self._simulate(context, seed + attempt))
            except PolicyError as error:
                raise SandboxLostError(f"the transition model behind the sandbox broke: {error}") from error
            if not isinstance(run, InvalidRun):
                self.num_simulated += 1
                return ExecResult(run.exit_code, run.output, False, False, 0.0)
        self.num_unreadable += 1
        return ExecResult(UNREADABLE_EXIT_CODE, UNREADABLE, False, False, 0.0)


class SimulatedBackend:
    """Starts simulated sandboxes over those of `sandbox.files_in`. Give it a transition model with `connect`, and every problem
    that is played with `know` (an issue's text is part of what the model sees)."""

    def __init__(self, config: SandboxConfig, images: FolderImages, owner: str) -> None:
        if config.files_in not in FILES_IN:
            raise ValueError(f"sandbox.files_in={config.files_in!r}: use {' or '.join(FILES_IN)}")
        self.inner = FILES_IN[config.files_in](config, images, owner)
        """The backend that holds the files; what must really run (audits) runs in sandboxes of it."""
        self._statements: dict[str, str] = {}
        self._simulate: SimulateText | None = None

    def connect(self, simulate: SimulateText) -> None:
        """The transition model that answers from now on."""
        self._simulate = simulate

    def know(self, problem: Problem) -> None:
        """This problem's image belongs to this issue."""
        self._statements[problem.image] = problem.problem_statement

    async def start(self, image: str, workdir: str) -> SimulatedSandbox:
        """A sandbox with the image's files. SandboxUnavailableError without a transition model; else what the files' backend
        raises."""
        if self._simulate is None:
            raise SandboxUnavailableError("sandbox.backend=simulated has no transition model here: train or name one first")
        inner = await self.inner.start(image, workdir)
        return SimulatedSandbox(inner, self._simulate, self._statements.get(image, ""))

    async def sweep(self) -> int:
        """Remove what dead processes left of the files' sandboxes; how many."""
        return await self.inner.sweep() if isinstance(self.inner, SweepingBackend) else 0

    async def close(self) -> None:
        await self.inner.close()
