"""Curation of language-server trajectories as a stage: rules, deletions, judge, funnel, what training then sees."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

from cluster.group_store import GroupStore
from cluster.sft_export import export_sft
from cluster.stage import StageError
from cluster.stages.sft_stage import curated_samples
from configs.curate_config import LspCurationConfig
from configs.rollout_config import EndpointConfig
from envpool.action_format import ToolCall, render_action
from envpool.action_formats import ACTION_FORMATS
from envpool.curation.turn_deletion import without_turns
from envpool.trajectories.episode_import import trajectory_of_record
from envpool.trajectories.recorded_episode import RecordedEpisode, RecordedStep
from tests.cluster.test_curate_stage import pairs, run, stored
from tests.envpool.agent.agent_doubles import CHAT
from tests.envpool.endpoints.test_endpoint_policy import ScriptedServer, server  # noqa: F401
from trainers.sample_building import sft_samples
from verifier.reward import Group, Reward, ScoredTrajectory

FILTERS = ("resolved", "lsp_calls", "lsp_judge")
SUBMIT = render_action(ToolCall("submit", {}))
YES, NO = r"\boxed{yes}", r"\boxed{no}"


def asked(query: str, observation: str) -> RecordedStep:
    return RecordedStep(
        "", render_action(ToolCall("lsp_tool", {"command": "get_workspace_symbols", "query": query})), observation
    )


GOOD = asked("area", "Status: success (get_workspace_symbols of 'area': 1 symbol)\n[Result]\na.py:1")
BAD = asked("def area", "Status: failure (get_workspace_symbols): the server died")
DONE = RecordedStep("", SUBMIT, "")


def scored(task: str, index: int, *steps: RecordedStep, resolved: bool = True) -> ScoredTrajectory:
    episode = RecordedEpisode(task, "teacher", "", f"Fix {task}.", (*steps, DONE), "diff", "submitted")
    trajectory = replace(trajectory_of_record(episode, CHAT, ACTION_FORMATS["xml"]), sample_index=index)
    return ScoredTrajectory(trajectory, Reward(float(resolved), {}, True), resolved, "log")


GROUPS = [
    Group("a", (scored("a", 0, GOOD, BAD, GOOD), scored("a", 1, GOOD, BAD), scored("a", 2, GOOD, GOOD, resolved=False)), ()),
    Group("b", (scored("b", 0, GOOD, GOOD), scored("b", 1, GOOD, GOOD, GOOD), scored("b", 2, GOOD, GOOD, GOOD)), ()),
]


def context_of(tmp_path: Path, url: str, **settings: Any) -> Any:
    judge = EndpointConfig(base_url=url, model="judge-1", usd_per_million_prompt=1.0) if url else EndpointConfig()
    lsp = LspCurationConfig(judge=judge, judge_concurrency=1, judge_tries=2)
    context = stored(tmp_path, **{"filters": FILTERS, "lsp": lsp, **settings})
    rollout = context.folder.root / "trajectories" / "rollout"
    for path in rollout.iterdir():
        path.unlink()
    with GroupStore(rollout) as store:
        for group in GROUPS:
            store.add(group)
    return context


def test_rules_judge_and_deletions(tmp_path: Path, server: ScriptedServer) -> None:  # noqa: F811
    for text in (YES, NO, "unclear", "unclear", YES):
        server.says(text)
    context = context_of(tmp_path, server.url)
    record = run(context)
    assert record["funnel"] == (("played", 6), ("resolved", 5), ("lsp_calls", 4), ("lsp_judge", 2), ("distinct", 2))
    assert pairs(context) == [["a", 0], ["b", 2]]
    assert record["lsp"]["verdicts"] == {"yes": 2, "no": 1, "invalid": 1}
    assert (record["lsp"]["trajectories_with_calls"], record["lsp"]["trimmed"], record["lsp"]["turns_deleted"]) == (6, 1, 1)
    assert record["lsp"]["judge"]["requests"] == 5
    assert record["lsp"]["judge"]["cost_usd"] == pytest.approx(5 * 20e-6)
    assert "the server died" not in server.asked[0][2]["messages"][1]["content"]
    whole = GROUPS[0].members[0].trajectory
    (expected,) = sft_samples(without_turns(whole, {1}))
    assert curated_samples(context.folder)[0].token_ids.tolist() == expected.token_ids.tolist()
    export_sft(context.folder, tmp_path / "sft.jsonl")
    first = json.loads((tmp_path / "sft.jsonl").read_text().splitlines()[0])
    assert [message["role"] for message in first["messages"]] == ["user", "assistant", "tool", "assistant", "tool", "assistant"]


def test_a_second_run_asks_only_for_what_has_no_verdict(tmp_path: Path, server: ScriptedServer) -> None:  # noqa: F811
    for text in (YES, NO, "unclear", "unclear", NO, YES):
        server.says(text)
    context = context_of(tmp_path, server.url)
    run(context)
    assert len(server.asked) == 5
    record = run(context)
    assert len(server.asked) == 6
    assert record["lsp"]["verdicts"] == {"yes": 2, "no": 2, "invalid": 0}
    assert pairs(context) == [["a", 0], ["b", 1]]


def test_what_was_judged_before_the_endpoint_broke_is_kept(tmp_path: Path, server: ScriptedServer) -> None:  # noqa: F811
    server.says(YES)
    server.fails(401, "key expired")
    context = context_of(tmp_path, server.url)
    with pytest.raises(StageError, match="HTTP 401 key expired"):
        run(context)
    rows = [orjson.loads(line) for line in (context.folder.root / "lsp_verdicts.jsonl").read_bytes().splitlines()]
    assert [(row["instance_id"], row["sample_index"], row["verdict"]) for row in rows] == [("a", 0, "yes")]


def test_the_rules_work_without_a_judge(tmp_path: Path) -> None:
    context = context_of(tmp_path, "", filters=("resolved", "lsp_calls"))
    record = run(context)
    assert record["funnel"] == (("played", 6), ("resolved", 5), ("lsp_calls", 4), ("distinct", 4))
    assert len(curated_samples(context.folder)) == 4


def test_a_judge_that_is_not_configured_is_named(tmp_path: Path) -> None:
    with pytest.raises(StageError, match=r"set curate\.lsp\.judge\.base_url"):
        run(context_of(tmp_path, ""))


def test_curation_without_these_filters_deletes_nothing(tmp_path: Path) -> None:
    context = context_of(tmp_path, "", filters=("resolved",))
    assert "lsp" not in run(context)
    assert np.sum([len(sample.token_ids) for sample in curated_samples(context.folder)]) == sum(
        member.trajectory.num_tokens for group in GROUPS for member in group.members if member.resolved
    )
