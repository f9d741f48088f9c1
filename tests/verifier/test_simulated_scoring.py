"""Votes: probabilities from the reward token, invalid reports, errors."""

import asyncio
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import trainers
from configs.world_model_config import WorldModelConfig
from envpool.chat.chat_format import load_chat_format
from envpool.policy import Completion, GenerateRequest, Message, PolicyError
from envpool.simulation.transition_format import ExecutionContext, SimulatedRun
from tests.verifier.test_scorer_prompt import CONTEXT
from verifier.simulated_scoring import Answer, Vote, answer_of, mean_probability, reward_probability, score_candidates, vote_of
from verifier.world_model_client import WorldModelClient

CHAT = load_chat_format(Path(trainers.__file__).parent / "tiny_base")


def report(reward: int, line: str = "PASSED a") -> str:
    return f"<think>\n\n</think>\n{line}\n<reward>{reward}</reward>"


def completion(text: str, reward_logprob: float) -> Completion:
    ids = CHAT.completion_ids(text)
    logprobs = np.full(len(ids), -0.01, np.float32)
    pieces = [CHAT.decode([token]).strip() for token in ids]
    logprobs[max(index for index, piece in enumerate(pieces) if piece in ("0", "1"))] = reward_logprob
    return Completion(ids, logprobs, np.zeros(len(ids), np.int32), "stop")


@pytest.mark.parametrize(
    ("probability", "temperature", "wanted"),
    [(0.8, 1.0, 0.8), (0.5, 0.7, 0.5), (0.9, 0.5, 0.75), (0.75, 2.0, 0.9)],
)
def test_a_probability_does_not_depend_on_the_temperature_it_was_sampled_at(
    probability: float, temperature: float, wanted: float
) -> None:
    logprob = math.log(probability)
    assert reward_probability(logprob, True, temperature) == pytest.approx(wanted)
    assert reward_probability(logprob, False, temperature) == pytest.approx(1 - wanted)


def test_certain_tokens_stay_inside_the_unit_interval() -> None:
    for logprob in (0.0, -1e-12, -1e-7, -90.0, float("-inf")):
        assert 0.0 < reward_probability(logprob, True, 0.7) < 1.0
        assert reward_probability(logprob, True, 0.7) == pytest.approx(1 - reward_probability(logprob, False, 0.7))


def test_the_reward_token_is_found_behind_other_digits() -> None:
    answer = answer_of(completion(report(1, "PASSED t.py::test_1 0"), math.log(0.6)), CHAT, 1.0)
    assert answer.text == report(1, "PASSED t.py::test_1 0")
    assert answer.probability == pytest.approx(0.6, abs=1e-6)
    assert answer_of(
        completion('<think>\n\n</think>\n{"test_report": {}, "reward": 0}', math.log(0.6)), CHAT, 1.0
    ).probability == (pytest.approx(0.4, abs=1e-6))


def test_a_digit_that_is_not_the_reward_is_no_vote() -> None:
    before = completion('<think>\n\n</think>\n{"reward": 0, "test_report": {"t.py::test_1": "FAILED"}}', math.log(0.999))
    assert vote_of(answer_of(before, CHAT, 1.0)) is None
    assert vote_of(Answer(report(1), 0.3, digit=0)) is None
    assert vote_of(Answer(report(0), 0.3, digit=0)) == Vote(0, 0.3, True, {"a": "PASSED"})


def test_without_log_probs_the_verdict_is_the_vote() -> None:
    assert answer_of(completion(report(1), math.nan), CHAT, 1.0).probability is None
    assert mean_probability([None]) is None


async def test_votes_come_in_order_and_bad_answers_are_no_votes() -> None:
    seen: list[int] = []

    async def generate(messages: tuple[Message, ...], seed: int) -> Answer:
        seen.append(seed)
        await asyncio.sleep(0)
        return {
            10: Answer(report(1), 0.9),
            11: Answer("nonsense"),
            14: Answer(report(0, "FAILED a")),
            15: Answer(report(1, "FAILED a"), 0.7),
        }[seed]

    contexts = [CONTEXT, None, CONTEXT, replace(CONTEXT, patch="")]
    votes = await score_candidates(generate, contexts, 2, seed=10)
    assert votes == [
        (Vote(1, 0.9, False, {"a": "PASSED"}), None),
        (),
        (Vote(0, 0.0, False, {"a": "FAILED"}), Vote(1, 0.7, True, {"a": "FAILED"})),
        (),
    ]
    assert sorted(seen) == [10, 11, 14, 15]


async def test_a_broken_engine_is_an_error_and_no_vote() -> None:
    async def broken(messages: tuple[Message, ...], seed: int) -> Answer:
        raise PolicyError("engine gone")

    with pytest.raises(PolicyError, match="engine gone"):
        await score_candidates(broken, [CONTEXT], 3, seed=0)


async def test_a_client_cuts_a_prompt_until_it_fits_and_counts_what_it_took() -> None:
    prompts: list[int] = []

    async def generate(request: GenerateRequest) -> Completion:
        prompts.append(len(request.prompt_ids))
        return completion(report(1), math.log(0.8))

    client = WorldModelClient(generate, CHAT, WorldModelConfig(num_scores=2, temperature=1.0), max_model_len=512)
    long = replace(CONTEXT, files={"m.py": "x = 1\n" * 2_000}, tests={"t.py": "y = 2\n" * 2_000})
    votes = await client.votes("s", long, seed=0)
    assert [vote.probability for vote in votes if vote] == pytest.approx([0.8, 0.8], abs=1e-6)
    assert max(prompts) <= 512 - 96
    assert min(prompts) > 200  # it was cut, not emptied
    assert (client.usage.calls, client.usage.prompt_tokens) == (2, sum(prompts))


async def test_a_commands_prompt_is_cut_too_and_one_that_can_never_fit_is_said() -> None:
    prompts: list[int] = []

    async def generate(request: GenerateRequest) -> Completion:
        prompts.append(len(request.prompt_ids))
        return completion("<think>\n\n</think>\n<exit_code>1</exit_code>", -0.1)

    long = ExecutionContext("", "python3 t.py", {"t.py": "x = 1\n" * 5_000}, "")
    client = WorldModelClient(generate, CHAT, WorldModelConfig(max_run_tokens=64), max_model_len=512)
    assert await client.run(long) == SimulatedRun("", 1)
    assert 200 < prompts[0] <= 512 - 64
    with pytest.raises(PolicyError, match=r"do not fit engine\.max_model_len=70"):
        await WorldModelClient(generate, CHAT, WorldModelConfig(max_run_tokens=64), max_model_len=70).run(long)


async def test_an_endpoints_model_has_a_limit_of_its_own() -> None:
    prompts: list[int] = []

    async def generate(request: GenerateRequest) -> Completion:
        prompts.append(len(request.prompt_ids))
        return completion(report(1), math.log(0.8))

    long = replace(CONTEXT, files={"m.py": "x = 1\n" * 2_000}, tests={})
    served = WorldModelConfig(num_scores=1, max_model_len=2_048)
    await WorldModelClient(generate, CHAT, served, max_model_len=512).votes("s", long, seed=0)
    await WorldModelClient(generate, CHAT, replace(served, max_model_len=256), max_model_len=512).votes("s", long, seed=0)
    assert 1_024 < prompts[0] <= 2_048 - 96
    assert prompts[1] <= 256 - 96
    tiny = replace(served, max_model_len=100)
    with pytest.raises(PolicyError, match=r"do not fit world_model\.max_model_len=100"):
        await WorldModelClient(generate, CHAT, tiny, max_model_len=512).votes("s", long, seed=0)
