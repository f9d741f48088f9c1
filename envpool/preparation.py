"""What happens in a fresh sandbox before anybody works in it. Agent-side code and selection must not import this module."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Preparation:
    """How a dataset's image becomes the task's start state. It may give the answer away (SWE-smith's images get their bug
    by a patch), so it is no part of the problem.

    `setup_script` is POSIX shell, run in the workdir of every sandbox of the task, the grader's too; it must end with 0.
    `hidden_paths` (absolute, or relative to the workdir) are files and folders of the image that only the grader may have:
    they are removed from the agent's sandbox after the set-up.
    """

    setup_script: str = ""
    hidden_paths: tuple[str, ...] = ()


NOTHING = Preparation()
"""The image is the start state, and all of it may be seen."""
