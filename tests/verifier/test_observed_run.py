import numpy as np
import pytest

from envpool.patch import Patch
from envpool.trajectory import StopReason, Trajectory, Turn
from verifier.observed_run import observed_run

EDIT = "<function=str_replace_editor>\n<parameter=command>str_replace</parameter>\n</function>"
VIEW = "<function=str_replace_editor>\n<parameter=command>view</parameter>\n</function>"
BASH = "<function=execute_bash>\n<parameter=command>python3 test_a.py</parameter>\n</function>"
SUBMIT = "<function=submit>\n</function>"


def trajectory(*steps: tuple[str, str]) -> Trajectory:
    ids = np.zeros(1, np.int32)
    turns = tuple(Turn(ids, ids, np.zeros(1, np.float32), ids, action, action, seen, 0.0, 0.0) for action, seen in steps)
    return Trajectory("a", 0, "engine", "p", turns, Patch(""), StopReason.SUBMITTED, 1.0)


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        ([(VIEW, "text"), (EDIT, "edited"), (BASH, "passed"), (SUBMIT, "")], "passed"),
        ([(EDIT, "edited"), (BASH, "failed f\nexit 1"), (EDIT, "edited"), (SUBMIT, "")], ""),
        ([(EDIT, "edited"), (BASH, "failed f"), (EDIT, "edited"), (BASH, "passed"), (VIEW, "text")], "passed"),
        ([(BASH, "failed f"), (EDIT, "edited"), (VIEW, "text")], ""),
        ([("", "no tool call")], ""),
        ([], ""),
    ],
)
def test_only_a_run_after_the_last_edit_counts(steps: list[tuple[str, str]], expected: str) -> None:
    assert observed_run(trajectory(*steps)) == expected


def test_the_end_of_a_long_output_is_kept() -> None:
    assert observed_run(trajectory((BASH, "a" * 50 + "passed")), max_chars=6) == "passed"
