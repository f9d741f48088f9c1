"""A task: the problem an agent sees and the oracle that grades it."""

from dataclasses import dataclass

from envpool.oracle import Oracle
from envpool.preparation import NOTHING, Preparation
from envpool.problem import Problem


@dataclass(frozen=True)
class Task:
    """One row of a task set. `split` is `train` or `heldout`; `raw` keeps the source row as JSON text for audit; `difficulty`
    is the dataset's own word for it, "" where it has none."""

    problem: Problem
    oracle: Oracle
    source: str
    split: str
    language: str
    licence: str
    raw: str
    preparation: Preparation = NOTHING
    difficulty: str = ""

    @property
    def instance_id(self) -> str:
        return self.problem.instance_id
