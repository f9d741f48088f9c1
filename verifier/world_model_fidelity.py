"""How close simulations are to what really happened: exit codes and outputs of commands, statuses of tests."""

from collections.abc import Mapping, Sequence

from envpool.simulation.transition_format import ExecutedCommand, InvalidRun, SimulatedRun


def run_fidelity(pairs: Sequence[tuple[SimulatedRun | InvalidRun, ExecutedCommand]]) -> dict[str, float]:
    """Over all commands: share of readable answers, of right exit codes, of right "failed or not", of equal outputs (white space
    at line ends aside). An unreadable answer is wrong in all of them. Empty without commands."""
    if not pairs:
        return {}
    readable = exit_code = verdict = output = 0
    for simulated, real in pairs:
        if isinstance(simulated, InvalidRun):
            continue
        readable += 1
        exit_code += simulated.exit_code == real.exit_code
        verdict += (simulated.exit_code == 0) == (real.exit_code == 0)
        output += _lines(simulated.output) == _lines(real.output)
    counts = {"readable": readable, "exit_code_accuracy": exit_code, "verdict_accuracy": verdict, "output_agreement": output}
    return {"num": float(len(pairs)), **{name: count / len(pairs) for name, count in counts.items()}}


def report_agreement(pairs: Sequence[tuple[Mapping[str, str], Mapping[str, str]]]) -> dict[str, float]:
    """(simulated, real) statuses by test: share of the real tests whose status was foreseen, of those that were named at all, and
    of reports that are right in every test. Empty without tests.

    >>> report_agreement([({"a": "PASSED", "c": "PASSED"}, {"a": "PASSED", "b": "FAILED"})])
    {'num_tests': 2.0, 'named': 0.5, 'status_agreement': 0.5, 'whole_report': 0.0}
    """
    tests = [(simulated.get(name), status) for simulated, real in pairs for name, status in real.items()]
    if not tests:
        return {}
    right = sum(simulated == status for simulated, status in tests)
    whole = sum(dict(simulated) == dict(real) for simulated, real in pairs)
    named = sum(simulated is not None for simulated, _ in tests)
    return {
        "num_tests": float(len(tests)),
        "named": named / len(tests),
        "status_agreement": right / len(tests),
        "whole_report": whole / len(pairs),
    }


def _lines(text: str) -> list[str]:
    return [line.rstrip() for line in text.rstrip().splitlines()]
