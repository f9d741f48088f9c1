"""The transition model's prompt and answers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envpool.simulation.transition_format import (
    ExecutionContext,
    InvalidRun,
    SimulatedRun,
    parse_run,
    render_run,
    transition_prompt,
)
from envpool.untrusted_text import neutralise

CONTEXT = ExecutionContext("add fails", "python3 t.py", {"t.py": "print(1)\n"}, "-a\n+b\n")
THOUGHT = "<think>\n1\n</think>\n"


def test_prompts() -> None:
    assert [m.content for m in transition_prompt(CONTEXT)] == ["<code>\nprint(1)\n</code>\n<command>\npython3 t.py\n</command>"]
    system, user = transition_prompt(CONTEXT, form="full")
    assert "exit_code" in system.content
    assert user.content.startswith("<issue>\nadd fails\n</issue>\n<patch>\n-a\n+b\n</patch>\n<code>\nprint(1)\n</code>")


def test_the_command_and_the_code_come_before_issue_and_diff_in_a_small_budget() -> None:
    big = ExecutionContext("i" * 5_000, "c" * 100, {"t.py": "t" * 5_000}, "p" * 5_000)
    content = transition_prompt(big, 1_000, "full")[1].content
    assert "c" * 100 in content
    assert content.count("t") > 500
    assert len(content) < 1_200


@pytest.mark.parametrize(
    ("text", "run"),
    [
        ("failed area\n<exit_code>1</exit_code>", SimulatedRun("failed area\n", 1, "1")),
        ("<exit_code>0</exit_code>", SimulatedRun("", 0, "1")),
        ('{"stdout": "a\\n", "stderr": "b\\n", "exit_code": 2}', SimulatedRun("a\nb\n", 2, "1")),
        ("{a}\n<exit_code>0</exit_code>", SimulatedRun("{a}\n", 0, "1")),
        ("failed", InvalidRun("not one exit code on a line of its own at the end")),
        ("<exit_code>256</exit_code>", InvalidRun("not one exit code on a line of its own at the end")),
        ("<exit_code>-1</exit_code>", InvalidRun("not one exit code on a line of its own at the end")),
        ("a <exit_code>1</exit_code>", InvalidRun("not one exit code on a line of its own at the end")),
        ("<exit_code>0</exit_code>\n<exit_code>1</exit_code>", InvalidRun("not one exit code on a line of its own at the end")),
        ('{"stdout": "a"', InvalidRun("the answer is no JSON")),
        ('{"stdout": "a"}', InvalidRun("the answer has not exactly the keys stdout, stderr and exit_code")),
        (
            '{"stdout": "", "stderr": "", "exit_code": "0"}',
            InvalidRun("stdout and stderr must be texts and exit_code a number from 0 to 255"),
        ),
    ],
)
def test_answers(text: str, run: SimulatedRun | InvalidRun) -> None:
    assert parse_run(THOUGHT + text) == run
    assert isinstance(parse_run(text), InvalidRun)


@given(st.text(max_size=200), st.integers(0, 255), st.sampled_from(["compact", "full"]), st.text(max_size=40))
def test_every_target_is_read_back(output: str, exit_code: int, form: str, thought: str) -> None:
    run = parse_run(render_run(output, exit_code, form, thought))
    assert isinstance(run, SimulatedRun)
    assert run.exit_code == exit_code
    assert run.output.rstrip() == neutralise(output).rstrip()


@given(st.text(max_size=300))
def test_no_text_breaks_the_parser(text: str) -> None:
    assert isinstance(parse_run(text), SimulatedRun | InvalidRun)
