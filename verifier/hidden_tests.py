"""Grading a patch by really running the hidden tests: the patch is graded, never the agent's own sandbox.

Order of events, in a fresh sandbox of the task's image: the model's patch goes in, without its edits of hidden test files;
what a scorer may see is read; the hidden test files are put back to the base commit and the test patch is applied; the
evaluation script runs once, under a deadline. The log is the output of that single command and the exit code is the one
the sandbox reports, so nothing another command printed, and no end marker or exit line printed by the code under test, can
stand in for them. What a log cannot tell: code under test runs in the process of the tests and may lie to it (print a
whole false summary and exit with 0 before the tests start); see `parse_log_pytest` and `exit_code_is_explained` for the
part of this that is caught.
"""

import asyncio
import secrets
import shlex

from envpool.git_scrub import GIT, apply_patch
from envpool.patch import Patch
from envpool.sandbox import ExecResult, Sandbox
from envpool.sandbox_errors import SandboxError, SandboxLostError
from envpool.sandbox_pool import SandboxPool
from envpool.task import Task
from verifier.context_reading import read_context
from verifier.deployable_context import DeployableContext
from verifier.grade_cache import GradedPatch
from verifier.grading import TIMED_OUT, TIMEOUT_EXIT_CODE, grade_log, ungraded_report
from verifier.patch_sections import drop_paths, patch_sections
from verifier.test_report import TestReport

SETUP_TIMEOUT_S = 60.0
"""Deadline of one preparing command (apply, restore)."""
MAX_LOG_BYTES = 8_388_608


class BrokenTaskError(SandboxError):
    """The task itself cannot be graded: its test patch does not apply to its own base. Not worth a retry."""


async def run_hidden_tests(task: Task, patch: Patch, pool: SandboxPool, timeout_s: float) -> TestReport:
    """The report of `patch`; `timeout_s` bounds the run of the tests, which is then unresolved. Raises SandboxError."""
    return (await grade_patch(task, patch, pool, timeout_s, with_context=False)).report


async def grade_patch(task: Task, patch: Patch, pool: SandboxPool, timeout_s: float, with_context: bool) -> GradedPatch:
    """Run the hidden tests on a patch, and read its `DeployableContext` on the way when `with_context`.

    A patch that changes nothing but hidden test files counts as empty: unresolved, and no sandbox is started. Raises
    SandboxError for what is not the patch's fault, BrokenTaskError when the task's own test patch does not apply.
    """
    hidden = tuple(path for section in patch_sections(task.oracle.test_patch) for path in section.paths)
    model_patch = Patch(drop_paths(patch.diff, hidden) if patch_sections(patch.diff) else patch.diff)
    if model_patch.is_empty:
        return GradedPatch(ungraded_report(task.oracle, "the patch is empty"), None)
    async with pool.lease(task.problem.image, task.problem.workdir) as sandbox:
        try:
            async with asyncio.timeout(timeout_s + 4 * SETUP_TIMEOUT_S):
                graded = await _grade_in(sandbox, task, model_patch, hidden, timeout_s, with_context)
        except TimeoutError as error:
            raise SandboxLostError(f"{task.instance_id}: the sandbox hung while grading") from error
    if graded is not None:
        return graded
    await _check_test_patch(task, pool)
    return GradedPatch(ungraded_report(task.oracle, "the hidden tests cannot be put in after the patch"), None)


async def _grade_in(
    sandbox: Sandbox, task: Task, patch: Patch, hidden: tuple[str, ...], timeout_s: float, with_context: bool
) -> GradedPatch | None:
    """Grade in a fresh sandbox; None when the test patch does not apply on top of the model's."""
    if not await apply_patch(sandbox, patch, SETUP_TIMEOUT_S):
        return GradedPatch(ungraded_report(task.oracle, "the patch does not apply"), None)
    context: DeployableContext | None = await read_context(sandbox, task.problem, patch) if with_context else None
    if hidden:
        await sandbox.run(_restore_command(sandbox.workdir, hidden), SETUP_TIMEOUT_S)
        if not await apply_patch(sandbox, Patch(task.oracle.test_patch), SETUP_TIMEOUT_S):
            return None
    result = await _run_script(sandbox, task.oracle.eval_script, timeout_s)
    log = f"{result.output.rstrip()}\n{TIMED_OUT}" if result.timed_out else result.output
    report = grade_log(task.oracle, log, TIMEOUT_EXIT_CODE if result.timed_out else result.exit_code, applied=True)
    return GradedPatch(report, context)


async def _run_script(sandbox: Sandbox, script: str, timeout_s: float) -> ExecResult:
    """Run the evaluation script from a file under `.git` (no work tree shows it, no file of the model's patch can be it)."""
    nonce = secrets.token_hex(8)
    workdir, file = shlex.quote(sandbox.workdir), f".git/eval_{nonce}.sh"
    # the text goes through `run`, not `write_file`: sandboxes without isolation translate the workdir's name in commands
    write = f"cd {workdir} && cat > {file} <<'END_{nonce}'\n{script.rstrip()}\nEND_{nonce}\n"
    written = await sandbox.run(write, SETUP_TIMEOUT_S)
    if written.exit_code != 0:
        raise SandboxLostError(f"the evaluation script cannot be written in {sandbox.workdir}: {written.output[:200].strip()}")
    command = f'cd {workdir} && "$(command -v bash || command -v sh)" {file} < /dev/null'
    return await sandbox.run(command, timeout_s, max_output_bytes=MAX_LOG_BYTES)


def _restore_command(workdir: str, paths: tuple[str, ...]) -> str:
    """A command that puts files back to the base commit and removes those it does not have."""
    steps = [f"cd {shlex.quote(workdir)}"]
    for path in paths:
        quoted, at_base = shlex.quote(path), shlex.quote(f"HEAD:{path}")
        steps.append(
            f"if {GIT} cat-file -e {at_base} 2>/dev/null; then {GIT} checkout -q HEAD -- {quoted}; else rm -rf -- {quoted}; fi"
        )
    return "\n".join(steps)


async def _check_test_patch(task: Task, pool: SandboxPool) -> None:
    """Who is to blame when the test patch does not apply: raises BrokenTaskError when it fails on the untouched base too."""
    async with pool.lease(task.problem.image, task.problem.workdir) as sandbox:
        if not await apply_patch(sandbox, Patch(task.oracle.test_patch), SETUP_TIMEOUT_S):
            raise BrokenTaskError(f"{task.instance_id}: its test patch does not apply to its image {task.problem.image}")
