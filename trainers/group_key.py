"""The name of a group: which place in the plan it fills. Groups are told apart by it and never by their position in a list."""

from dataclasses import dataclass


@dataclass(frozen=True, order=True)
class GroupKey:
    """The `index`-th group that was planned for step `step` (an asynchronous run may train it a little earlier or later);
    an index of `groups_per_step` and more is a replacement. Keys sort by age.

    >>> str(GroupKey(3, 1, "demo-7")), GroupKey.parse("3/1/demo-7") == GroupKey(3, 1, "demo-7")
    ('3/1/demo-7', True)
    """

    step: int
    index: int
    task_id: str

    def __str__(self) -> str:
        return f"{self.step}/{self.index}/{self.task_id}"

    @classmethod
    def parse(cls, text: str) -> "GroupKey":
        """The key that `str` wrote. Raises ValueError."""
        step, index, task_id = text.split("/", 2)
        return cls(int(step), int(index), task_id)
