"""The scripted teachers: what they say in each situation, and that only session and seed decide their dice."""

import random
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from configs.rollout_config import EpisodeConfig
from configs.sandbox_config import SandboxConfig
from configs.tasks_config import MicroTasksConfig
from envpool.action_format import parse_action
from envpool.action_formats import ACTION_FORMATS
from envpool.agent.episode import run_episode
from envpool.micro.micro_tasks import generate_micro_tasks
from envpool.micro.scripted_policy import TEACHERS, Conversation, ScriptedPolicy, ScriptedTeacher, read_conversation
from envpool.policy import GenerateRequest, IntArray, Message
from envpool.sandbox_parts.image_cache import FolderImages
from envpool.sandboxes.process_sandbox import ProcessBackend
from envpool.trajectory import StopReason
from tests.envpool.agent.agent_doubles import CHAT

ISSUE = Message("user", "merge_area in shapes.py should return the product of w and h.")
VAGUE = Message("user", "shapes.py: merge_area is broken.")
MODULE = "def scale_price(a, b):\n    return a + b\n\n\ndef merge_area(w, h):\n    return w - h"
VIEW = "<function=str_replace_editor>\n<parameter=command>view</parameter>\n<parameter=path>shapes.py</parameter>\n</function>"
TEST = "<function=execute_bash>\n<parameter=command>python3 test_shapes.py</parameter>\n</function>"
SUBMIT = "<function=submit>\n</function>"
QUOTE = "def merge_area(w, h):\n    return w - h\n"
PERFECT = ScriptedTeacher(p_right_guess=1.0, p_verify=1.0, p_retry=1.0)


def edit(old: str, new: str) -> str:
    return (
        "<function=str_replace_editor>\n<parameter=command>str_replace</parameter>\n<parameter=path>shapes.py</parameter>\n"
        f"<parameter=old_str>{old}</parameter>\n<parameter=new_str>{new}</parameter>\n</function>"
    )


def conversation(issue: Message, *steps: tuple[str, str]) -> tuple[Message, ...]:
    said = [message for call, answer in steps for message in (Message("assistant", call), Message("tool", answer))]
    return (issue, *said)


def say(teacher: ScriptedTeacher, messages: tuple[Message, ...], seed: int = 0) -> str:
    return teacher.next_text(messages, random.Random(seed))


def test_a_perfect_teacher_views_edits_tests_and_submits() -> None:
    steps = [(VIEW, MODULE), (edit("w - h", "w * h"), "edited"), (TEST, "passed")]
    expected = [VIEW, QUOTE + edit("w - h", "w * h"), TEST, SUBMIT]
    assert [say(PERFECT, conversation(ISSUE, *steps[:count])) for count in range(4)] == expected


def test_it_retries_with_operators_that_were_not_tried() -> None:
    steps = ((VIEW, MODULE), (edit("w - h", "w + h"), "edited"), (TEST, "failed merge_area\nexit 1"))
    answers = {say(PERFECT, conversation(VAGUE, *steps), seed) for seed in range(40)}
    assert answers == {edit("w + h", f"w {operator} h") for operator in ("*", "//", "%")}


def test_it_edits_again_when_the_line_was_not_found() -> None:
    steps = ((VIEW, MODULE), (edit("h - w", "w * h"), "old_str not found"))
    assert say(PERFECT, conversation(ISSUE, *steps)) == QUOTE + edit("w - h", "w * h")


@pytest.mark.parametrize(
    ("teacher", "steps", "expected"),
    [
        (ScriptedTeacher(1.0, p_verify=0.0, p_retry=1.0), ((VIEW, MODULE), (edit("w - h", "w * h"), "edited")), SUBMIT),
        (
            ScriptedTeacher(1.0, p_verify=1.0, p_retry=0.0),
            ((VIEW, MODULE), (edit("w - h", "w + h"), "edited"), (TEST, "failed merge_area\nexit 1")),
            SUBMIT,
        ),
        (ScriptedTeacher(1.0, 1.0, 1.0, p_slip=1.0), ((VIEW, MODULE),), QUOTE + edit("h - w", "w * h")),
        (ScriptedTeacher(1.0, 1.0, 1.0, p_format_error=1.0), (), "let me look"),
    ],
    ids=["no verification", "no retry", "slip", "format error"],
)
def test_knobs(teacher: ScriptedTeacher, steps: tuple[tuple[str, str], ...], expected: str) -> None:
    assert say(teacher, conversation(ISSUE, *steps)) == expected


def test_a_teacher_that_cannot_read_guesses_any_other_operator() -> None:
    answers = {say(ScriptedTeacher(0.0, 1.0, 1.0), conversation(ISSUE, (VIEW, MODULE)), seed) for seed in range(60)}
    assert answers == {QUOTE + edit("w - h", f"w {operator} h") for operator in ("+", "*", "//", "%")}


def test_read_conversation() -> None:
    steps = ((VIEW, MODULE), (edit("w - h", "w + h"), "edited"))
    assert read_conversation(conversation(ISSUE, *steps)) == Conversation(
        "shapes", "merge_area", "*", ("w", "h"), ("-", "+"), "edited"
    )
    with pytest.raises(ValueError, match="micro tasks only"):
        read_conversation((Message("user", "The parser drops the last line."),))


def char_ids(text: str) -> IntArray:
    return np.array([*map(ord, text), 2], dtype=np.int32)


def request(seed: int = 1, session: str = "a", max_tokens: int = 1000) -> GenerateRequest:
    messages = conversation(VAGUE, (VIEW, MODULE))
    return GenerateRequest(session, messages, np.zeros(0, dtype=np.int32), max_tokens, 1.0, seed)


async def test_policy_is_deterministic_in_session_and_seed() -> None:
    policy = ScriptedPolicy(TEACHERS["sloppy"], char_ids)
    first, again = await policy(request()), await policy(request())
    assert first.token_ids.tolist() == again.token_ids.tolist()
    assert np.isnan(first.rollout_logprobs).all()
    assert first.policy_versions.tolist() == [0] * len(first.token_ids)
    assert first.finish_reason == "stop"
    texts = {bytes((await policy(request(seed, session))).token_ids.tolist()) for seed in range(10) for session in "ab"}
    assert len(texts) > 2


async def test_policy_respects_max_tokens() -> None:
    completion = await ScriptedPolicy(PERFECT, char_ids)(request(max_tokens=5))
    assert completion.finish_reason == "length"
    assert completion.token_ids.tolist() == [*map(ord, "def m")]


def test_teachers_differ_and_call_tools_that_parse() -> None:
    assert len(TEACHERS) >= 3
    assert len(set(TEACHERS.values())) == len(TEACHERS)
    assert TEACHERS["careful"].p_verify > TEACHERS["sloppy"].p_verify
    parsed = parse_action(say(PERFECT, conversation(ISSUE)))
    assert parsed is not None
    assert parsed[1].arguments == {"command": "view", "path": "shapes.py"}


def test_native_calls_are_written_and_read_back() -> None:
    native = ACTION_FORMATS["native"]
    messages = [ISSUE]
    for answer in (MODULE, "edited", "passed"):
        text = PERFECT.next_text(messages, random.Random(0), native)
        messages += [native.assistant_message(text, f"call_{len(messages)}"), Message("tool", answer)]
    assert [messages[at].content for at in (1, 3, 5)] == ["", QUOTE.rstrip("\n"), ""]
    assert [[call.name for call in messages[at].tool_calls] for at in (1, 3, 5)] == [
        ["str_replace_editor"],
        ["str_replace_editor"],
        ["execute_bash"],
    ]
    assert messages[3].tool_calls[0].arguments["new_str"] == "w * h"
    assert read_conversation(messages, native).operators == ("-", "*")
    told = PERFECT.next_text(messages, random.Random(0), native)
    assert told == '<tool_call>\n{"name": "submit", "arguments": {}}\n</tool_call>'


@pytest.mark.parametrize("action", list(ACTION_FORMATS))
async def test_a_teacher_plays_in_the_episodes_form_of_calls(tmp_path: Path, action: str) -> None:
    micro = next(iter(generate_micro_tasks(MicroTasksConfig(), seed=0)))
    reference = micro.task.oracle.gold_patch
    images = FolderImages(tmp_path)
    image = images.add("micro", micro.files)
    config = EpisodeConfig(action_format=action, max_tokens=60_000, max_tokens_per_turn=2000)
    policy = ScriptedPolicy(PERFECT, CHAT.completion_ids, ACTION_FORMATS[action])
    backend = ProcessBackend(SandboxConfig(isolation="none"), images, owner="test-teacher")
    try:
        sandbox = await backend.start(image, "/testbed")
        played = await run_episode(
            replace(micro.task.problem, image=image),
            sandbox,
            policy,
            CHAT,
            config,
            sample_index=0,
            policy_name="perfect",
            temperature=1.0,
            seed=0,
        )
        (module,) = played.patch.files
        assert (await sandbox.run(f"python3 test_{module}", timeout_s=60)).output == "passed\n"
    finally:
        await backend.close()
    assert played.stop_reason is StopReason.SUBMITTED
    assert played.turns[-2].observation == "passed"
    changed = [[line for line in diff.split("\n") if re.match(r"[+-] ", line)] for diff in (played.patch.diff, reference)]
    assert changed[0] == changed[1] != []
    assert all("<tool_call>" in turn.text for turn in played.turns) == (action == "native")
