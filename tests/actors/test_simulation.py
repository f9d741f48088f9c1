"""Rollouts without containers in one process: files in a real sandbox, commands and rewards by a scripted world model."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import trainers
from actors.rollout_worker import REWARD_RECORDS, RolloutWorker
from actors.simulation import Simulation
from configs.rollout_config import EndpointConfig
from configs.run_config import RunConfig
from configs.stage_loading import load_config
from envpool.chat.chat_format import load_chat_format
from envpool.policy import Completion, GenerateRequest
from envpool.pool.sandbox_pool import SandboxPool
from envpool.sandbox_parts.image_cache import FolderImages
from envpool.sandboxes.simulated_sandbox import SimulatedBackend
from tests.envpool.agent.agent_doubles import LinePolicy
from tests.envpool.endpoints.test_endpoint_policy import ScriptedServer, server  # noqa: F401
from tests.verifier.small_repo import FILES, TASK
from verifier.calibration import ScaledLogOdds, calibration_as_dict
from verifier.grade_cache import GradeCache
from verifier.group_rollout import play_group
from verifier.reward import Group

CHAT = load_chat_format(Path(trainers.__file__).parent / "tiny_base")
FIX = (
    "<function=str_replace_editor>\n<parameter=command>str_replace</parameter>\n<parameter=path>calc.py</parameter>\n"
    "<parameter=old_str>a - b</parameter>\n<parameter=new_str>a + b</parameter>\n</function>"
)
RUN = "<function=execute_bash>\n<parameter=command>grep -c return calc.py && python3 test_calc.py</parameter>\n</function>"
SUBMIT = "<function=submit>\n</function>"


class WorldModel:
    """Says of every command that it printed `simulated`, and of every patch that it is right with probability 0.9."""

    def __init__(self) -> None:
        self.prompts: list[str] = []

    async def __call__(self, request: GenerateRequest) -> Completion:
        prompt = request.messages[-1].content
        self.prompts.append(prompt)
        answer = "simulated\n<exit_code>0</exit_code>" if "<command>" in prompt else "PASSED a\n<reward>1</reward>"
        ids = CHAT.completion_ids(f"<think>\n\n</think>\n{answer}")
        return Completion(ids, np.full(len(ids), np.log(0.9), np.float32), ids * 0, "stop")


@pytest.fixture
def config() -> RunConfig:
    settings = ["sandbox.backend=simulated", "verifier.grader=hybrid", "world_model.roles=[reward,transition]"]
    return load_config(
        None, [*settings, "world_model.temperature=1.0", "verifier.audit_share=0.000001", "engine.max_model_len=2048"]
    )


@pytest.fixture
async def backend(tmp_path: Path, config: RunConfig) -> AsyncIterator[SimulatedBackend]:
    images = FolderImages(tmp_path)
    images.add("calc", FILES)
    backend = SimulatedBackend(config.sandbox, images, "simulation-tests")
    yield backend
    await backend.close()


async def played(
    config: RunConfig, backend: SimulatedBackend, model: WorldModel | None, slope: float, record: Path | None = None
) -> tuple[Group, Simulation]:
    pool = SandboxPool(backend, 2, 60.0)
    calibration = calibration_as_dict(ScaledLogOdds(slope))
    simulation = Simulation(config, CHAT, model, calibration, backend, pool, GradeCache(), record)
    simulation.know(TASK.problem)
    episode = replace(config.rollout.episode, max_turns=4, max_tokens=4096, max_tokens_per_turn=512)
    try:
        group = await play_group(
            TASK,
            group_size=1,
            generate=LinePolicy(CHAT, [FIX, RUN, SUBMIT]),
            policy_name="scripted",
            pool=pool,
            chat=CHAT,
            rollout=replace(config.rollout, episode=episode),
            verifier=simulation.verifier,
            temperature=1.0,
            seed=0,
            cache=GradeCache(),
            grader=simulation.grader,
        )
    finally:
        await simulation.close()
        await pool.close()
    return group, simulation


async def test_an_episode_is_played_and_rewarded_without_running_its_code(config: RunConfig, backend: SimulatedBackend) -> None:
    model = WorldModel()
    group, simulation = await played(config, backend, model, slope=1.0)
    (member,) = group.members
    assert [turn.observation for turn in member.trajectory.turns[1:2]] == ["2\nsimulated"]  # grep was real
    assert "+    return a + b" in member.trajectory.patch.diff
    assert (member.resolved, member.reward.value, member.grader) == (True, 1.0, "swr/deployable")
    assert member.reward.parts["probability"] == pytest.approx(0.9, abs=1e-6)
    assert member.executed == ()  # what a model made up is no record
    assert any("a + b" in prompt and "<command>\npython3 test_calc.py" in prompt for prompt in model.prompts)
    figures = simulation.figures()
    assert (figures["reward_simulated"], figures["reward_audited"]) == (1, 0)
    assert figures["world_calls"] == 1 + config.world_model.num_scores


async def test_an_audit_really_runs_the_tests(config: RunConfig, backend: SimulatedBackend) -> None:
    audited = replace(config, verifier=replace(config.verifier, audit_share=1.0))
    group, simulation = await played(audited, backend, WorldModel(), slope=0.1)
    (member,) = group.members
    assert member.report_text.startswith("PASSED tests/hidden_test_calc.py::test_add")
    assert (member.resolved, member.reward.parts["audited"]) == (True, 1.0)
    assert simulation.figures()["audit_mean_residual"] > 0.3  # the model was made too shy


async def test_an_endpoint_simulates_and_rewards_and_is_closed_then(
    config: RunConfig,
    backend: SimulatedBackend,
    server: ScriptedServer,  # noqa: F811
) -> None:
    server.says("PASSED a\n<reward>1</reward>", reasoning_content="2 + 3 = 5")
    endpoint = EndpointConfig(base_url=server.url, model="scorer-1")
    served = replace(config, world_model=replace(config.world_model, endpoint=endpoint))
    group, simulation = await played(served, backend, None, slope=1.0)
    (member,) = group.members
    assert member.trajectory.turns[1].observation.startswith(
        "2\n"
    )  # a report is no result of a command: it was asked three times
    assert (member.resolved, member.grader) == (True, "swr/deployable")
    assert member.reward.parts["probability"] == pytest.approx(1.0, abs=1e-5)
    assert len(server.asked) == 3 + served.world_model.num_scores
    assert simulation.grader is not None
    pool = SandboxPool(backend.inner, 1, 60.0)
    with pytest.raises(RuntimeError, match="closed"):
        await replace(simulation.grader, pool=pool)(TASK, member.trajectory)
    await pool.close()


async def test_a_fresh_process_goes_on_with_costs_and_audits(
    config: RunConfig, backend: SimulatedBackend, tmp_path: Path
) -> None:
    audited, path = replace(config, verifier=replace(config.verifier, audit_share=1.0)), tmp_path / "records" / "worker_0.json"
    _, first = await played(audited, backend, WorldModel(), slope=0.1, record=path)
    before = first.figures()
    _, second = await played(audited, backend, WorldModel(), slope=0.1, record=path)
    now = second.figures()
    assert (before["reward_audited"], now["reward_audited"], now["world_calls"]) == (1, 2, 2 * before["world_calls"])
    assert now["audit_mean_residual"] == before["audit_mean_residual"] > 0.3  # the same patch was seen before
    _, other = await played(audited, backend, WorldModel(), slope=1.0, record=path)  # another calibration: another watch
    assert other.figures()["reward_audited"] == 3
    assert other.figures()["audit_mean_residual"] == pytest.approx(0.1, abs=1e-6)


async def test_a_worker_keeps_the_record_beside_its_journal(config: RunConfig, tmp_path: Path) -> None:
    journal = tmp_path / "journal" / "worker_0.jsonl"
    endpoint = EndpointConfig(base_url="http://127.0.0.1:9/v1", model="scorer-1")
    served = replace(config, world_model=replace(config.world_model, endpoint=endpoint))
    worker = RolloutWorker()
    await worker.start(
        served, str(Path(trainers.__file__).parent / "tiny_base"), str(tmp_path / "images"), str(journal), "record-test"
    )
    await worker.connect_world_model([], calibration_as_dict(ScaledLogOdds(1.0)))
    await worker.close()
    assert (journal.parent / REWARD_RECORDS / "worker_0.json").is_file()
