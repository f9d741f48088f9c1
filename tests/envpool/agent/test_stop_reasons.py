"""Every way an episode can end, played."""

from dataclasses import replace

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from configs.rollout_config import EpisodeConfig, GarbledConfig
from envpool.agent.episode import run_episode
from envpool.chat.chat_format import END_OF_TEXT, IM_END, IM_START, ChatFormat
from envpool.policy import Completion, GenerateRequest, Message, PolicyError
from envpool.sandbox import ExecResult
from envpool.sandboxes.scripted_sandbox import ScriptedSandbox
from envpool.trajectory import StopReason, Trajectory
from tests.envpool.agent.agent_doubles import CHAT, LinePolicy
from tests.envpool.agent.test_episode import CONFIG, DIFF, FILES, PROBLEM, SUBMIT, TEST, VIEW, StepClock, play, shell


def test_each_reason_has_a_sentence_of_its_own_and_keeps_its_stored_name() -> None:
    sentences = [reason.sentence for reason in StopReason]
    assert len(set(sentences)) == len(sentences)
    assert all(sentence.endswith(".") and len(sentence) < 100 for sentence in sentences)
    stored_by_earlier_versions = ["submitted", "max_turns", "max_tokens", "deadline"]
    assert [StopReason(name).name.lower() for name in stored_by_earlier_versions] == stored_by_earlier_versions
    assert [reason.value for reason in StopReason if reason.is_submit] == [
        "submitted", "submitted_last_turn", "submitted_late", "submitted_last_tokens",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("lines", "stop"),
    [
        ([SUBMIT], StopReason.SUBMITTED),
        ([VIEW, SUBMIT], StopReason.SUBMITTED_LAST_TURN),
        ([VIEW, VIEW, SUBMIT], StopReason.SUBMITTED_LATE),
        ([VIEW, VIEW, VIEW], StopReason.MAX_TURNS),
    ],
)
async def test_submits_before_at_and_after_the_last_turn(lines: list[str], stop: StopReason) -> None:
    trajectory = await play(LinePolicy(CHAT, lines), replace(CONFIG, max_turns=2, grace_turns=1))
    assert trajectory.stop_reason is stop
    assert trajectory.patch.diff == DIFF


async def test_the_budget_line_stays_at_none_in_grace_turns() -> None:
    config = replace(CONFIG, prompt="full", max_turns=1, grace_turns=1, max_tokens=20_000)
    trajectory = await play(LinePolicy(CHAT, [VIEW, SUBMIT]), config)
    assert trajectory.turns[0].observation.endswith("\n[0 of 1 steps left: call submit now]")


async def test_a_submit_that_uses_up_the_tokens() -> None:
    prompt = len(CHAT.prompt_ids([Message("user", PROBLEM.problem_statement)]))
    config = replace(CONFIG, max_tokens=prompt + len(CHAT.completion_ids(SUBMIT)))
    assert (await play(LinePolicy(CHAT, [SUBMIT]), config)).stop_reason is StopReason.SUBMITTED_LAST_TOKENS
    larger = replace(config, max_tokens=config.max_tokens + 1)
    assert (await play(LinePolicy(CHAT, [SUBMIT]), larger)).stop_reason is StopReason.SUBMITTED


async def test_a_full_context_is_not_a_used_up_budget() -> None:
    prompt = len(CHAT.prompt_ids([Message("user", PROBLEM.problem_statement)]))
    answer = len(CHAT.observation_ids("no tool call"))
    said = len(CHAT.completion_ids("hm"))
    config = replace(CONFIG, max_context_tokens=prompt + said + answer)
    policy = LinePolicy(CHAT, ["hm"])
    trajectory = await play(policy, config)
    assert trajectory.stop_reason is StopReason.CONTEXT_FULL
    assert policy.requests[0].max_tokens == said + answer
    assert trajectory.num_tokens == prompt + said


async def test_calls_that_time_out_in_a_row() -> None:
    clock = StepClock(0.0)

    def slow(command: str) -> ExecResult:
        if "git" not in command:
            clock.now += 10.0
        return shell(command)

    config = replace(CONFIG, max_command_timeouts=2, episode_timeout_s=500.0)
    lines = [TEST, VIEW, TEST, TEST]
    trajectory = await play(LinePolicy(CHAT, lines), config, ScriptedSandbox(FILES, slow), clock=clock)
    assert (trajectory.stop_reason, len(trajectory.turns)) == (StopReason.COMMAND_TIMEOUTS, 4)
    assert trajectory.turns[-1].observation == "passed"
    clock.now = 0.0
    off = replace(config, max_command_timeouts=0)
    assert (await play(LinePolicy(CHAT, [*lines, SUBMIT]), off, ScriptedSandbox(FILES, slow))).stop_reason is StopReason.SUBMITTED


async def test_completions_without_a_call_in_a_row() -> None:
    config = replace(CONFIG, max_missing_calls=2)
    trajectory = await play(LinePolicy(CHAT, ["hm", VIEW, "", "  \n "]), config)
    assert trajectory.stop_reason is StopReason.NO_CALL
    assert [turn.action for turn in trajectory.turns] == ["", VIEW, "", ""]
    assert [turn.observation for turn in trajectory.turns][2:] == ["no tool call", ""]


async def test_a_garbled_completion_ends_the_episode_and_its_call_is_not_made() -> None:
    line = f"{'!' * 400} {TEST}"
    config = replace(CONFIG, max_tokens_per_turn=900, garbled=GarbledConfig(stop=True))
    sandbox = ScriptedSandbox(FILES, shell)
    trajectory = await play(LinePolicy(CHAT, [VIEW, line]), config, sandbox)
    assert (trajectory.stop_reason, trajectory.turns[-1].text) == (StopReason.GARBLED, line)
    assert (trajectory.turns[-1].action, trajectory.turns[-1].observation) == ("", "")
    assert "python3 test_geometry.py" not in sandbox.commands
    assert trajectory.patch.diff == DIFF
    off = replace(config, garbled=GarbledConfig())
    assert (await play(LinePolicy(CHAT, [line, SUBMIT]), off)).stop_reason is StopReason.SUBMITTED


async def test_a_first_prompt_over_its_limit() -> None:
    prompt = len(CHAT.prompt_ids([Message("user", PROBLEM.problem_statement)]))
    limited = replace(CONFIG, max_prompt_tokens=prompt - 1)
    trajectory = await play(LinePolicy(CHAT, []), limited)
    assert (trajectory.stop_reason, trajectory.turns) == (StopReason.PROMPT_TOO_LONG, ())
    fits = replace(CONFIG, max_prompt_tokens=prompt)
    assert (await play(LinePolicy(CHAT, [SUBMIT]), fits)).stop_reason is StopReason.SUBMITTED


def word_chat() -> ChatFormat:
    """Knows only the words of one conversation, and has no token for others."""
    words = [*f"user assistant {PROBLEM.problem_statement} ok tool_response tool call no < > /".split(), "\n"]
    vocabulary = {word: index for index, word in enumerate(words)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[none]"))
    lines = pre_tokenizers.Split("\n", "isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(" ", "removed"), lines])
    tokenizer.add_special_tokens([IM_START, IM_END, END_OF_TEXT])
    return ChatFormat(tokenizer)


async def say_ok(request: GenerateRequest) -> Completion:
    return Completion(np.array([2], np.int32), np.zeros(1, np.float32), np.zeros(1, np.int32), "length")


async def play_with(chat: ChatFormat, statement: str) -> Trajectory:
    problem = replace(PROBLEM, problem_statement=statement)
    return await run_episode(
        problem, ScriptedSandbox(FILES, shell), say_ok, chat, EpisodeConfig(),
        sample_index=0, policy_name="ok", temperature=1.0, seed=0,
    )  # fmt: skip


async def test_words_that_the_tokenizer_cannot_encode() -> None:
    in_answer = await play_with(word_chat(), "area should add w and h")
    assert (in_answer.stop_reason, len(in_answer.turns)) == (StopReason.ENCODE_ERROR, 1)
    in_prompt = await play_with(word_chat(), "volume should add")
    assert (in_prompt.stop_reason, in_prompt.turns) == (StopReason.ENCODE_ERROR, ())


@pytest.mark.parametrize(
    ("ids", "logprobs", "versions", "message"),
    [
        (np.zeros(3), np.zeros(2), np.zeros(3), r"different lengths \(3, 2, 3\): turn 0 of demo-1"),
        (np.zeros(0), np.zeros(0), np.zeros(5), r"different lengths \(0, 0, 5\)"),
        (np.zeros((2, 2)), np.zeros((2, 2)), np.zeros((2, 2)), r"different lengths \(4, 4, 4\)"),
        (np.array([7, -1]), np.zeros(2), np.zeros(2), "the engine returned token -1: turn 0 of demo-1"),
    ],
)
async def test_what_no_engine_may_return(ids: np.ndarray, logprobs: np.ndarray, versions: np.ndarray, message: str) -> None:
    async def broken(request: GenerateRequest) -> Completion:
        return Completion(ids.astype(np.int32), logprobs.astype(np.float32), versions.astype(np.int32), "stop")

    with pytest.raises(PolicyError, match=message):
        await play(broken)


async def test_odd_completions_are_answered() -> None:
    long = "x" * 1_000_000
    config = replace(CONFIG, max_tokens=4_000_000, max_tokens_per_turn=2_000_000, max_turns=20)
    lines = ["", " \n\t ", ("", "length"), long, f"{long} {VIEW}", f"{SUBMIT}\n{TEST}"]
    sandbox = ScriptedSandbox(FILES, shell)
    trajectory = await play(LinePolicy(CHAT, lines), config, sandbox)
    assert [turn.observation for turn in trajectory.turns] == [*["no tool call"] * 4, FILES["/testbed/geometry.py"].strip(), ""]
    assert trajectory.stop_reason is StopReason.SUBMITTED
    assert trajectory.turns[-1].action == SUBMIT
    assert "python3 test_geometry.py" not in sandbox.commands  # what follows the first call is not carried out
    assert trajectory.turns[3].context_ids[0] == CHAT.end_of_turn_id
