"""What an agent may see of a task."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Problem:
    """One issue in one repository, without anything that gives the answer away.

    `image` names what a sandbox is started from: `docker:<reference>` or `folder:<name>` (a tree in the image store).
    `workdir` is the repository's root as the agent sees it (absolute).
    """

    instance_id: str
    repo: str
    base_commit: str
    image: str
    workdir: str
    problem_statement: str
