import asyncio
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from configs.rollout_config import EpisodeConfig
from configs.sandbox_config import SandboxConfig
from envpool.action_format import ToolCall, parse_action, render_action
from envpool.action_formats import ACTION_FORMATS
from envpool.agent.episode import run_episode, turn_seed
from envpool.policy import Completion, Generate, GenerateRequest, Message, PolicyError
from envpool.problem import Problem
from envpool.sandbox import ExecResult
from envpool.sandbox_errors import SandboxLostError
from envpool.sandbox_parts.image_cache import FolderImages
from envpool.sandboxes.process_sandbox import ProcessBackend
from envpool.sandboxes.scripted_sandbox import ScriptedSandbox, said
from envpool.trajectory import StopReason, Trajectory, Turn
from tests.envpool.agent.agent_doubles import CHAT, LinePolicy

PROBLEM = Problem("demo-1", "demo", "c0", "folder:demo", "/testbed", "area should add w and h")
FILES = {"/testbed/geometry.py": "def area(w, h):\n    return w - h\n"}
DIFF = "diff --git a/geometry.py b/geometry.py\n"
CONFIG = EpisodeConfig(max_tokens=4000, max_tokens_per_turn=400)

VIEW = render_action(ToolCall("str_replace_editor", {"command": "view", "path": "geometry.py"}))
EDIT = render_action(
    ToolCall("str_replace_editor", {"command": "str_replace", "path": "geometry.py", "old_str": "w - h", "new_str": "w + h"})
)
TEST = render_action(ToolCall("execute_bash", {"command": "python3 test_geometry.py"}))
SUBMIT = render_action(ToolCall("submit", {}))


def call_in(text: str) -> ToolCall:
    parsed = parse_action(text)
    assert parsed is not None
    return parsed[1]


def shell(command: str) -> ExecResult:
    if command == "python3 test_geometry.py":
        return said("passed\n")
    assert "git" in command, command
    return said(DIFF)


async def play(
    policy: Generate, config: EpisodeConfig = CONFIG, sandbox: ScriptedSandbox | None = None, **options: object
) -> Trajectory:
    sandbox = sandbox or ScriptedSandbox(FILES, shell)
    settings: dict[str, object] = {"sample_index": 2, "policy_name": "lines", "temperature": 0.7, "seed": 11, **options}
    return await run_episode(PROBLEM, sandbox, policy, CHAT, config, **settings)  # type: ignore[arg-type]


async def test_a_solved_problem_is_recorded_turn_by_turn() -> None:
    policy = LinePolicy(CHAT, [f"Look. {VIEW}", EDIT, TEST, SUBMIT])
    seen: list[tuple[int, Turn]] = []
    trajectory = await play(policy, on_turn=lambda index, turn: seen.append((index, turn)))
    assert trajectory.stop_reason is StopReason.SUBMITTED
    assert trajectory.patch.diff == DIFF
    assert (trajectory.instance_id, trajectory.sample_index, trajectory.policy_name) == ("demo-1", 2, "lines")
    assert trajectory.prompt == "area should add w and h"
    assert [turn.text for turn in trajectory.turns] == [f"Look. {VIEW}", EDIT, TEST, SUBMIT]
    assert [turn.action for turn in trajectory.turns] == [VIEW, EDIT, TEST, SUBMIT]
    assert [turn.observation for turn in trajectory.turns] == ["def area(w, h):\n    return w - h", "edited", "passed", ""]
    assert [index for index, _ in seen] == [0, 1, 2, 3]
    assert [turn for _, turn in seen] == list(trajectory.turns)


async def test_the_record_is_what_the_model_saw() -> None:
    """Contexts and completions joined are each next prompt, and the whole conversation rendered at once."""
    policy = LinePolicy(CHAT, [VIEW, EDIT, SUBMIT])
    trajectory = await play(policy)
    joined: list[int] = []
    for request, turn in zip(policy.requests, trajectory.turns, strict=True):
        joined += turn.context_ids.tolist()
        assert request.prompt_ids.tolist() == joined
        assert CHAT.prompt_ids(request.messages).tolist() == joined
        joined += turn.completion_ids.tolist()
    assert trajectory.num_tokens == len(joined)
    assert policy.requests[1].messages == (
        Message("user", "area should add w and h"),
        Message("assistant", VIEW),
        Message("tool", "def area(w, h):\n    return w - h"),
    )


async def test_sampled_ids_logprobs_and_versions_are_kept_as_sampled() -> None:
    policy = LinePolicy(CHAT, [VIEW, SUBMIT])
    trajectory = await play(policy)
    for line, turn in zip([VIEW, SUBMIT], trajectory.turns, strict=True):
        assert turn.completion_ids.tolist() == CHAT.completion_ids(line).tolist()
        assert turn.rollout_logprobs.tolist() == [-0.5] * len(turn.completion_ids)
        assert turn.policy_versions.tolist() == [3] * len(turn.completion_ids)


async def test_requests_carry_session_temperature_and_seeds_of_their_own() -> None:
    policy = LinePolicy(CHAT, [VIEW, VIEW, SUBMIT])
    await play(policy)
    assert len({request.session_id for request in policy.requests}) == 1
    assert {request.temperature for request in policy.requests} == {0.7}
    assert [request.seed for request in policy.requests] == [turn_seed(11, "demo-1", 2, turn) for turn in range(3)]
    seeds = {turn_seed(seed, name, sample, turn) for seed in (0, 1) for name in "ab" for sample in (0, 1) for turn in (0, 1)}
    assert len(seeds) == 16
    assert all(0 <= seed < 2**31 for seed in seeds)


@pytest.mark.parametrize("line", ["I am thinking.", "<function=submit>", ""])
async def test_a_completion_without_a_call_is_answered(line: str) -> None:
    trajectory = await play(LinePolicy(CHAT, [line, SUBMIT]))
    assert trajectory.turns[0].action == ""
    assert trajectory.turns[0].observation == "no tool call"
    assert trajectory.stop_reason is StopReason.SUBMITTED


async def test_a_cut_completion_gets_its_end_of_turn_in_the_next_context() -> None:
    trajectory = await play(LinePolicy(CHAT, [("let me see", "length"), SUBMIT]))
    first, second = trajectory.turns
    assert first.completion_ids.tolist() == CHAT.completion_ids("let me see")[:-1].tolist()
    assert first.observation == "no tool call"
    assert second.context_ids.tolist() == [CHAT.end_of_turn_id, *CHAT.observation_ids("no tool call").tolist()]


async def test_a_cut_completion_with_a_whole_call_is_carried_out() -> None:
    trajectory = await play(LinePolicy(CHAT, [(VIEW, "length"), SUBMIT]))
    assert trajectory.turns[0].observation == "def area(w, h):\n    return w - h"
    assert trajectory.turns[1].context_ids[0] == CHAT.end_of_turn_id


async def test_turn_budget() -> None:
    trajectory = await play(LinePolicy(CHAT, [VIEW, EDIT]), replace(CONFIG, max_turns=2))
    assert trajectory.stop_reason is StopReason.MAX_TURNS
    assert len(trajectory.turns) == 2
    assert trajectory.turns[1].observation == "edited"
    assert trajectory.patch.diff == DIFF


async def test_token_budget_bounds_completions_and_ends_the_episode() -> None:
    prompt = len(CHAT.prompt_ids([Message("user", PROBLEM.problem_statement)]))
    policy = LinePolicy(CHAT, [("x" * 100, "length"), ("y" * 100, "length")])
    answer = 1 + len(CHAT.observation_ids("no tool call"))
    config = replace(CONFIG, max_tokens_per_turn=20, max_tokens=prompt + 20 + answer + 7)
    trajectory = await play(policy, config)
    assert [request.max_tokens for request in policy.requests] == [20, 7]
    assert trajectory.stop_reason is StopReason.MAX_TOKENS
    assert trajectory.num_tokens == config.max_tokens
    assert trajectory.patch.diff == DIFF


async def test_a_prompt_over_the_token_budget_is_an_episode_without_turns() -> None:
    trajectory = await play(LinePolicy(CHAT, []), replace(CONFIG, max_tokens=10))
    assert (trajectory.stop_reason, trajectory.turns) == (StopReason.PROMPT_TOO_LONG, ())


class StepClock:
    """A clock that moves by `step_s` at every look."""

    def __init__(self, step_s: float) -> None:
        self.now, self.step_s = 0.0, step_s

    def __call__(self) -> float:
        self.now += self.step_s
        return self.now


async def test_deadline_between_turns() -> None:
    trajectory = await play(LinePolicy(CHAT, [VIEW] * 10), replace(CONFIG, episode_timeout_s=100.0), clock=StepClock(8.0))
    assert trajectory.stop_reason is StopReason.DEADLINE
    assert 0 < len(trajectory.turns) < 10
    assert trajectory.patch.diff == DIFF


async def test_deadline_while_the_model_thinks() -> None:
    async def endless(request: GenerateRequest) -> Completion:
        await asyncio.Event().wait()
        raise AssertionError("unreachable")

    trajectory = await play(endless, replace(CONFIG, episode_timeout_s=0.05, tool_timeout_s=0.01))
    assert (trajectory.stop_reason, trajectory.turns) == (StopReason.DEADLINE, ())
    assert trajectory.patch.diff == DIFF


class MeasuredPolicy:
    """Its engine is away at first: that often it answers that it has worked for `worked_s` by now, then `ends` happens."""

    def __init__(self, lines: list[str], worked_s: list[float], ends: Exception | None = None) -> None:
        self.lines, self.worked_s, self.ends = LinePolicy(CHAT, lines), worked_s, ends
        self.back = asyncio.Event()

    async def __call__(self, request: GenerateRequest) -> Completion:
        await self.back.wait()
        if self.ends is not None:
            raise self.ends
        return replace(await self.lines(request), model_s=0.01)

    async def model_s(self, request: GenerateRequest) -> float:
        worked_s = self.worked_s.pop(0)
        if not self.worked_s:
            self.back.set()
        return worked_s


async def test_waiting_for_an_engine_that_is_away_is_not_the_episodes_time() -> None:
    """The engine is away for longer than the whole episode may take, and then answers."""
    policy = MeasuredPolicy([VIEW, SUBMIT], worked_s=[0.0, 0.0, 0.01])
    trajectory = await play(policy, replace(CONFIG, episode_timeout_s=0.1, tool_timeout_s=0.05), clock=StepClock(0.0))
    assert (trajectory.stop_reason, policy.worked_s) == (StopReason.SUBMITTED, [])


async def test_an_engine_that_is_away_at_the_deadline_and_then_fails_is_no_trajectory() -> None:
    """Nobody knows what the agent would have done with its time."""
    policy = MeasuredPolicy([], worked_s=[0.0], ends=PolicyError("no engine took its place"))
    with pytest.raises(PolicyError, match="no engine took its place"):
        await play(policy, replace(CONFIG, episode_timeout_s=0.1, tool_timeout_s=0.05), clock=StepClock(0.0))


async def test_an_engine_that_worked_all_the_time_ends_the_episode_at_once() -> None:
    policy = MeasuredPolicy([], worked_s=[0.04, 0.1, 99.0])
    trajectory = await play(policy, replace(CONFIG, episode_timeout_s=0.1, tool_timeout_s=0.05), clock=StepClock(0.0))
    assert (trajectory.stop_reason, trajectory.turns, policy.worked_s) == (StopReason.DEADLINE, (), [99.0])


async def test_a_completion_that_comes_when_the_model_has_used_its_time_is_too_late() -> None:
    policy = MeasuredPolicy([SUBMIT], worked_s=[0.1])
    trajectory = await play(policy, replace(CONFIG, episode_timeout_s=0.1, tool_timeout_s=0.05), clock=StepClock(0.0))
    assert (trajectory.stop_reason, trajectory.turns) == (StopReason.DEADLINE, ())


async def test_later_turns_keep_the_time_that_an_outage_took() -> None:
    clock, lines = StepClock(0.0), LinePolicy(CHAT, [VIEW, VIEW, VIEW])

    async def slow(request: GenerateRequest) -> Completion:
        clock.now += 40.0 if lines.requests else 110.0
        return replace(await lines(request), model_s=40.0)

    trajectory = await play(slow, replace(CONFIG, episode_timeout_s=100.0), clock=clock)
    assert (trajectory.stop_reason, len(trajectory.turns)) == (StopReason.DEADLINE, 3)  # 190 s, 120 of them its own


async def test_no_command_may_outlast_the_episode() -> None:
    timeouts: list[float] = []

    class Watched(ScriptedSandbox):
        async def run(self, command: str, timeout_s: float, max_output_bytes: int = 65_536) -> ExecResult:
            timeouts.append(timeout_s)
            return await super().run(command, timeout_s, max_output_bytes)

    config = replace(CONFIG, episode_timeout_s=50.0, tool_timeout_s=10.0)
    await play(LinePolicy(CHAT, [TEST] * 10), config, Watched(FILES, shell), clock=StepClock(1.0))
    *commands, extraction = timeouts
    assert max(commands) == 10.0
    assert 0.0 < min(commands) < 10.0
    assert extraction == 30.0


async def test_a_broken_sandbox_is_no_trajectory() -> None:
    with pytest.raises(SandboxLostError):
        await play(LinePolicy(CHAT, [TEST, TEST]), sandbox=ScriptedSandbox(FILES, shell, die_after=1))


async def test_a_broken_engine_is_no_trajectory() -> None:
    async def broken(request: GenerateRequest) -> Completion:
        raise PolicyError("the engine is gone")

    with pytest.raises(PolicyError, match="the engine is gone"):
        await play(broken)


async def test_a_timeout_inside_the_engine_is_not_taken_for_the_episodes_deadline() -> None:
    async def late(request: GenerateRequest) -> Completion:
        raise TimeoutError("a bug")

    with pytest.raises(TimeoutError, match="a bug"):
        await play(late)


async def test_an_aborted_or_malformed_completion_is_a_policy_error() -> None:
    with pytest.raises(PolicyError, match="aborted turn 0 of demo-1"):
        await play(LinePolicy(CHAT, [("half", "abort")]))

    async def uneven(request: GenerateRequest) -> Completion:
        return Completion(np.zeros(2, np.int32), np.zeros(1, np.float32), np.zeros(2, np.int32), "stop")

    with pytest.raises(PolicyError, match=r"different lengths \(2, 1, 2\)"):
        await play(uneven)


async def test_only_the_configured_tools_can_be_called() -> None:
    trajectory = await play(LinePolicy(CHAT, [TEST, SUBMIT]), replace(CONFIG, tools=("str_replace_editor", "submit")))
    assert trajectory.turns[0].observation == "unknown tool execute_bash"


async def test_full_prompt_counts_the_steps_down() -> None:
    config = replace(CONFIG, prompt="full", compact_observations=False, max_turns=3, max_tokens=20_000)
    policy = LinePolicy(CHAT, ["hm", TEST, SUBMIT])
    trajectory = await play(policy, config)
    assert policy.requests[0].messages[0].role == "system"
    assert policy.requests[0].messages[1].content.endswith("\n[3 of 3 steps left]")
    assert trajectory.turns[0].observation.endswith("\n[2 of 3 steps left]")
    assert trajectory.turns[1].observation == (
        "Exit code: 0\nOutput of execute_bash:\npassed\n\n[1 of 3 steps left: call submit now]"
    )
    assert trajectory.turns[2].observation == ""


@pytest.mark.parametrize(("field", "value"), [("prompt", "fancy"), ("tools", ("fly",))])
async def test_unknown_names_in_the_configuration_are_errors(field: str, value: object) -> None:
    with pytest.raises(ValueError, match="no such"):
        await play(LinePolicy(CHAT, []), replace(CONFIG, **{field: value}))  # type: ignore[arg-type]


async def test_in_a_real_sandbox_the_patch_is_the_edit(tmp_path: Path) -> None:
    images = FolderImages(tmp_path)
    image = images.add("demo", {"geometry.py": FILES["/testbed/geometry.py"], "test_geometry.py": "print('passed')\n"})
    backend = ProcessBackend(SandboxConfig(isolation="none"), images, owner="test-episode")
    try:
        sandbox = await backend.start(image, "/testbed")
        policy = LinePolicy(CHAT, [VIEW, EDIT, TEST, SUBMIT])
        trajectory = await run_episode(
            replace(PROBLEM, image=image), sandbox, policy, CHAT, CONFIG, sample_index=0, policy_name="p", temperature=1.0, seed=0
        )
    finally:
        await backend.close()
    assert [turn.observation for turn in trajectory.turns] == ["def area(w, h):\n    return w - h", "edited", "passed", ""]
    assert trajectory.patch.files == ("geometry.py",)
    assert trajectory.patch.diff.endswith(" def area(w, h):\n-    return w - h\n+    return w + h\n")


async def test_native_calls_are_played_and_recorded_like_any_other() -> None:
    form = ACTION_FORMATS["native"]
    view, submit = (form.render(call_in(text)) for text in (VIEW, SUBMIT))
    policy = LinePolicy(CHAT, [f"Look.\n{view}", "<tool_call>{}</tool_call>", submit])
    config = replace(CONFIG, prompt="full", action_format="native", max_tokens=40_000, compact_observations=False)
    trajectory = await play(policy, config)
    assert trajectory.stop_reason is StopReason.SUBMITTED
    assert [turn.action for turn in trajectory.turns] == [VIEW, "", SUBMIT]
    assert "no tool call that could be read: the name in its call is missing" in trajectory.turns[1].observation
    joined: list[int] = []
    for request, turn in zip(policy.requests, trajectory.turns, strict=True):
        joined += turn.context_ids.tolist()
        assert CHAT.prompt_ids(request.messages, request.tools).tolist() == request.prompt_ids.tolist() == joined
        joined += turn.completion_ids.tolist()
    system, _, said_first, answer = policy.requests[1].messages
    assert "# How to call a tool" not in system.content
    assert [spec["function"]["name"] for spec in policy.requests[0].tools] == list(CONFIG.tools)
    assert (said_first.content, said_first.tool_calls[0].name) == ("Look.", "str_replace_editor")
    assert answer.tool_call_id == said_first.tool_calls[0].call_id == "call_1"


async def test_an_unknown_action_format_is_an_error() -> None:
    with pytest.raises(ValueError, match="no such action format 'yaml'"):
        await play(LinePolicy(CHAT, []), replace(CONFIG, action_format="yaml"))
