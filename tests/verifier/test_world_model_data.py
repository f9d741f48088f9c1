"""Training data of the world model: what is kept, what is dropped and counted."""

from dataclasses import replace

import numpy as np
import pytest

from envpool.patch import Patch
from envpool.simulation.transition_format import ExecutedCommand, ExecutionContext
from envpool.trajectory import StopReason, Trajectory
from tests.verifier.test_scorer_prompt import CONTEXT, DIFF
from verifier.report_format import SimulatedReport, parse_report
from verifier.reward import Reward, ScoredTrajectory
from verifier.score_columns import score_columns, scored_from_columns
from verifier.test_run import TIMED_OUT
from verifier.world_model_data import (
    MAX_COMMANDS,
    real_statuses,
    report_samples,
    shown_truth,
    transition_samples,
    unobserved,
    with_thought,
)


def episode(
    instance: str, line: str, resolved: bool, log: str = "FAILED t.py::a", context: bool = True, grader: str = ""
) -> ScoredTrajectory:
    diff = DIFF.replace("a + b", line)
    trajectory = Trajectory(instance, 0, "p", "", (), Patch(diff), StopReason.SUBMITTED, 1.0)
    shown = replace(CONTEXT, patch=diff) if context else None
    return ScoredTrajectory(trajectory, Reward(0.0, {}, True), resolved, log, shown, grader)


def command(text: str, exit_code: int, code: str = "print(1)\n") -> ExecutedCommand:
    return ExecutedCommand(ExecutionContext("issue", text, {"t.py": code}, ""), f"ran {text}\n", exit_code)


def test_reports_are_counted_where_they_are_dropped() -> None:
    passed = "1 + 1 = 2\nPASSED t.py::a"
    episodes = [
        episode("x", "a + b", True, passed),
        episode("x", "a + b", True, passed),
        episode("x", "a * b", False),
        episode("y", "a + b", True, passed),
        episode("y", "a / b", False, context=False),
        episode("y", "a // b", False, f"PASSED t.py::a\n{TIMED_OUT}"),
        episode("y", "a % b", False, grader="swr/deployable"),
        episode("z", "a + b", True, passed),
    ]
    samples, counts = report_samples(episodes, balanced=False, seed=0)
    right = "<think>\n1 + 1 = 2\n</think>\nPASSED t.py::a\n<reward>1</reward>"
    assert [(sample.instance_id, sample.resolved, sample.target("compact")) for sample in samples] == [
        ("x", True, right),
        ("x", False, "<think>\n\n</think>\nFAILED t.py::a\n<reward>0</reward>"),
        ("y", True, right),
        ("z", True, right),
    ]
    assert (counts.num_seen, counts.without_context, counts.timed_out, counts.simulated, counts.duplicate) == (8, 1, 1, 1, 1)
    balanced, after = report_samples(episodes, balanced=True, seed=0)
    assert (len(balanced), after.resolved, after.unresolved, after.unbalanced) == (2, 1, 1, 2)
    assert {sample.resolved for sample in balanced} == {True, False}
    assert np.all([sample in samples for sample in balanced])


def test_without_observations_equal_patches_are_one_sample() -> None:
    told = [episode("x", "a + b", True), episode("x", "a + b", True), episode("x", "a * b", False)]
    told = [replace(one, context=one.context and replace(one.context, observed=f"{n} passed")) for n, one in enumerate(told)]
    with_them, _ = report_samples(told, balanced=False, seed=0)
    without, counts = report_samples(map(unobserved, told), balanced=False, seed=0)
    assert (len(with_them), len(without), counts.duplicate) == (3, 2, 1)
    assert [sum("passed" in sample.messages[-1].content for sample in samples) for samples in (with_them, without)] == [3, 0]
    assert unobserved(replace(told[0], context=None)).context is None


def test_at_most_six_commands_of_an_episode_and_no_command_twice() -> None:
    many = tuple(command(f"python3 t{index}.py", index % 2) for index in range(9))
    first = replace(episode("x", "a + b", True), executed=many)
    second = replace(episode("x", "a * b", True), executed=(command("python3 t0.py", 0), command("python3 t0.py", 1, "other\n")))
    samples, counts = transition_samples([first, second], balanced=False, seed=0)
    assert len(samples) == MAX_COMMANDS + 1
    assert (counts.num_seen, counts.surplus, counts.duplicate, counts.succeeded, counts.failed) == (11, 3, 1, 3, 4)
    assert samples[0].target("compact") == "<think>\n\n</think>\nran python3 t0.py\n<exit_code>0</exit_code>"
    balanced, after = transition_samples([first, second], balanced=True, seed=0)
    assert (len(balanced), after.unbalanced, after.succeeded, after.failed) == (6, 1, 3, 3)


@pytest.mark.parametrize("form", ["compact", "full"])
def test_a_teachers_thought_replaces_the_default(form: str) -> None:
    (sample,), _ = report_samples([episode("x", "a + b", True, "noise\nPASSED t.py::a")], balanced=False, seed=0, form=form)
    report = parse_report(with_thought(sample, "because").target(form))
    assert report == SimulatedReport(1, {"t.py::a": "PASSED"}, "because")
    assert shown_truth(sample) == "PASSED t.py::a\nreward 1"


def test_reports_are_those_that_the_grader_read_whatever_the_runner() -> None:
    log = "test_a (x.Y) ... ok\ntest_b (x.Y) ... FAIL\n\nRan 2 tests in 0.1s\n\nFAILED (failures=1)\n"
    django = replace(
        episode("x", "a + b", False, log),
        statuses={"test_a (x.Y)": "passed", "test_b (x.Y)": "failed", "test_c (x.Y)": "missing", "test_d (x.Y)": "xfail"},
    )
    assert real_statuses(django) == {
        "test_a (x.Y)": "PASSED", "test_b (x.Y)": "FAILED", "test_c (x.Y)": "ERROR", "test_d (x.Y)": "XFAIL"
    }  # fmt: skip
    (sample,), _ = report_samples([django], balanced=False, seed=0, form="full")
    report = parse_report(sample.target("full"))
    assert isinstance(report, SimulatedReport)
    assert report.statuses == real_statuses(django)
    assert shown_truth(sample).startswith("PASSED test_a (x.Y)\nFAILED test_b (x.Y)\nERROR test_c (x.Y)\n")


def test_files_that_kept_no_statuses_are_read_as_pytest_logs() -> None:
    assert real_statuses(episode("x", "a + b", False, "FAILED t.py::a - assert 1 == 2")) == {"t.py::a": "FAILED"}


def test_executed_commands_survive_storage() -> None:
    scored = replace(episode("x", "a + b", True), executed=(command("python3 t.py", 1),))
    columns = score_columns(scored)
    assert scored_from_columns(scored.trajectory, columns) == scored
    assert scored_from_columns(scored.trajectory, {k: v for k, v in columns.items() if k != "executed"}).executed == ()
