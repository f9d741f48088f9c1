"""The grader of models' patches, for whoever makes tasks and must know that they grade (envpool.packages.package_validation)."""

from dataclasses import dataclass

from envpool.packages.package_validation import Verdict
from envpool.patch import Patch
from envpool.pool.sandbox_pool import SandboxPool
from envpool.task import Task
from verifier.hidden_tests import BrokenTaskError, run_hidden_tests


@dataclass(frozen=True)
class HiddenTestGrader:
    """`run_hidden_tests` in sandboxes of `pool`, under the task's own deadline. Raises SandboxError.

    A task whose test patch does not apply to its own image is one that nothing resolves: no test has a status.
    """

    pool: SandboxPool

    async def __call__(self, task: Task, diff: str) -> Verdict:
        try:
            report = await run_hidden_tests(task, Patch(diff), self.pool, task.oracle.timeout_s)
        except BrokenTaskError:
            return Verdict({}, False)
        return Verdict({test: status.value for test, status in report.status.items()}, report.resolved)
