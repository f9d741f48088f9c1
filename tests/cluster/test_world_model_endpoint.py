"""The world model behind world_model.endpoint, against a real HTTP server: no engine, no trained model, the client closed."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from cluster.calibration_file import NAME, read_calibration, scorer_name
from cluster.group_store import GroupStore
from cluster.progress_view import ProgressView
from cluster.run_folder import RunFolder
from cluster.stage import StageError
from cluster.stages.tts_stage import choose_candidates
from cluster.stages.world_model_stage import calibrate
from cluster.world_model_judging import patch_votes, world_client
from configs.rollout_config import EndpointConfig
from configs.run_config import RunConfig
from configs.tts_config import TTSConfig
from configs.world_model_config import WorldModelConfig
from envpool.chat.chat_format import ChatFormat
from tests.cluster.test_tts_scoring import CHAT, GROUPS
from tests.envpool.endpoints.test_endpoint_policy import ScriptedServer, server  # noqa: F401
from verifier.reward import Group
from verifier.world_model_data import deployable


@dataclass
class ChatOnly:
    """A fleet without engines: anything but the renderer fails."""

    chat: ChatFormat = CHAT


@dataclass
class Context:
    """What the stages read of a StageContext."""

    config: RunConfig
    folder: RunFolder
    fleet: ChatOnly
    progress: ProgressView


@pytest.fixture
def context(tmp_path: Path, server: ScriptedServer) -> Any:  # noqa: F811
    server.says("PASSED a\n<reward>1</reward>", reasoning_content="1 + 2 = 3")
    endpoint = EndpointConfig(server.url, "scorer-1", usd_per_million_prompt=2.0, usd_per_million_completion=10.0)
    world = WorldModelConfig(endpoint=endpoint, num_scores=2, calibration_share=0.999999)
    tts = TTSConfig(num_candidates=4, num_bootstrap=20)
    config = RunConfig(runs_dir=str(tmp_path), tts=tts, world_model=world)
    config = replace(config, engine=replace(config.engine, max_model_len=1_024))
    return Context(config, RunFolder.create(config), ChatOnly(), ProgressView())


def store(context: Any, name: str, groups: list[Group]) -> None:
    with GroupStore(context.folder.root / "trajectories" / name) as stored:
        for group in groups:
            stored.add(group)


async def test_votes_come_from_the_endpoint_which_is_closed_then(context: Any, server: ScriptedServer) -> None:  # noqa: F811
    member = GROUPS[0].members[0]
    async with world_client(context, "tts") as client:
        votes = await patch_votes(client, member, deployable, 0)
    assert [(vote.reward, vote.probability, vote.statuses) for vote in votes if vote] == [(1, 1.0, {"a": "PASSED"})] * 2
    assert {asked[2]["model"] for asked in server.asked} == {"scorer-1"}
    with pytest.raises(RuntimeError, match="closed"):
        await patch_votes(client, member, deployable, 0)


@pytest.mark.parametrize("shown", [True, False])
async def test_a_scorer_that_is_not_shown_observations_never_reads_one(
    context: Any,
    server: ScriptedServer,  # noqa: F811
    shown: bool,
) -> None:
    world = replace(context.config.world_model, show_observed=shown)
    context.config = replace(context.config, world_model=world)
    member = GROUPS[0].members[0]
    assert member.context is not None
    telling = replace(member, context=replace(member.context, observed="all tests passed"))
    async with world_client(context, "tts") as client:
        await patch_votes(client, telling, deployable, 0)
    assert ["all tests passed" in str(asked[2]["messages"]) for asked in server.asked] == [shown] * len(server.asked)
    assert server.asked
    assert scorer_name(world).endswith(", without observations") is not shown


async def test_a_model_that_thinks_apart_and_writes_the_block_too_is_read(context: Any, server: ScriptedServer) -> None:  # noqa: F811
    member, told = GROUPS[0].members[0], '{"test_report": {"a": "FAILED"}, "reward": 0}'
    server.answers.clear()
    server.says(f"<think>\nit fails\n</think>\n{told}", reasoning_content="The form is <think>..</think>, then the JSON.")
    server.says(told, reasoning_content="The form is <think>..</think>, then the JSON.")
    async with world_client(context, "tts") as client:
        votes = await patch_votes(client, member, deployable, 0)
    assert [(vote.reward, vote.statuses) if vote else None for vote in votes] == [(0, {"a": "FAILED"})] * 2


async def test_candidates_are_chosen_without_a_trained_world_model(context: Any) -> None:
    context.folder.record_stage("eval-sft", {})
    store(context, "eval-sft", GROUPS)
    record = await choose_candidates(context)
    assert (record["candidates_of"], record["calibration"]) == ("eval-sft", "Identity")
    assert record["world_model"] == scorer_name(context.config.world_model)
    assert (record["scorer"]["num"], record["scorer"]["invalid_reports"], record["cost"]["calls"]) == (4, 0.0, 6)
    assert record["endpoint"] == {  # 20 and 7 tokens a request
        "requests": 6, "prompt_tokens": 120, "cached_tokens": 0, "completion_tokens": 42, "cost_usd": 0.00066,
    }  # fmt: skip
    assert (await choose_candidates(context))["endpoint"]["requests"] == 6  # stored votes are not asked for again


async def test_reports_that_cannot_be_read_are_said(
    context: Any,
    server: ScriptedServer,  # noqa: F811
    capsys: pytest.CaptureFixture[str],
) -> None:
    server.answers.clear()
    server.says("I think that this patch is right.")
    context.folder.record_stage("eval-sft", {})
    store(context, "eval-sft", GROUPS)
    record = await choose_candidates(context)
    assert record["scorer"]["invalid_reports"] == 1.0
    assert "tts: 100% of the reports could not be read and are no votes" in capsys.readouterr().out


async def test_without_an_endpoint_a_trained_world_model_is_asked_for(context: Any) -> None:
    context.config = replace(context.config, world_model=WorldModelConfig())
    with pytest.raises(StageError, match="needs world-model first"):
        await choose_candidates(context)


async def test_an_endpoint_is_calibrated_and_no_other_model_uses_it(context: Any) -> None:
    store(context, "rollout", GROUPS)
    model = context.folder.hf("world-model")
    model.mkdir()
    record = await calibrate(context)
    name = scorer_name(context.config.world_model)
    assert (record["calibration"]["of"], record["calibration"]["patches"]) == (name, 4)
    assert read_calibration(model, name)["method"] == "ScaledLogOdds"
    assert read_calibration(model)["method"] == "Identity"
    assert (model / NAME).is_file()
