"""A sandbox in which files are real and executions are not: SWE-World's rollouts without containers.

With sandbox.backend=simulated each episode's sandbox (of `sandbox.files_in`) is wrapped in one of these once it is prepared, so
its task's own set-up really runs and the model is shown this episode's issue. Edits, navigation and every shell command that
executes no code really happen. What executes code (envpool.simulation.executed_code) is answered by a transition model. Of a list
such as `cd src && python3 t.py || echo no` the parts that execute nothing are run and the joints are followed.

A simulated part leaves no trace: it writes no file, also where its output is redirected to one (`python3 t.py > out.txt`), it
sets no variable, and the shell's `$?` in a later part is not its exit code.

What a command reads as a shell would cut it: code that is started some other way (a git hook, a program not in EXECUTORS) really
runs, inside the isolated sandbox. A model that gives no readable answer in `TRIES` samples makes the command end with exit code
125 and a line that says so; it is counted in `num_unreadable`. An engine that breaks, or that has not answered `MODEL_GRACE_S`
after the command's limit, is a SandboxLostError: the episode is played again. What really runs is cut by the limit as in any
sandbox; the seconds of simulated parts do not count there.
"""

import asyncio
import time
import zlib
from collections.abc import Awaitable, Callable

from envpool.policy import PolicyError
from envpool.sandbox import ExecResult, Sandbox
from envpool.sandbox_errors import SandboxLostError
from envpool.simulation.executed_code import command_parts
from envpool.simulation.execution_recorder import DelegatingSandbox
from envpool.simulation.transition_format import ExecutionContext, InvalidRun, parse_run

SimulateText = Callable[[ExecutionContext, int], Awaitable[str]]
"""A transition model: what it may see and a seed in, its answer's text out. Raises PolicyError when the engine broke."""
TRIES = 3
UNREADABLE = "the simulated run gave no readable result\n"
UNREADABLE_EXIT_CODE = 125
MODEL_GRACE_S = 10.0
"""A model may take so much longer than a command; less than the episode then waits for its tools (TOOL_GRACE_S)."""


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
        ran_s = 0.0
        output, exit_code, truncated = "", 0, False
        for part in parts:
            if (part.joint == "&&" and exit_code != 0) or (part.joint == "||" and exit_code == 0):
                continue
            if part.executes:
                result = await self._simulated_in_time(part.text, started + timeout_s + MODEL_GRACE_S)
            else:
                result = await self.inner.run(part.text, max(timeout_s - ran_s, 0.1), max_output_bytes)
                ran_s += result.seconds
            output, exit_code, truncated = output + result.output, result.exit_code, truncated or result.truncated
            if result.timed_out:
                return ExecResult(exit_code, output, truncated, True, time.monotonic() - started)
        data = output.encode("utf-8", "replace")
        truncated = truncated or len(data) > max_output_bytes
        return ExecResult(
            exit_code, data[:max_output_bytes].decode("utf-8", "ignore"), truncated, False, time.monotonic() - started
        )

    async def _simulated_in_time(self, command: str, until: float) -> ExecResult:
        try:
            async with asyncio.timeout(until - time.monotonic()) as deadline:
                return await self._simulated(command)
        except TimeoutError as error:
            if not deadline.expired():
                raise
            raise SandboxLostError(
                f"the transition model behind the sandbox gave no result {MODEL_GRACE_S:g} s after the command's limit "
                "(rollout.episode.tool_timeout_s)"
            ) from error

    async def _simulated(self, command: str) -> ExecResult:
        context = await self.watch.context(self.inner, command)
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
