"""What each trained group said about its task, one JSON line a group: read again by a resumed run."""

from dataclasses import asdict
from pathlib import Path

import orjson

from cluster.run_folder import write_atomically
from trainers.task_sampling import GroupOutcome
from verifier.reward import Group
from verifier.rewards import RewardTable


class OutcomeLogError(ValueError):
    """A damaged file; one line that names it and what to do."""


def group_outcome(step: int, group: Group, table: RewardTable) -> GroupOutcome:
    """Graded members; `truncated` are those whose outcome earns alpha by the table. Lost ones are nowhere."""
    rules = [(member, table[member.trajectory.stop_reason]) for member in group.members]
    truncated = [member for member, rule in rules if rule.graded and rule.factor == "alpha"]
    return GroupOutcome(
        step=step,
        instance_id=group.instance_id,
        episodes=len(group.members),
        resolved=sum(member.resolved for member in group.members),
        truncated=tuple(member.resolved for member in truncated),
    )


class OutcomeLog:
    """`path` holds the outcomes of steps before `start_step`; what is there of later ones (trained, then lost with the
    checkpoint) is removed. `table`: the run's rewards. Raises OutcomeLogError."""

    def __init__(self, path: Path, start_step: int, table: RewardTable) -> None:
        self._path, self._table = path, table
        self._outcomes = [outcome for outcome in _read(path) if outcome.step < start_step]
        write_atomically(path, b"".join(orjson.dumps(asdict(outcome)) + b"\n" for outcome in self._outcomes))

    def add(self, step: int, groups: list[Group]) -> None:
        """Record the groups that step `step` (0 is the first) trained on."""
        new = [group_outcome(step, group, self._table) for group in groups]
        self._outcomes += new
        with self._path.open("ab") as file:
            file.write(b"".join(orjson.dumps(asdict(outcome)) + b"\n" for outcome in new))

    def before(self, step: int) -> list[GroupOutcome]:
        """The outcomes of all steps before `step`, oldest first."""
        return [outcome for outcome in self._outcomes if outcome.step < step]


def _read(path: Path) -> list[GroupOutcome]:
    if not path.exists():
        return []
    outcomes = []
    lines = path.read_bytes().split(b"\n")
    for number, line in enumerate(lines[:-1], start=1):  # what follows the last newline was cut off by a crash
        try:
            row = orjson.loads(line)
            outcomes.append(GroupOutcome(**{**row, "truncated": tuple(row["truncated"])}))
        except (KeyError, TypeError, ValueError) as error:
            raise OutcomeLogError(f"{path}: line {number} is no outcome ({error}); remove the file to forget them") from error
    return outcomes
