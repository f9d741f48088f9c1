"""Turns taken out of a trajectory, and which language-server calls are useless."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from envpool.action_format import ToolCall, render_action
from envpool.action_formats import ACTION_FORMATS
from envpool.curation.lsp_turns import LspOutcome, lsp_outcome, num_lsp_successes, useless_lsp_turns
from envpool.curation.turn_deletion import without_turns
from envpool.trajectories.episode_import import trajectory_of_record
from envpool.trajectories.recorded_episode import RecordedEpisode, RecordedStep
from envpool.trajectory import Trajectory, Turn
from tests.envpool.agent.agent_doubles import CHAT

LS = render_action(ToolCall("execute_bash", {"command": "ls"}))


def played(observations: list[str]) -> Trajectory:
    steps = tuple(RecordedStep(f"Step {number}. ", LS, said) for number, said in enumerate(observations))
    return trajectory_of_record(RecordedEpisode("a", "m", "s", "p", steps, "", "agent"), CHAT, ACTION_FORMATS["xml"])


def ids(trajectory: Trajectory) -> list[int]:
    return np.concatenate([part for turn in trajectory.turns for part in (turn.context_ids, turn.completion_ids)]).tolist()


@given(observations=st.lists(st.text(max_size=8), min_size=1, max_size=6), data=st.data())
def test_what_is_left_is_the_conversation_without_those_turns(observations: list[str], data: st.DataObject) -> None:
    whole = played([said.encode("utf-8", "replace").decode() for said in observations])
    whole = replace(whole, turns=tuple(replace(turn, rollout_logprobs=turn.rollout_logprobs * 0 - 1) for turn in whole.turns))
    places = range(len(observations))
    deleted = data.draw(st.sets(st.sampled_from(places), max_size=len(observations) - 1))
    left = without_turns(whole, deleted)
    steps = tuple(
        RecordedStep(f"Step {number}. ", LS, turn.observation) for number, turn in enumerate(whole.turns) if number not in deleted
    )
    fresh = trajectory_of_record(RecordedEpisode("a", "m", "s", "p", steps, "", "agent"), CHAT, ACTION_FORMATS["xml"])
    assert ids(left) == ids(fresh)
    assert [len(turn.rollout_logprobs) for turn in left.turns] == [len(turn.completion_ids) for turn in left.turns]


def test_logprobs_after_a_deletion_are_unknown() -> None:
    turns = tuple(
        replace(turn, rollout_logprobs=np.full(len(turn.completion_ids), -1, np.float32))
        for turn in played(["a", "b", "c"]).turns
    )
    left = without_turns(replace(played(["a", "b", "c"]), turns=turns), {1})
    assert [bool(np.isnan(turn.rollout_logprobs).all()) for turn in left.turns] == [False, True]


@pytest.mark.parametrize(("deleted", "reason"), [({3}, "has 3 turns"), ({-1}, "has 3 turns"), ({0, 1, 2}, "every turn")])
def test_what_cannot_be_taken_out(deleted: set[int], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        without_turns(played(["a", "b", "c"]), deleted)


def test_a_rewritten_history_is_left_whole() -> None:
    whole = played(["a", "b", "c"])
    rewritten = replace(whole, turns=(*whole.turns[:2], replace(whole.turns[2], restart=True)))
    with pytest.raises(ValueError, match="its history was rewritten"):
        without_turns(rewritten, {0})
    failed = lsp("error: no", query="a")
    assert useless_lsp_turns([failed, *whole.turns]) == (0,)
    assert useless_lsp_turns([failed, *rewritten.turns]) == ()


def lsp(observation: str, **arguments: str) -> Turn:
    action = render_action(ToolCall("lsp_tool", {"command": "get_workspace_symbols", **arguments}))
    empty, none = np.zeros(0, np.int32), np.zeros(0, np.float32)
    return Turn(empty, empty, none, empty, action, action, observation, 0.0, 0.0)


FOUND = "Status: success (get_workspace_symbols of 'area': 1 symbol)\n[Result]\narea (function) at a.py:1"
NOTHING = "Status: success (get_workspace_symbols of 'def area': nothing found)"


@pytest.mark.parametrize(
    ("observation", "arguments", "expected"),
    [
        (FOUND, {"query": "area"}, LspOutcome.SUCCESS),
        (f"{NOTHING}\n[3 of 10 steps left]", {"query": "def area"}, LspOutcome.EMPTY),
        ("Status: failure (get_workspace_symbols): the server died", {"query": "a"}, LspOutcome.FAILED),
        ("a.py:1", {"query": "a"}, LspOutcome.SUCCESS),
        ("nothing found", {"query": "a"}, LspOutcome.EMPTY),
        ("error: the server died", {"query": "a"}, LspOutcome.FAILED),
        ("line must be an integer", {"query": "a", "line": "x"}, LspOutcome.FAILED),
        ("The call of lsp_tool was not made: unknown parameter x.", {"query": "a", "x": "y"}, LspOutcome.FAILED),
        ("", {"query": "a"}, LspOutcome.FAILED),
    ],
)
def test_what_a_call_gave(observation: str, arguments: dict[str, str], expected: LspOutcome) -> None:
    call = ToolCall("lsp_tool", {"command": "get_workspace_symbols", **arguments})
    assert lsp_outcome(call, observation) is expected


def test_useless_calls() -> None:
    other = replace(lsp("Status: failure"), action=LS)
    empty = lsp(NOTHING.replace("def area", "area"), query="area")
    turns = [
        lsp(FOUND, query="area"),
        lsp(NOTHING, query="def area"),
        other,
        lsp("error: no", query="a"),
        empty,
        lsp(FOUND, query="a"),
    ]
    assert useless_lsp_turns(turns) == (1, 3)
    assert num_lsp_successes(turns) == 2
