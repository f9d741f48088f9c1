"""Trajectories of other systems: round trips, the real file, and documents that are none."""

import contextlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envpool.action_format import ToolCall, render_action
from envpool.action_formats import ACTION_FORMATS
from envpool.patch import Patch
from envpool.trajectories.recorded_episode import (
    RecordedEpisode,
    RecordedStep,
    TrajectoryFormatError,
    record_trajectory,
    sample_of_episode,
)
from envpool.trajectory import StopReason, Trajectory, Turn
from envpool.trajectory_formats import TRAJECTORY_FORMATS

SHARED = Path(__file__).parents[4] / "shared" / "data" / "swe_master" / "trajectories" / "swe_rebench_glm46.jsonl"
TOOLS = (
    {
        "type": "function",
        "function": {"name": "execute_bash", "description": "", "parameters": {"type": "object", "properties": {}}},
    },
)
LS = render_action(ToolCall("execute_bash", {"command": "ls -la\ncat <a.py>"}))
SUBMIT = render_action(ToolCall("submit", {}))


def turn(text: str, action: str, observation: str, ids: list[int]) -> Turn:
    tokens = np.array(ids, np.int32)
    logprobs = np.array([-0.5] * len(ids), np.float32)
    return Turn(
        np.arange(3, dtype=np.int32), tokens, logprobs, np.zeros(len(ids), np.int32), text, action, observation, 1.5, 0.25
    )


TRAJECTORY = Trajectory(
    "a-1",
    0,
    "policy",
    "You fix.\n\nIt breaks",
    (
        turn(f"Look <here>. \n{LS}", LS, "a.py\n<b> é", [5, 6]),
        turn("no call", "", "Say a call.", [7]),
        turn(SUBMIT, SUBMIT, "", [8, 9, 10]),
    ),
    Patch("diff --git a/a.py b/a.py\n"),
    StopReason.SUBMITTED,
    9.0,
)
EPISODE = record_trajectory(TRAJECTORY, 1.0, TOOLS)


def test_our_trajectory_is_recorded_with_its_tokens() -> None:
    assert [step.prompt_tokens for step in EPISODE.steps] == [3, 8, 12]
    first = EPISODE.steps[0]
    assert (first.thought, first.action, first.completion_ids, first.logprobs) == ("Look <here>. \n", LS, (5, 6), (-0.5, -0.5))
    assert (EPISODE.patch, EPISODE.stop_reason, EPISODE.graded) == (TRAJECTORY.patch.diff, "submitted", True)


def bare(episode: RecordedEpisode, *lost: str) -> RecordedEpisode:
    """The episode without what a format cannot carry."""
    nothing = RecordedStep("", "", "")
    steps = tuple(
        replace(step, extra={}, **{name: getattr(nothing, name) for name in lost if hasattr(nothing, name)})
        for step in episode.steps
    )
    empty = RecordedEpisode("", "", "", "", (), "", "")
    return replace(
        episode,
        steps=steps,
        extra={},
        **{name: getattr(empty, name) for name in lost if hasattr(empty, name) and name != "steps"},
    )


TOKENS = ("completion_ids", "logprobs")
COUNTS = ("prompt_tokens", "completion_tokens")
LOST = {
    "atif": (),
    "openai": (*TOKENS, *COUNTS, "generate_s", "tool_s"),
    "r2e_gym": (*TOKENS, "tools"),
    "swe_agent": (*TOKENS, *COUNTS, "generate_s", "tools", "reward", "graded", "model"),
    "mini_swe_agent": (*TOKENS, *COUNTS, "generate_s", "tool_s", "tools", "reward", "graded"),
}


@pytest.mark.parametrize("name", sorted(TRAJECTORY_FORMATS))
@pytest.mark.parametrize("system", ["", "You are an agent."])
def test_what_a_format_carries_comes_back(name: str, system: str) -> None:
    form, episode = TRAJECTORY_FORMATS[name], replace(EPISODE, system=system)
    document = json.loads(json.dumps(form.to_document(episode)))
    read = form.from_document(document)
    assert bare(read, *LOST[name]) == bare(episode, *LOST[name])
    assert json.loads(json.dumps(form.to_document(read))) == document


def test_atif_validates_with_its_own_models() -> None:
    atif = pytest.importorskip("atif")
    document = TRAJECTORY_FORMATS["atif"].to_document(replace(EPISODE, system="s"))
    loaded = atif.Trajectory.model_validate(document)
    assert [step.source for step in loaded.steps] == ["system", "user", "agent", "agent", "agent"]
    assert loaded.steps[2].metrics.completion_token_ids == [5, 6]
    scripted = replace(
        EPISODE, steps=tuple(replace(step, logprobs=(float("nan"),) * len(step.logprobs)) for step in EPISODE.steps)
    )
    loaded = atif.Trajectory.model_validate(TRAJECTORY_FORMATS["atif"].to_document(scripted))
    assert loaded.steps[2].metrics.logprobs is None


def real_documents() -> list[dict[str, Any]]:
    if not SHARED.is_file():
        pytest.skip("the recorded runs are not here")
    return [json.loads(line) for line in SHARED.read_text().splitlines()]


def test_the_real_runs_are_read_and_written_without_loss() -> None:
    form = TRAJECTORY_FORMATS["r2e_gym"]
    for document in real_documents():
        episode = form.from_document(document)
        assert form.to_document(episode) == document
        assert len(episode.steps) == len(document["trajectory_steps"])
        assert (episode.reward, episode.patch) == (document["reward"], document["output_patch"])
        assert episode.instance_id == document["ds"]["instance_id"]
        assert all(step.call is not None for step in episode.steps)


def test_the_real_runs_convert_to_every_other_format() -> None:
    atif = pytest.importorskip("atif")
    for document in real_documents():
        episode = TRAJECTORY_FORMATS["r2e_gym"].from_document(document)
        atif.Trajectory.model_validate(TRAJECTORY_FORMATS["atif"].to_document(episode))
        for name, form in TRAJECTORY_FORMATS.items():
            again = form.from_document(json.loads(json.dumps(form.to_document(episode))))
            assert [step.observation for step in again.steps[:-1]] == [step.observation for step in episode.steps[:-1]], name
            assert [step.call for step in again.steps] == [step.call for step in episode.steps], name
            assert again.patch == episode.patch
        sample = sample_of_episode(episode)
        assert sample.num_assistant_turns == len(episode.steps)


def test_documents_of_other_tools() -> None:
    """Shapes that their writers make and ours does not: several calls, content in parts, reasoning apart, user feedback."""
    call = {"id": "1", "type": "function", "function": {"name": "bash", "arguments": '{"command": "ls", "n": 3}'}}
    mini = {
        "trajectory_format": "mini-swe-agent-1.1",
        "info": {"exit_status": "Submitted", "submission": "diff", "model_stats": {"api_calls": 1}},
        "messages": [
            {"role": "system", "content": "s"},
            {"role": "user", "content": [{"type": "text", "text": "It "}, {"type": "text", "text": "breaks"}]},
            {"role": "assistant", "content": None, "tool_calls": [call, call]},
            {"role": "tool", "content": "one", "tool_call_id": "1"},
            {"role": "tool", "content": "two", "tool_call_id": "2"},
        ],
    }
    episode = TRAJECTORY_FORMATS["mini_swe_agent"].from_document(mini)
    assert (episode.prompt, episode.steps[0].observation) == ("It breaks", "one\ntwo")
    assert episode.steps[0].call == ToolCall("bash", {"command": "ls", "n": "3"})
    atif = {
        "schema_version": "ATIF-v1.5",
        "session_id": "x",
        "agent": {"name": "other", "version": "2"},
        "steps": [
            {"step_id": 1, "source": "user", "message": "It breaks"},
            {"step_id": 2, "source": "agent", "message": "I look", "reasoning_content": "Hm. ",
             "tool_calls": [{"tool_call_id": "1", "function_name": "bash", "arguments": {"command": "ls"}}],
             "observation": {"results": [{"source_call_id": "1", "content": "a"}]}},
            {"step_id": 3, "source": "user", "message": "Go on"},
        ],
    }  # fmt: skip
    episode = TRAJECTORY_FORMATS["atif"].from_document(atif)
    assert (episode.model, episode.steps[0].thought, episode.steps[0].observation) == ("other", "Hm. I look", "a\nGo on")


def test_the_thought_of_a_native_turn_ends_before_its_call() -> None:
    call = ToolCall("execute_bash", {"command": "ls -la\ncat <a.py>"})
    text = f"Look.\n{ACTION_FORMATS['native'].render(call)}"
    native = replace(TRAJECTORY, turns=(turn(text, LS, "a.py", [5]),))
    (step,) = record_trajectory(native, 1.0).steps
    assert (step.thought, step.action) == ("Look.", LS)


def test_a_real_run_of_mini_swe_agent_with_rejected_answers_is_read() -> None:
    """Its own shape (version 2.4.6): a closing `exit` message, and answers without a call only in `extra.response`."""
    wrong = {
        "role": "user",
        "content": "No tool calls found",
        "extra": {"response": {"choices": [{"message": {"content": "ad"}}]}},
    }
    document = {
        "trajectory_format": "mini-swe-agent-1.1",
        "info": {"exit_status": "LimitsExceeded", "submission": "", "config": {"model": {"model_name": "m"}}},
        "messages": [
            {"role": "system", "content": "Call bash."}, {"role": "user", "content": "Fix"}, wrong, wrong,
            {"role": "exit", "content": "LimitsExceeded", "extra": {}},
        ],
    }  # fmt: skip
    episode = TRAJECTORY_FORMATS["mini_swe_agent"].from_document(document)
    step = RecordedStep("ad", "", "No tool calls found")
    assert (episode.prompt, episode.steps, episode.stop_reason) == ("Fix", (step, step), "LimitsExceeded")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@pytest.mark.parametrize("name", sorted(TRAJECTORY_FORMATS))
@settings(max_examples=60)
@given(data=st.data())
def test_a_damaged_document_is_a_format_error(name: str, data: st.DataObject) -> None:
    """Any one place of a good document replaced by any JSON value."""
    form = TRAJECTORY_FORMATS[name]
    document = json.loads(json.dumps(form.to_document(replace(EPISODE, system="s"))))
    node: Any = document
    while True:
        keys = list(node) if isinstance(node, dict) else list(range(len(node)))
        key = data.draw(st.sampled_from(keys))
        child = node[key]
        if not isinstance(child, dict | list) or not child or data.draw(st.booleans()):
            node[key] = data.draw(JSON)
            break
        node = child
    with contextlib.suppress(TrajectoryFormatError):
        assert isinstance(form.to_document(form.from_document(document)), dict)
