"""How many tasks of which kind are made of a package: screening and validation are scripted, nothing runs."""

from collections.abc import Iterator

import pytest

from configs.tasks_config import PackageTasksConfig
from envpool.oracle import Oracle
from envpool.packages.candidate_bugs import BugSet, CandidateBug, candidate_bugs
from envpool.packages.package_screening import Dropped, Noticed
from envpool.packages.package_tasks import _PackageRun
from envpool.packages.package_validation import Validated
from envpool.problem import Problem
from envpool.task import Task


class ScriptedScreening:
    """Tests notice every bug but those of the operators in `unnoticed`."""

    def __init__(self, *unnoticed: str) -> None:
        self.unnoticed = unnoticed
        self.batches: list[int] = []

    async def screen(self, candidates: list[BugSet], pool: object) -> list[Noticed | Dropped]:
        self.batches.append(len(candidates))
        return [
            Dropped("no test noticed")
            if bugs.operator in self.unnoticed
            else Noticed(bugs, frozenset({"t.py::a"}), {"t.py::a": ""})
            for bugs in candidates
        ]


class ScriptedValidation:
    """Every bug becomes a task but those of the operators in `dropped`."""

    def __init__(self, *dropped: str) -> None:
        self.dropped = dropped

    async def validate(self, noticed: Noticed) -> Validated | Dropped:
        operator = noticed.bugs.operator
        if operator in self.dropped:
            return Dropped("the gold patch is not graded as resolved")
        name = f"p__1.{operator}__{hash(noticed.bugs) % 1000}"
        oracle = Oracle(name, "", "", ("t.py::a",), (), "true\n", "parse_log_pytest", 60.0)
        task = Task(Problem(name, "p", "HEAD", f"folder:{name}", "/testbed", ""), oracle, "package", "train", "python", "", "")
        return Validated(task, "template", ())


SAME_FUNCTION = {"a.py": b"def f(x, y):\n    if x and x < 3:\n        return x + 1\n    return g(x, y)[1:]\n"}
MANY_FUNCTIONS = {"a.py": b"".join(b"def f%d(x):\n    return x + %d\n" % (number, number) for number in range(2, 12))}


async def kinds(
    sources: dict[str, bytes], screening: ScriptedScreening, validation: ScriptedValidation, **fields: object
) -> tuple[list[str], dict[str, int]]:
    """single or combined for each task, and the counts."""
    bugs: Iterator[CandidateBug] = candidate_bugs(sources, (), seed=0)
    run = _PackageRun(screening, validation, None)  # type: ignore[arg-type]
    await run.make(bugs, PackageTasksConfig(**fields), seed=0)  # type: ignore[arg-type]
    return ["combined" if ".combined__" in task.instance_id else "single" for task in run.tasks], dict(run.counts)


async def test_the_share_of_combinations_is_kept() -> None:
    found, counts = await kinds(MANY_FUNCTIONS, ScriptedScreening(), ScriptedValidation(), max_tasks=10, combined_share=0.4)
    assert found == ["single"] * 6 + ["combined"] * 4
    assert (counts["kept"], counts["kept, with several bugs"]) == (10, 4)
    assert counts["tried"] == counts["kept"] + counts["not needed"]


async def test_single_bugs_stand_in_for_combinations_that_cannot_be() -> None:
    """Bugs of one function are not combined."""
    found, counts = await kinds(SAME_FUNCTION, ScriptedScreening(), ScriptedValidation(), max_tasks=5, combined_share=0.6)
    assert found == ["single"] * 5
    assert counts["kept"] == 5


@pytest.mark.parametrize("max_candidates", [3, 5])
async def test_no_more_candidates_are_tried_than_allowed(max_candidates: int) -> None:
    screening = ScriptedScreening()
    found, counts = await kinds(
        MANY_FUNCTIONS, screening, ScriptedValidation(), max_tasks=50, combined_share=0.0, max_candidates=max_candidates
    )
    assert (len(found), counts["tried"]) == (max_candidates, max_candidates)


async def test_every_candidate_is_counted_once() -> None:
    screening, validation = ScriptedScreening("swapped_operator"), ScriptedValidation("dropped_term")
    found, counts = await kinds(MANY_FUNCTIONS, screening, validation, max_tasks=50, combined_share=0.0, max_candidates=40)
    assert len(found) == counts["kept"]
    reasons = ("kept", "no test noticed", "the gold patch is not graded as resolved", "not needed")
    assert counts["tried"] == sum(counts[reason] for reason in reasons) == sum(screening.batches)
    assert counts["no test noticed"] == 10
    assert counts["the gold patch is not graded as resolved"] == 10
