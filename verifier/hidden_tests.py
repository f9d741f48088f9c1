"""Grading a patch by really running the hidden tests: the patch is graded, never the agent's own sandbox.

Order of events, in a fresh sandbox of the task's image: the task's set-up; what a scorer may see is read, which leaves the work
tree as it was (`verifier.context_reading`: neither the oracle nor hidden paths of the image enter it); the model's patch,
without its edits of tests, of their set-up and of junk (`verifier.patch_cleaning`); the hidden test files are put back to the
base commit, the test patch is applied and the hidden files are written; the evaluation script runs once, under a deadline.
The log is the output of that single command and the exit code is the one the sandbox reports, so no end marker or exit line
that the code under test prints can stand in for them. pytest writes its JUnit report to a path drawn for this run; hidden test
files are read before and after the run. `verifier.grading` lets these witnesses agree or not.

What this cannot decide: code under test runs in the process of the tests. One that knows this grader, finds the report's
path and forges log, report and exit code together is believed.
"""

import asyncio
import secrets
import shlex
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeVar

from envpool.git_scrub import GIT, apply_patch
from envpool.patch import Patch
from envpool.pool.sandbox_pool import SandboxPool
from envpool.pool.sandbox_preparation import set_up
from envpool.sandbox import ExecResult, Sandbox
from envpool.sandbox_errors import SandboxError, SandboxLostError
from envpool.task import Task
from verifier.context_reading import read_context, shown_part
from verifier.deployable_context import DeployableContext
from verifier.grade_cache import GradedPatch
from verifier.grading import grade_run, no_test_ran, ungraded_report
from verifier.infra_failure import infra_failure
from verifier.junit_report import MAX_BYTES as MAX_JUNIT_BYTES
from verifier.patch_cleaning import CleanedPatch, clean_patch, hidden_test_paths
from verifier.test_report import TestReport
from verifier.test_run import TestRun, ended_run

SETUP_TIMEOUT_S = 60.0
"""Deadline of one preparing command (apply, restore)."""
MAX_LOG_BYTES = 8_388_608
REWARD_FILE = "/logs/verifier/reward.txt"
"""Where Harbor's test scripts leave their verdict."""

DOES_NOT_APPLY = "the patch does not apply"
NOTHING_LEFT = "nothing is left of the patch"
TESTS_DO_NOT_FIT = "the hidden tests cannot be put in after the patch"

Result = TypeVar("Result")


class BrokenTaskError(SandboxError):
    """The task itself cannot be graded: its test patch does not apply to its own base. Not worth a retry."""


class GradingBrokenError(SandboxLostError):
    """The machine, not the patch, kept the hidden tests from running (disk, memory, name lookup)."""


async def run_hidden_tests(task: Task, patch: Patch, pool: SandboxPool, timeout_s: float) -> TestReport:
    """The report of `patch`; `timeout_s` bounds the run of the tests, which is then unresolved. Raises SandboxError."""
    return (await grade_patch(task, patch, pool, timeout_s, with_context=False)).report


async def grade_patch(
    task: Task, patch: Patch, pool: SandboxPool, timeout_s: float, with_context: bool, protect_test_setup: bool = True
) -> GradedPatch:
    """Run the hidden tests on a patch, and read its `DeployableContext` on the way when `with_context`.

    Every patch that applies has a context, whatever becomes of it here: also one that the hidden tests do not fit on, and one
    that is empty once cleaned. The latter is unresolved; without a context to read no sandbox is started for it. Raises
    SandboxError for what is not the patch's fault, BrokenTaskError when the task's own test patch does not apply.
    """
    cleaned = clean_patch(patch, task.oracle, protect_test_setup, task.preparation.hidden_paths)
    shown = shown_part(patch) if with_context else Patch("")
    if cleaned.patch.is_empty and shown.is_empty:
        why = NOTHING_LEFT if cleaned.dropped else "the patch is empty"
        return GradedPatch(ungraded_report(task.oracle, why, cleaned.dropped), None)
    run, context = await _in_fresh_sandbox(task, pool, timeout_s, partial(_patched_run, task, cleaned, shown, timeout_s))
    if isinstance(run, TestRun):
        if no_test_ran(task.oracle, run) and infra_failure(run):
            await _check_environment(task, pool, timeout_s)
        return GradedPatch(grade_run(task.oracle, run, cleaned.dropped), context)
    if run == TESTS_DO_NOT_FIT:
        await _check_test_patch(task, pool)
    return GradedPatch(ungraded_report(task.oracle, run, cleaned.dropped), context)


async def _in_fresh_sandbox(
    task: Task, pool: SandboxPool, timeout_s: float, work: Callable[[Sandbox], Awaitable[Result]]
) -> Result:
    """Do some work in a fresh sandbox of the task, set up; a sandbox that hangs is lost."""
    async with pool.lease(task.problem.image, task.problem.workdir) as sandbox:
        try:
            async with asyncio.timeout(timeout_s + 5 * SETUP_TIMEOUT_S) as deadline:
                await set_up(sandbox, task.preparation, task.instance_id)
                return await work(sandbox)
        except TimeoutError as error:
            if not deadline.expired():
                raise
            raise SandboxLostError(f"{task.instance_id}: the sandbox hung while grading") from error


async def _patched_run(
    task: Task, cleaned: CleanedPatch, shown: Patch, timeout_s: float, sandbox: Sandbox
) -> tuple[TestRun | str, DeployableContext | None]:
    """The run of the hidden tests after the patch, or why there was none; and what a scorer may see, read before all that."""
    context = await read_context(sandbox, task.problem, shown, task.preparation.hidden_paths)
    if cleaned.patch.is_empty:
        return NOTHING_LEFT, context
    if not await apply_patch(sandbox, cleaned.patch, SETUP_TIMEOUT_S):
        return DOES_NOT_APPLY, context
    if not await _put_tests(sandbox, task):
        return TESTS_DO_NOT_FIT, context
    return await _run_tests(sandbox, task, timeout_s), context


async def _put_tests(sandbox: Sandbox, task: Task) -> bool:
    """The hidden tests as the oracle has them, whatever was there; False when the test patch does not apply."""
    hidden = hidden_test_paths(task.oracle)
    if hidden:
        await sandbox.run(_restore_command(sandbox.workdir, task.problem.base_commit, hidden), SETUP_TIMEOUT_S)
    if not await apply_patch(sandbox, Patch(task.oracle.test_patch), SETUP_TIMEOUT_S):
        return False
    for file in task.oracle.hidden_files:
        await sandbox.write_file(file.path, file.data)
    if executable := [shlex.quote(file.path) for file in task.oracle.hidden_files if file.executable]:
        await sandbox.run(f"cd {shlex.quote(sandbox.workdir)} && chmod +x -- {' '.join(executable)}", SETUP_TIMEOUT_S)
    return True


async def _run_tests(sandbox: Sandbox, task: Task, timeout_s: float) -> TestRun:
    """Run the evaluation script; read what it left."""
    watched = [path for path in hidden_test_paths(task.oracle) if path.endswith(".py")]
    before = await _contents(sandbox, watched)
    nonce = secrets.token_hex(8)
    report = f".git/report_{nonce}.xml" if task.oracle.junit else ""
    result = await _run_script(sandbox, task.oracle.eval_script, f".git/eval_{nonce}.sh", report, timeout_s)
    after = await _contents(sandbox, watched)
    return ended_run(
        result.output,
        result.exit_code,
        result.timed_out,
        junit_xml=await _read_text(sandbox, report, MAX_JUNIT_BYTES) if report else "",
        reward_text=await _read_text(sandbox, REWARD_FILE, 1024) if task.oracle.resolution == "reward_file" else "",
        log_cut=result.truncated,
        tampered=tuple(path for path in watched if before[path] != after[path]),
    )


async def _run_script(sandbox: Sandbox, script: str, file: str, report: str, timeout_s: float) -> ExecResult:
    """Run the evaluation script from a file under `.git` (no work tree shows it, no file of the model's patch can be it)."""
    workdir, end = shlex.quote(sandbox.workdir), f"END_{secrets.token_hex(8)}"
    # the text goes through `run`, not `write_file`: sandboxes without isolation translate the workdir's name in commands
    write = f"cd {workdir} && mkdir -p .git && cat > {file} <<'{end}'\n{script.rstrip()}\n{end}\n"
    written = await sandbox.run(write, SETUP_TIMEOUT_S)
    if written.exit_code != 0:
        raise SandboxLostError(f"the evaluation script cannot be written in {sandbox.workdir}: {written.output[:200].strip()}")
    options = f'PYTEST_ADDOPTS="${{PYTEST_ADDOPTS-}} --junitxml={workdir}/{report}" ' if report else ""
    command = f'cd {workdir} && {options}"$(command -v bash || command -v sh)" {file} < /dev/null'
    return await sandbox.run(command, timeout_s, max_output_bytes=MAX_LOG_BYTES)


async def _contents(sandbox: Sandbox, paths: list[str], max_bytes: int = MAX_LOG_BYTES) -> dict[str, bytes | None]:
    """What the files hold, None where there is no readable one."""
    contents: dict[str, bytes | None] = {}
    for path in paths:
        try:
            contents[path] = await sandbox.read_file(path, max_bytes)
        except OSError as error:
            if isinstance(error, SandboxError):
                raise
            contents[path] = None
    return contents


async def _read_text(sandbox: Sandbox, path: str, max_bytes: int) -> str:
    """A file's text, "" where there is none; one that is larger than `max_bytes` counts as none."""
    data = (await _contents(sandbox, [path], max_bytes + 1))[path]
    return "" if data is None or len(data) > max_bytes else data.decode("utf-8", "replace")


def _restore_command(workdir: str, base_commit: str, paths: tuple[str, ...]) -> str:
    """A command that puts files back to the base commit (HEAD where the image does not know it) and removes those it does
    not have."""
    base = shlex.quote(f"{base_commit}^{{commit}}")
    steps = [f"cd {shlex.quote(workdir)}", f"base=$({GIT} rev-parse -q --verify {base} 2>/dev/null || echo HEAD)"]
    for path in map(shlex.quote, paths):
        known = f'{GIT} cat-file -e "$base":{path} 2>/dev/null'
        steps.append(f'if {known}; then {GIT} checkout -q "$base" -- {path}; else rm -rf -- {path}; fi')
    return "\n".join(steps)


async def _check_environment(task: Task, pool: SandboxPool, timeout_s: float) -> None:
    """No test ran, and the log looks like a broken machine; a patch could print that too. Raises GradingBrokenError when the
    hidden tests fail to start without the patch as well; otherwise the patch is to blame."""

    async def unpatched_run(sandbox: Sandbox) -> TestRun:
        await _put_tests(sandbox, task)
        return await _run_tests(sandbox, task, timeout_s)

    run = await _in_fresh_sandbox(task, pool, timeout_s, unpatched_run)
    if no_test_ran(task.oracle, run) and (why := infra_failure(run)):
        raise GradingBrokenError(f"{task.instance_id}: the hidden tests cannot run here, with or without the patch: {why}")


async def _check_test_patch(task: Task, pool: SandboxPool) -> None:
    """Who is to blame when the test patch does not apply: raises BrokenTaskError when it fails on the untouched base too."""
    async with pool.lease(task.problem.image, task.problem.workdir) as sandbox:
        if not await apply_patch(sandbox, Patch(task.oracle.test_patch), SETUP_TIMEOUT_S):
            raise BrokenTaskError(f"{task.instance_id}: its test patch does not apply to its image {task.problem.image}")
