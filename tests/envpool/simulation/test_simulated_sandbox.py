"""A sandbox whose files are real and whose executions are a model's, over a real process sandbox; and the recorder."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from configs.sandbox_config import SandboxConfig
from envpool.policy import PolicyError
from envpool.problem import Problem
from envpool.sandbox import ExecResult, Sandbox
from envpool.sandbox_errors import SandboxLostError
from envpool.sandbox_parts.image_cache import FolderImages
from envpool.sandboxes.process_sandbox import ProcessBackend
from envpool.simulation import simulated_sandbox
from envpool.simulation.execution_recorder import DelegatingSandbox, RecordingSandbox
from envpool.simulation.simulated_sandbox import UNREADABLE, UNREADABLE_EXIT_CODE, SimulatedSandbox
from envpool.simulation.transition_format import ExecutionContext, render_run, transition_prompt

PROBLEM = Problem("calc-1", "demo/calc", "HEAD", "folder:calc", "/testbed", "add is wrong")
FILES = {"calc.py": "def add(a, b):\n    return a - b\n", "test_calc.py": "from calc import add\nprint(add(1, 2))\n"}


class Model:
    """Answers each prompt with the next text; the last repeats. Records what it was asked."""

    def __init__(self, *answers: str) -> None:
        self.answers = answers
        self.asked: list[tuple[str, int]] = []

    async def __call__(self, context: ExecutionContext, seed: int) -> str:
        self.asked.append((transition_prompt(context, form="full")[-1].content, seed))
        return self.answers[min(len(self.asked), len(self.answers)) - 1]


@pytest.fixture
def store(tmp_path: Path) -> FolderImages:
    images = FolderImages(tmp_path)
    images.add("calc", FILES)
    return images


@pytest.fixture
async def real(store: FolderImages) -> AsyncIterator[Sandbox]:
    backend = ProcessBackend(SandboxConfig(), store, "simulated-tests")
    yield await backend.start(PROBLEM.image, PROBLEM.workdir)
    await backend.close()


def simulated(real: Sandbox, model: Model) -> SimulatedSandbox:
    return SimulatedSandbox(real, model, PROBLEM.problem_statement)


async def test_files_are_real_and_executions_are_the_models(real: Sandbox) -> None:
    model = Model(render_run("42\n", 3, "full", "it prints 42"))
    sandbox = simulated(real, model)
    await sandbox.write_file("calc.py", FILES["calc.py"].replace("a - b", "a + b").encode())
    result = await sandbox.run("echo one > made.txt && cat made.txt && python3 test_calc.py || echo failed; ls", 20)
    assert result.output == "one\n42\nfailed\ncalc.py\nmade.txt\ntest_calc.py\n"
    assert (result.exit_code, result.timed_out, sandbox.num_simulated) == (0, False, 1)
    ((prompt, _),) = model.asked
    assert "<command>\npython3 test_calc.py\n</command>" in prompt
    assert "test_calc.py\nfrom calc import add" in prompt
    assert "calc.py\ndef add(a, b):\n    return a + b" in prompt
    assert "-    return a - b\n+    return a + b" in prompt.partition("<patch>")[2].partition("</patch>")[0]
    assert "<issue>\nadd is wrong\n</issue>" in prompt


async def test_a_failing_simulation_stops_an_and_list(real: Sandbox) -> None:
    sandbox = simulated(real, Model(render_run("no\n", 1, "full")))
    result = await sandbox.run("python3 test_calc.py && touch made.txt", 20)
    assert (result.output, result.exit_code) == ("no\n", 1)
    assert (await sandbox.run("ls", 20)).output == "calc.py\ntest_calc.py\n"


async def test_an_unreadable_answer_is_asked_for_again_with_other_seeds_and_then_said(real: Sandbox) -> None:
    good = Model("nonsense", "<think>\n</think>\n{}", render_run("ok\n", 0, "full"))
    assert (await simulated(real, good).run("python3 test_calc.py", 20)).output == "ok\n"
    assert len({seed for _, seed in good.asked}) == 3
    bad = Model("nonsense")
    sandbox = simulated(real, bad)
    result = await sandbox.run("python3 test_calc.py", 20)
    assert (result.output, result.exit_code, sandbox.num_unreadable) == (UNREADABLE, UNREADABLE_EXIT_CODE, 1)


async def test_a_broken_engine_is_a_lost_sandbox(real: Sandbox) -> None:
    class Broken(Model):
        async def __call__(self, context: ExecutionContext, seed: int) -> str:
            raise PolicyError("engine gone")

    with pytest.raises(SandboxLostError, match="engine gone"):
        await simulated(real, Broken()).run("python3 test_calc.py", 20)


async def test_a_model_that_does_not_answer_in_time_is_named(real: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    class Silent(Model):
        async def __call__(self, context: ExecutionContext, seed: int) -> str:
            await asyncio.Event().wait()
            raise AssertionError("unreachable")

    monkeypatch.setattr(simulated_sandbox, "MODEL_GRACE_S", 0.1)
    with pytest.raises(
        SandboxLostError, match=r"transition model behind the sandbox gave no result 0\.1 s after the command's limit"
    ):
        await simulated(real, Silent()).run("python3 test_calc.py", 0.1)


async def test_a_timeout_inside_the_model_is_a_bug(real: Sandbox) -> None:
    class Late(Model):
        async def __call__(self, context: ExecutionContext, seed: int) -> str:
            raise TimeoutError("a bug")

    with pytest.raises(TimeoutError, match="a bug"):
        await simulated(real, Late()).run("python3 test_calc.py", 20)


async def test_real_parts_share_the_commands_limit_and_the_models_seconds_are_not_theirs(real: Sandbox) -> None:
    limits: list[float] = []

    class Inner(DelegatingSandbox):
        async def run(self, command: str, timeout_s: float, max_output_bytes: int = 65_536) -> ExecResult:
            if not command.startswith("sleep"):
                return await self.inner.run(command, timeout_s, max_output_bytes)
            limits.append(timeout_s)
            return ExecResult(0, "", False, False, 8.0)

    class Slow(Model):
        async def __call__(self, context: ExecutionContext, seed: int) -> str:
            await asyncio.sleep(0.2)
            return await super().__call__(context, seed)

    sandbox = simulated(Inner(real, ""), Slow(render_run("ok\n", 0, "full")))
    assert (await sandbox.run("sleep 8; python3 test_calc.py; sleep 9", 20)).output == "ok\n"
    assert limits == [20.0, 12.0]


async def test_output_of_a_simulation_is_bounded_like_any_other(real: Sandbox) -> None:
    result = await simulated(real, Model(render_run("x" * 5_000, 0, "full"))).run("python3 test_calc.py", 20, 100)
    assert (len(result.output), result.truncated) == (100, True)


async def test_the_recorder_keeps_what_really_happened_and_what_it_was_about(real: Sandbox) -> None:
    sandbox = RecordingSandbox(real, PROBLEM.problem_statement)
    assert (await sandbox.run("python3 test_calc.py", 20)).output == "-1\n"
    await sandbox.write_file("calc.py", FILES["calc.py"].replace("a - b", "a + b").encode())
    await sandbox.run("cat calc.py", 20)
    await sandbox.run("python3 test_calc.py; exit_with() { return 4; }; exit_with", 20)
    first, second = sandbox.records
    assert (first.output, first.exit_code, first.context.patch) == ("-1\n", 0, "")
    assert first.context.code == {"test_calc.py": FILES["test_calc.py"], "calc.py": FILES["calc.py"]}
    assert (second.output, second.exit_code) == ("3\n", 4)
    assert second.context.code["calc.py"].endswith("return a + b\n")
    assert "+    return a + b" in second.context.patch


async def test_commands_that_were_cut_off_are_not_recorded(real: Sandbox) -> None:
    sandbox = RecordingSandbox(real, "")
    assert (await sandbox.run("python3 -c 'import time; time.sleep(60)'", 0.5)).timed_out
    assert (await sandbox.run("python3 -c 'print(\"x\" * 1000)'", 20, 100)).truncated
    assert sandbox.records == []
