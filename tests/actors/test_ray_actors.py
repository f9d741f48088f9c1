"""Engine, rollout worker and learner as real Ray actors: what they compute, how they fail, and that they leave nothing.

One engine (10 to 20 s to start) serves the module; the tests run in order and the last ones break and close things.
"""

import asyncio
import os
import signal
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import pytest_asyncio
import ray
import torch
from safetensors.numpy import load_file
from transformers import Qwen2ForCausalLM

from actors.engine_health import Health
from actors.engine_pool import EnginePool
from actors.engines.engine_gauges import LONGEST_STEP_S
from actors.group_request import GroupRequest
from actors.learner_group import LearnerGroup, LearnerGroupError
from actors.logprob_gap import LogprobGapError, check_sync
from actors.rollout_workers import RolloutWorkers
from actors.routed_generate import RoutedGenerate
from actors.weight_packing import WeightBucket, WeightSyncError, pack_weights
from cluster.ray_session import ray_session
from configs.cluster_config import ClusterConfig
from configs.model_config import EngineConfig, SyncCheckConfig
from configs.optimizer_config import LearnerConfig, OptimizerConfig
from configs.stage_loading import load_config
from configs.tasks_config import MicroTasksConfig
from envpool.agent.episode import sample_within
from envpool.agent.turn_journal import read_journal
from envpool.micro.micro_tasks import generate_micro_tasks
from envpool.policy import Completion, GenerateRequest, PolicyError
from envpool.sandbox_parts.image_cache import FolderImages
from envpool.task import Task
from envpool.trajectory import StopReason
from tests.actors.marked_processes import process_of, processes_with
from tests.actors.random_qwen import write_random_qwen
from trainers.loss_spec import sft_loss_spec
from trainers.train_sample import TrainSample

pytestmark = [pytest.mark.engine, pytest.mark.ray, pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(900)]

ENGINE = EngineConfig(
    kv_cache_gib=0.008, max_model_len=2048, request_timeout_s=600.0, start_timeout_s=300.0, health_interval_s=0.5
)
"""A KV cache of 16,000 tokens: 25 requests of the longest kind."""
END_OF_TURN = 258
MARK = "SWE_TEST_MARK"
Floats = npt.NDArray[np.float32]


@pytest.fixture(scope="module")
def mark() -> Iterator[str]:
    """A variable that every process started from here inherits, so that stragglers can be found."""
    os.environ[MARK] = uuid.uuid4().hex
    yield f"{MARK}={os.environ[MARK]}"
    del os.environ[MARK]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    root = tmp_path_factory.mktemp("models")
    return [write_random_qwen(root / f"seed_{seed}", seed) for seed in range(2)]


@pytest.fixture(scope="module")
def session(mark: str) -> Iterator[None]:
    with ray_session(ClusterConfig(num_cpus=2, object_store_mib=100, min_free_memory_mib=2000)):
        yield


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pool(session: None, models: list[Path]) -> AsyncIterator[EnginePool]:
    pool = await EnginePool.start(str(models[0]), ENGINE, "float32")
    yield pool
    await pool.close()


def _request(number: int, length: int = 40, max_tokens: int = 30, temperature: float = 0.7) -> GenerateRequest:
    ids = np.random.default_rng(number).integers(0, 256, length, dtype=np.int32)
    return GenerateRequest(f"session-{number}", (), ids, max_tokens, temperature, seed=number)


def _expected(model: Path, request: GenerateRequest, token_ids: npt.NDArray[np.int32]) -> Floats:
    """Log-probs of a completion under the sampling distribution, by transformers."""
    network = Qwen2ForCausalLM.from_pretrained(model, dtype=torch.float32)
    ids = torch.tensor(np.concatenate([request.prompt_ids, token_ids])).long()
    with torch.no_grad():
        logprobs = torch.log_softmax(network(ids[None]).logits[0] / request.temperature, dim=-1)
    first = len(request.prompt_ids)
    found: Floats = logprobs[first - 1 : -1].gather(1, ids[first:, None])[:, 0].numpy()
    return found


def _assert_sampled_from(model: Path, request: GenerateRequest, completion: Completion) -> None:
    np.testing.assert_allclose(completion.rollout_logprobs, _expected(model, request, completion.token_ids), atol=1e-4)


async def test_logprobs_are_those_of_the_sampling_distribution(pool: EnginePool, models: list[Path]) -> None:
    requests = [_request(number) for number in range(4)]
    completions = await asyncio.gather(*(map(pool.policy(), requests)))
    for request, completion in zip(requests, completions, strict=True):
        assert completion.token_ids.dtype == np.int32
        assert completion.policy_versions.tolist() == [0] * len(completion.token_ids)
        _assert_sampled_from(models[0], request, completion)
    await _assert_weights_matter(models, requests[0], completions[0])


async def _assert_weights_matter(models: list[Path], request: GenerateRequest, completion: Completion) -> None:
    """The two models must be far apart, or the comparisons in this module prove nothing."""
    gap = np.abs(_expected(models[1], request, completion.token_ids) - completion.rollout_logprobs)
    assert gap.mean() > 0.5


async def test_equal_seeds_give_equal_samples(pool: EnginePool) -> None:
    policy = pool.policy()
    first, second, other = await asyncio.gather(policy(_request(1)), policy(_request(1)), policy(_request(2)))
    assert first.token_ids.tolist() == second.token_ids.tolist()
    assert first.token_ids.tolist() != other.token_ids.tolist()


async def test_a_completion_ends_with_the_end_of_turn_or_at_its_budget(pool: EnginePool) -> None:
    policy = pool.policy()
    completions = await asyncio.gather(*(policy(_request(100 + n, max_tokens=150, temperature=2.0)) for n in range(24)))
    assert {completion.finish_reason for completion in completions} == {"stop", "length"}
    for completion in completions:
        ids = completion.token_ids.tolist()
        assert (completion.finish_reason == "stop") == (ids[-1] == END_OF_TURN)
        assert END_OF_TURN not in ids[:-1]
        assert len(ids) == 150 or completion.finish_reason == "stop"


async def test_prompts_split_over_engine_steps_do_not_break_seeded_sampling(pool: EnginePool, models: list[Path]) -> None:
    requests = [_request(200 + number, length=300, max_tokens=3) for number in range(30)]  # 9,000 tokens, 4,096 a step
    completions = await asyncio.gather(*(map(pool.policy(), requests)))
    _assert_sampled_from(models[0], requests[-1], completions[-1])


async def test_a_prompt_that_does_not_fit_is_one_line(pool: EnginePool) -> None:
    with pytest.raises(PolicyError, match=r"^vLLM refused a prompt of 2100 tokens: ") as error:
        await pool.policy()(_request(1, length=2100))
    assert "\n" not in str(error.value)


async def test_a_late_completion_is_a_policy_error_and_is_aborted(pool: EnginePool) -> None:
    hasty = RoutedGenerate(pool.handles, request_timeout_s=0.05)
    with pytest.raises(PolicyError, match=r"engine 0 gave no completion within 0.05 s \(engine.request_timeout_s\)"):
        await hasty(_request(1, max_tokens=900))
    assert len((await pool.policy()(_request(1))).token_ids) == 30


async def test_a_request_has_its_time_of_the_engines_work_and_a_hang_is_none(pool: EnginePool, mark: str) -> None:
    assert (await sample_within(pool.policy(), _request(1, max_tokens=900), 0.01))[0] is None
    core = await process_of(mark, "EngineCore")
    os.kill(core, signal.SIGSTOP)
    try:
        sampling = asyncio.create_task(sample_within(pool.policy(), _request(1), 2.0))
        await asyncio.wait([sampling], timeout=2.0 + LONGEST_STEP_S + 1.0)  # its time is over, and the engine was asked
        assert not sampling.done()
    finally:
        os.kill(core, signal.SIGCONT)
    completion, worked_s = await sampling
    assert completion is not None
    assert 0.0 < worked_s < 2.0


def _buckets(model: Path, version: int, count: int = 3) -> list[WeightBucket]:
    weights = load_file(model / "model.safetensors")
    names = sorted(weights)
    return [pack_weights({n: weights[n] for n in names[index::count]}, version, index, count) for index in range(count)]


async def test_damaged_or_foreign_weights_leave_the_old_ones_in_place(pool: EnginePool, models: list[Path]) -> None:
    good = _buckets(models[1], 1)
    data = good[2].data.copy()
    data[-1] ^= 255
    with pytest.raises(WeightSyncError, match="engine 0: weights of version 1 are corrupt: bucket 2 of 3 has checksum"):
        await pool.update_weights([*good[:2], WeightBucket(1, 2, 3, good[2].checksum, data)], 1)
    assert _weight_files() == []
    with pytest.raises(WeightSyncError, match="engine 0: weights of version 1: bucket 2 of 3 did not arrive"):
        await pool.update_weights(good[:2], 1)
    weights = load_file(models[1] / "model.safetensors")
    del weights["model.norm.weight"]
    with pytest.raises(WeightSyncError, match=r"engine 0: weights of version 1 lack parameter model.norm.weight"):
        await pool.update_weights([pack_weights(weights, version=1)], 1)
    request = _request(3)
    _assert_sampled_from(models[0], request, await pool.policy()(request))
    assert [health.state for health in pool.health] == [Health.HEALTHY]


async def test_pressure_on_the_kv_cache_lowers_the_number_of_requests_at_once(pool: EnginePool, models: list[Path]) -> None:
    requests = [_request(600 + number, length=600, max_tokens=300) for number in range(48)]  # 29,000 tokens of prompts alone
    completions = await asyncio.gather(*(map(pool.policy(), requests)))
    stats = (await pool.stats())[0]
    assert stats["admission_cuts"] > 0
    assert stats["admission_limit"] < ENGINE.max_num_seqs
    assert (stats["admitted"], stats["admission_waiting"]) == (0, 0)
    longest = max(range(48), key=lambda index: len(completions[index].token_ids))
    _assert_sampled_from(models[0], requests[longest], completions[longest])


async def test_requests_wait_for_an_engine_that_sleeps(pool: EnginePool) -> None:
    await pool.sleep()
    waiting = asyncio.create_task(pool.policy()(_request(1)))
    assert not (await asyncio.wait([waiting], timeout=1.0))[0]
    await pool.wake()
    assert len((await waiting).token_ids) == 30


async def _cached_tokens(pool: EnginePool, request: GenerateRequest) -> tuple[int, Completion]:
    """Prompt tokens found in the prefix cache by one request."""
    before = (await pool.stats())[0]["cached_tokens"]
    completion = await pool.policy()(request)
    return int((await pool.stats())[0]["cached_tokens"] - before), completion


async def test_a_cached_prefix_is_found_by_its_own_version_only(pool: EnginePool, models: list[Path]) -> None:
    request = _request(700, length=256)
    assert [(await _cached_tokens(pool, request))[0] for _ in range(2)] == [0, 224]  # whole blocks of 32, less the last token
    await pool.handles[0].__ray_call__.remote(lambda engine: engine._set_version(0))  # caches stay, the salt is another
    assert [(await _cached_tokens(pool, request))[0] for _ in range(2)] == [0, 224]


async def test_a_live_update_splits_running_completions_by_version(pool: EnginePool, models: list[Path]) -> None:
    policy = pool.policy()
    requests = [_request(300 + number, max_tokens=600) for number in range(12)]
    running = [asyncio.create_task(policy(request)) for request in requests]
    await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
    await pool.update_weights(_buckets(models[1], 1), 1)
    completions = await asyncio.gather(*running)
    split = [(r, c) for r, c in zip(requests, completions, strict=True) if set(c.policy_versions.tolist()) == {0, 1}]
    assert len(split) >= 2
    for request, completion in split:
        old = completion.policy_versions == 0
        assert old.tolist() == sorted(old.tolist(), reverse=True)
        expected = np.where(old, *(_expected(model, request, completion.token_ids) for model in models))
        np.testing.assert_allclose(completion.rollout_logprobs, expected, atol=1e-4)
    again = _request(700, length=256)  # its prefix is cached by the old weights, and must not be used
    for expected_hits in (0, 224):
        hits, completion = await _cached_tokens(pool, again)
        assert hits == expected_hits
        _assert_sampled_from(models[1], again, completion)
    assert (await pool.stats())[0]["policy_version"] == 1


async def test_one_engine_serves_another_model_of_its_architecture(pool: EnginePool, models: list[Path], tmp_path: Path) -> None:
    with pytest.raises(WeightSyncError, match=r"engine 0: weights in .* have parameter model.layers.2.input_layernorm.weight"):
        await pool.load_model(str(write_random_qwen(tmp_path / "deeper", 0, layers=3)), 2)
    await pool.load_model(str(models[0]), 2)
    request = _request(6)
    completion = await pool.policy()(request)
    assert completion.policy_versions.tolist() == [2] * len(completion.token_ids)
    _assert_sampled_from(models[0], request, completion)


@pytest.fixture(scope="module")
def micro_task(tmp_path_factory: pytest.TempPathFactory) -> tuple[Task, Path]:
    root = tmp_path_factory.mktemp("images")
    made = next(generate_micro_tasks(MicroTasksConfig(num_train=1, num_heldout=0), seed=0))
    FolderImages(root).add(made.task.problem.image.removeprefix("folder:"), made.files)
    return made.task, root


async def test_a_worker_plays_groups_by_a_teacher_and_by_the_engine(
    pool: EnginePool, models: list[Path], micro_task: tuple[Task, Path], tmp_path: Path
) -> None:
    task, images = micro_task
    # One token is one byte here: a tool call takes a few hundred.
    episode = ("max_turns=6", "max_tokens=2000", "max_tokens_per_turn=280")
    overrides = ["sandbox.isolation=none", "sandbox.num_sandboxes=4", *(f"rollout.episode.{knob}" for knob in episode)]
    config = load_config(None, overrides)
    workers = await RolloutWorkers.start(config, str(models[0]), str(images), str(tmp_path / "journal"))
    try:
        await workers.connect(pool.handles)
        taught, sampled = await asyncio.gather(
            workers.play_group(GroupRequest(task, "careful", 4, temperature=1.0, seed=0)),
            workers.play_group(GroupRequest(task, "engine", 2, temperature=1.0, seed=0)),
        )
        with pytest.raises(PolicyError, match="no policy 'nobody' here; there are careful, "):
            await workers.play_group(GroupRequest(task, "nobody", 1, temperature=1.0, seed=0))
        stats = (await workers.stats())[0]
    finally:
        await workers.close()
    assert [member.trajectory.sample_index for member in taught.members] == [0, 1, 2, 3]
    assert taught.lost == sampled.lost == ()
    assert any(m.resolved and m.reward.value == 1.0 for m in taught.members)
    assert all(m.trajectory.stop_reason in StopReason for m in sampled.members)
    turn = sampled.members[0].trajectory.turns[0]
    assert np.isfinite(turn.rollout_logprobs).all()
    assert turn.policy_versions.tolist() == [2] * len(turn.completion_ids)
    num_turns = sum(len(m.trajectory.turns) for group in (taught, sampled) for m in group.members)
    assert len(list(read_journal(tmp_path / "journal/worker_0.jsonl"))) == num_turns
    assert stats["active"] == 0
    assert stats["started"] >= 6


def _sample(number: int, length: int) -> TrainSample:
    ids = np.random.default_rng(number).integers(0, 256, length, dtype=np.int32)
    mask = np.ones(length, np.int8)
    zeros = np.zeros(length, np.float32)
    return TrainSample(ids, mask, zeros, zeros, np.zeros(length, np.int32), f"task-{number}")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the learner's test exports its model."""
    return tmp_path_factory.mktemp("trained") / "hf"


async def test_two_ranks_train_and_the_engine_samples_from_what_they_learned(
    pool: EnginePool, models: list[Path], trained: Path, tmp_path: Path
) -> None:
    learner = LearnerConfig(num_ranks=2, num_threads=1, step_timeout_s=60.0, weight_bucket_mib=0)
    optimizer = OptimizerConfig(learning_rate=1e-2, warmup_steps=0, schedule="constant")
    group = await LearnerGroup.start(str(models[0]), "float32", optimizer, learner, num_steps=4, seed=0)
    try:
        samples = [_sample(number, length) for number, length in enumerate([30, 10, 20])]
        losses = [(await group.train_step(samples, sft_loss_spec(0.0)))["loss"] for _ in range(2)]
        assert losses[1] < losses[0]
        before = await group.token_logprobs(samples)
        assert [len(row) for row in before] == [30, 10, 20]
        prompts = [sample.token_ids for sample in samples]
        await pool.load_model(str(models[1]), 6)
        with pytest.raises(LogprobGapError, match=r"version 6: engine and learner differ by .* nats per token on average"):
            await check_sync(pool, group.token_logprobs, prompts, 6, SyncCheckConfig())
        assert await group.sync_weights(pool, 7) > 0
        gap = await check_sync(pool, group.token_logprobs, prompts, 7, SyncCheckConfig(num_prompts=3))
        assert gap.num_tokens > 20
        assert gap.largest < 1e-4
        with pytest.raises(WeightSyncError, match=r"engine 0 samples from version \[7\] after it took version 8"):
            await check_sync(pool, group.token_logprobs, prompts, 8, SyncCheckConfig())
        await group.save(tmp_path / "step_2", {"step": 2})
        await group.export(trained)
        request = _request(8)
        completion = await pool.policy()(request)
        assert set(completion.policy_versions.tolist()) == {7}
        _assert_sampled_from(trained, request, completion)
        await group.reset(str(models[1]), optimizer, 4)
        assert await group.load(tmp_path / "step_2") == {"step": 2}
        for row, restored in zip(before, await group.token_logprobs(samples), strict=True):
            np.testing.assert_allclose(restored, row, atol=1e-5)
        resumed = await group.train_step(samples, sft_loss_spec(0.0))
        running = [asyncio.create_task(group.train_step(samples, sft_loss_spec(0.0))) for _ in range(20)]
        await running[0]  # the others wait in the ranks' queues or in a collective
        ray.kill(group.ranks[1])
        async with asyncio.timeout(120):
            outcomes = await asyncio.gather(*running, return_exceptions=True)
        failed = [outcome for outcome in outcomes if not isinstance(outcome, dict)]  # the others were finished before
        assert {type(outcome) for outcome in failed} == {LearnerGroupError}
        assert "train_step: learner rank 1 of 2: died" in map(str, failed)
        with pytest.raises(LearnerGroupError, match="the learner group is closed"):
            await group.train_step(samples, sft_loss_spec(0.0))
        group = await LearnerGroup.start(str(models[0]), "float32", optimizer, learner, num_steps=4, seed=0)
        assert await group.load(tmp_path / "step_2") == {"step": 2}
        assert await group.train_step(samples, sft_loss_spec(0.0)) == resumed
    finally:
        await group.close()


@pytest.mark.parametrize("process", ["EngineCore", "ray::EngineActor"])
async def test_a_killed_engine_comes_back_by_itself_and_its_requests_are_answered(
    pool: EnginePool, trained: Path, mark: str, process: str
) -> None:
    """With the learner's weights, although that is gone: the pool holds the last buckets. No version 0 is ever sampled."""
    policy = pool.policy()
    before = pool.health[0].restarts
    requests = [_request(400 + number, max_tokens=900) for number in range(8)]
    running = [asyncio.create_task(policy(request)) for request in requests]
    await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
    os.kill(await process_of(mark, process), signal.SIGKILL)
    completions = await asyncio.gather(*running)
    assert policy.retries > 0
    for request, completion in zip(requests, completions, strict=True):
        assert set(completion.policy_versions.tolist()) == {7}
        _assert_sampled_from(trained, request, completion)
    assert pool.health[0].restarts == before + 1
    assert await pool.revive() == 0


async def test_nothing_is_left_after_closing(pool: EnginePool, mark: str) -> None:
    await pool.close()
    ray.shutdown()
    for _ in range(600):
        if processes_with(mark):
            await asyncio.sleep(0.1)
    assert processes_with(mark) == {}
    assert _weight_files() == []


def _weight_files() -> list[Path]:
    return list(Path("/dev/shm").glob("swe-weights-*"))
