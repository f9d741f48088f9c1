"""Fidelity of simulations against real results."""

import pytest

from envpool.simulation.transition_format import ExecutedCommand, ExecutionContext, InvalidRun, SimulatedRun
from verifier.world_model_fidelity import report_agreement, run_fidelity

CONTEXT = ExecutionContext("", "python3 t.py", {}, "")


def test_runs() -> None:
    pairs = [
        (SimulatedRun("failed a \n", 1), ExecutedCommand(CONTEXT, "failed a\n\n", 1)),
        (SimulatedRun("passed\n", 0), ExecutedCommand(CONTEXT, "failed a\n", 1)),
        (SimulatedRun("Killed\n", 2), ExecutedCommand(CONTEXT, "failed a\n", 1)),
        (InvalidRun("no JSON"), ExecutedCommand(CONTEXT, "", 0)),
    ]
    assert run_fidelity(pairs) == {
        "num": 4.0,
        "readable": 0.75,
        "exit_code_accuracy": 0.25,
        "verdict_accuracy": 0.5,
        "output_agreement": 0.25,
    }
    assert run_fidelity([]) == {}


def test_reports() -> None:
    pairs = [
        ({"a": "PASSED", "b": "FAILED"}, {"a": "PASSED", "b": "FAILED"}),
        ({"a": "PASSED", "x": "PASSED"}, {"a": "FAILED", "b": "FAILED"}),
    ]
    assert report_agreement(pairs) == {"num_tests": 4.0, "named": 0.75, "status_agreement": 0.5, "whole_report": 0.5}
    assert report_agreement([({}, {})]) == {}
    assert report_agreement([({"a": "PASSED"}, {"a": "PASSED"})])["whole_report"] == pytest.approx(1.0)
