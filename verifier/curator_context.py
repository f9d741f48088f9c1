"""What a scorer may see while a world model is trained or used as a training reward: the deployable context and the oracle.

A choice at test time cannot use this type: `verifier.selection` may not import this module (a contract in pyproject.toml).
"""

from dataclasses import dataclass
from typing import ClassVar

from envpool.oracle import Oracle
from verifier.deployable_context import DeployableContext
from verifier.patch_sections import patch_sections


@dataclass(frozen=True)
class CuratorContext:
    """Everything a deployable scorer sees, and beside it the reference patch, the hidden tests (path -> text as a diff), the
    lists of tests that must pass, and the command that runs them.
    """

    kind: ClassVar[str] = "curator"

    deployable: DeployableContext
    gold_patch: str
    hidden_tests: dict[str, str]
    fail_to_pass: tuple[str, ...]
    pass_to_pass: tuple[str, ...]
    test_command: str


def curator_context(deployable: DeployableContext, oracle: Oracle) -> CuratorContext:
    """The curator's view of a patch: what a deployable scorer sees of it, and what the oracle knows of its task."""
    tests = {section.paths[-1]: section.text for section in patch_sections(oracle.test_patch) if section.paths}
    tests.update({file.path: file.data.decode("utf-8", "replace") for file in oracle.hidden_files})
    return CuratorContext(
        deployable=deployable,
        gold_patch=oracle.gold_patch,
        hidden_tests=tests,
        fail_to_pass=oracle.fail_to_pass,
        pass_to_pass=oracle.pass_to_pass,
        test_command=oracle.eval_script,
    )
