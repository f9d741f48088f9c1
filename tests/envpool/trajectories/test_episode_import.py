"""Recorded episodes as our own trajectories."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envpool.action_format import ToolCall, render_action
from envpool.action_formats import ACTION_FORMATS
from envpool.policy import Message
from envpool.trajectories.episode_import import stop_reason_of, trajectory_of_record
from envpool.trajectories.recorded_episode import RecordedEpisode, RecordedStep, record_trajectory
from envpool.trajectory import StopReason, Trajectory
from envpool.trajectory_formats import TRAJECTORY_FORMATS
from tests.envpool.agent.agent_doubles import CHAT
from tests.envpool.trajectories.test_trajectory_formats import real_documents

LS = render_action(ToolCall("execute_bash", {"command": "ls"}))
SUBMIT = render_action(ToolCall("submit", {}))
XML, NATIVE = ACTION_FORMATS["xml"], ACTION_FORMATS["native"]
STEPS = (RecordedStep("Look. ", LS, "a.py"), RecordedStep("", "", "Call!"), RecordedStep("", SUBMIT, ""))
EPISODE = RecordedEpisode("a-1", "m", "You fix.", "It breaks", STEPS, "", "agent", 1.0, True)


def all_ids(trajectory: Trajectory) -> list[int]:
    return np.concatenate([ids for turn in trajectory.turns for ids in (turn.context_ids, turn.completion_ids)]).tolist()


def test_the_ids_are_those_of_the_conversation_rendered_at_once() -> None:
    messages = [
        Message("system", "You fix."), Message("user", "It breaks"), Message("assistant", f"Look. {LS}"), Message("tool", "a.py"),
        Message("assistant", ""), Message("tool", "Call!"),
    ]  # fmt: skip
    trajectory = trajectory_of_record(EPISODE, CHAT, XML)
    assert all_ids(trajectory) == [*CHAT.prompt_ids(messages).tolist(), *CHAT.completion_ids(SUBMIT).tolist()]
    assert (trajectory.stop_reason, trajectory.prompt) == (StopReason.SUBMITTED, "You fix.\n\nIt breaks")
    assert np.isnan(trajectory.turns[0].rollout_logprobs).all()


def test_calls_can_be_written_in_the_other_form() -> None:
    turns = trajectory_of_record(EPISODE, CHAT, NATIVE).turns
    assert turns[0].text == 'Look. <tool_call>\n{"name": "execute_bash", "arguments": {"command": "ls"}}\n</tool_call>'
    assert turns[0].action == LS


@given(
    steps=st.lists(st.tuples(st.text(max_size=12), st.sampled_from(["", LS, SUBMIT]), st.text(max_size=12)), max_size=4),
    cut=st.booleans(),
)
@settings(max_examples=60)
def test_our_trajectories_survive_atif_with_ids_logprobs_and_texts(steps: list[tuple[str, str, str]], cut: bool) -> None:
    clean = [tuple(part.encode("utf-8", "replace").decode() for part in step) for step in steps]
    episode = replace(EPISODE, steps=tuple(RecordedStep(*step) for step in clean if "<function" not in step[0]))
    played = trajectory_of_record(episode, CHAT, XML)
    turns = []
    for number, turn in enumerate(played.turns):
        ids = turn.completion_ids[:-1] if cut and number == 0 and len(turn.completion_ids) > 1 else turn.completion_ids
        turns.append(replace(turn, completion_ids=ids, rollout_logprobs=np.linspace(-2, -1, len(ids), dtype=np.float32)))
    played = replace(played, turns=tuple(turns))
    form = TRAJECTORY_FORMATS["atif"]
    read = form.from_document(json.loads(json.dumps(form.to_document(record_trajectory(played, 1.0)))))
    again = trajectory_of_record(read, CHAT, XML)
    for one, other in zip(played.turns, again.turns, strict=True):
        assert one.completion_ids.tolist() == other.completion_ids.tolist()
        assert one.rollout_logprobs.tolist() == other.rollout_logprobs.tolist()
        assert (one.text, one.action, one.observation) == (other.text, other.action, other.observation)


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("submitted_late", StopReason.SUBMITTED_LATE), ("max_turns", StopReason.MAX_TURNS), ("agent", StopReason.SUBMITTED),
        ("Submitted", StopReason.SUBMITTED), ("LimitsExceeded", StopReason.MAX_TURNS), ("exit_context", StopReason.MAX_TOKENS),
        ("TimeExceeded", StopReason.DEADLINE), ("max_token_limit", StopReason.MAX_TOKENS),
    ],
)  # fmt: skip
def test_why_it_ended(word: str, expected: StopReason) -> None:
    assert stop_reason_of(replace(EPISODE, stop_reason=word, steps=EPISODE.steps[:1])) is expected


def test_the_real_runs_become_trajectories() -> None:
    for document in real_documents()[:3]:
        episode = TRAJECTORY_FORMATS["r2e_gym"].from_document(document)
        trajectory = trajectory_of_record(episode, CHAT, XML)
        assert len(trajectory.turns) == len(document["trajectory_steps"])
        again = record_trajectory(trajectory, episode.reward)
        assert [step.call for step in again.steps] == [step.call for step in episode.steps]
        assert [step.thought for step in again.steps] == [step.thought for step in episode.steps]
        assert again.patch == document["output_patch"]
