"""Rollouts without containers in one process: files in a real sandbox, commands and rewards by a scripted world model."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

import trainers
from actors.group_request import GroupRequest
from actors.rollout_worker import REWARD_RECORDS, RolloutWorker
from actors.simulation import Simulation
from actors.worker_policies import WORLD_LEDGERS
from configs.rollout_config import EndpointConfig
from configs.run_config import RunConfig
from configs.stage_loading import load_config
from configs.tasks_config import MicroTasksConfig
from envpool.chat.chat_format import load_chat_format
from envpool.endpoints.token_usage import read_ledgers, usage_record
from envpool.micro.micro_tasks import generate_micro_tasks
from envpool.policy import Completion, GenerateRequest
from envpool.pool.sandbox_pool import SandboxPool
from envpool.preparation import Preparation
from envpool.sandbox_errors import SandboxUnavailableError
from envpool.sandbox_parts.image_cache import FolderImages
from envpool.task import Task
from tests.envpool.agent.agent_doubles import LinePolicy
from tests.envpool.endpoints.test_endpoint_policy import ScriptedServer, server  # noqa: F401
from tests.verifier.small_repo import FILES, TASK, process_pool
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
async def pool(tmp_path: Path) -> AsyncIterator[SandboxPool]:
    pool = process_pool(tmp_path, {"calc": FILES})
    yield pool
    await pool.close()


async def played(
    config: RunConfig,
    pool: SandboxPool,
    model: WorldModel | None,
    slope: float,
    tasks: Sequence[Task] = (TASK,),
    record: Path | None = None,
) -> tuple[list[Group], Simulation]:
    """One episode of each task, all at once."""
    simulation = Simulation(config, CHAT, model, calibration_as_dict(ScaledLogOdds(slope)), pool, GradeCache(), record)
    episode = replace(config.rollout.episode, max_turns=4, max_tokens=4096, max_tokens_per_turn=512)

    async def play(task: Task) -> Group:
        return await play_group(
            task,
            group_size=1,
            generate=LinePolicy(CHAT, [FIX, RUN, SUBMIT]),
            policy_name="scripted",
            pool=pool,
            chat=CHAT,
            rollout=replace(config.rollout, episode=episode),
            verifier=config.verifier,
            temperature=1.0,
            seed=0,
            cache=GradeCache(),
            grader=simulation.grader,
            simulate=simulation.simulate,
        )

    groups = await asyncio.gather(*map(play, tasks))
    await simulation.close()
    return groups, simulation


async def test_an_episode_is_played_and_rewarded_without_running_its_code(config: RunConfig, pool: SandboxPool) -> None:
    model = WorldModel()
    (group,), simulation = await played(config, pool, model, slope=1.0)
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


async def test_an_audit_really_runs_the_tests(config: RunConfig, pool: SandboxPool) -> None:
    audited = replace(config, verifier=replace(config.verifier, audit_share=1.0))
    (group,), simulation = await played(audited, pool, WorldModel(), slope=0.1)
    (member,) = group.members
    assert member.report_text.startswith("PASSED tests/hidden_test_calc.py::test_add")
    assert (member.resolved, member.reward.parts["audited"]) == (True, 1.0)
    assert simulation.figures()["audit_mean_residual"] > 0.3  # the model was made too shy


async def test_episodes_of_one_image_are_simulated_with_their_own_issues(config: RunConfig, pool: SandboxPool) -> None:
    full = replace(
        config, world_model=replace(config.world_model, form="full"), engine=replace(config.engine, max_model_len=8192)
    )
    tasks = [
        replace(TASK, problem=replace(TASK.problem, instance_id=name, problem_statement=f"the issue {name}"))
        for name in ("one", "two")
    ]
    model = WorldModel()
    await played(full, pool, model, 1.0, tasks)
    seen = [prompt for prompt in model.prompts if "<command>" in prompt]
    assert sorted(prompt.partition("<issue>\n")[2].partition("\n")[0] for prompt in seen) == ["the issue one", "the issue two"]


async def test_a_tasks_own_set_up_really_runs(config: RunConfig, pool: SandboxPool) -> None:
    script = "python3 -c \"open('made.txt', 'w').write('by the set-up')\""
    model = WorldModel()
    (group,), _ = await played(config, pool, model, 1.0, [replace(TASK, preparation=Preparation(script))])
    assert len(group.members) == 1
    assert not any("by the set-up" in prompt.partition("<command>")[2] for prompt in model.prompts)


async def test_an_evaluation_is_real_and_leaves_the_audits_alone(config: RunConfig, images: FolderImages) -> None:
    micro = next(islice(generate_micro_tasks(MicroTasksConfig(), seed=0), 1))
    images.add(micro.task.problem.image.removeprefix("folder:"), micro.files)
    audited = replace(config, verifier=replace(config.verifier, audit_share=1.0))
    model, worker = WorldModel(), RolloutWorker()
    await worker.start(audited, str(Path(trainers.__file__).parent / "tiny_base"), str(images.root), "", "simulation-tests")
    try:
        with pytest.raises(SandboxUnavailableError, match="no world model"):
            await worker.play_group(GroupRequest(micro.task, "careful", 1, 1.0, seed=0))
        before = await worker.play_group(GroupRequest(micro.task, "careful", 1, 1.0, seed=0, real=True))
        assert worker._pool is not None
        calibration = calibration_as_dict(ScaledLogOdds(0.1))
        worker._simulation = Simulation(audited, CHAT, model, calibration, worker._pool, worker._cache)
        real = await worker.play_group(GroupRequest(micro.task, "careful", 2, 1.0, seed=1, real=True))
        figures = await worker.stats()
        simulated = await worker.play_group(GroupRequest(micro.task, "careful", 1, 1.0, seed=2))
        later = await worker.stats()
    finally:
        await worker.close()
    members = [*before.members, *real.members]
    assert len(members) == 3
    assert all(member.grader.startswith("swe-master-grader/") and "audited" not in member.reward.parts for member in members)
    assert any(member.executed for member in members), "commands were executed and recorded"
    assert (figures["world_calls"], figures["reward_simulated"], figures["reward_audited"]) == (0, 0, 0)
    assert (len(simulated.members), later["reward_audited"]) == (1, 1)


async def test_an_endpoint_simulates_and_rewards_and_is_closed_then(
    config: RunConfig,
    pool: SandboxPool,
    server: ScriptedServer,  # noqa: F811
    tmp_path: Path,
) -> None:
    server.says("PASSED a\n<reward>1</reward>", reasoning_content="2 + 3 = 5")
    endpoint = EndpointConfig(base_url=server.url, model="scorer-1")
    served = replace(config, world_model=replace(config.world_model, endpoint=endpoint))
    record = tmp_path / "journal" / REWARD_RECORDS / "worker_0.json"
    (group,), simulation = await played(served, pool, None, slope=1.0, record=record)
    (member,) = group.members
    assert member.trajectory.turns[1].observation.startswith(
        "2\n"
    )  # a report is no result of a command: it was asked three times
    assert (member.resolved, member.grader) == (True, "swr/deployable")
    assert member.reward.parts["probability"] == pytest.approx(1.0, abs=1e-5)
    assert len(server.asked) == 3 + served.world_model.num_scores
    usage = usage_record(read_ledgers([tmp_path / "journal" / WORLD_LEDGERS / "worker_0.jsonl"]))
    assert (usage["requests"], usage["prompt_tokens"], usage["completion_tokens"]) == (6, 120, 42)
    assert simulation.grader is not None
    with pytest.raises(RuntimeError, match="closed"):
        await simulation.grader(TASK, member.trajectory)


async def test_a_fresh_process_goes_on_with_costs_and_audits(config: RunConfig, pool: SandboxPool, tmp_path: Path) -> None:
    audited, path = replace(config, verifier=replace(config.verifier, audit_share=1.0)), tmp_path / "records" / "worker_0.json"
    _, first = await played(audited, pool, WorldModel(), slope=0.1, record=path)
    before = first.figures()
    _, second = await played(audited, pool, WorldModel(), slope=0.1, record=path)
    now = second.figures()
    assert (before["reward_audited"], now["reward_audited"], now["world_calls"]) == (1, 2, 2 * before["world_calls"])
    assert now["audit_mean_residual"] == before["audit_mean_residual"] > 0.3  # the same patch was seen before
    _, other = await played(audited, pool, WorldModel(), slope=1.0, record=path)  # another calibration: another watch
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
