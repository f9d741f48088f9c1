"""Conversations to samples: the ids of the whole conversation, and a loss mask on what the assistant wrote."""

from pathlib import Path

import pytest

from envpool.action_format import ToolCall
from envpool.action_formats import ACTION_FORMATS
from envpool.chat.chat_format import load_chat_format
from envpool.policy import Message
from envpool.tool import tool_schemas
from envpool.tools import select_tools
from trainers.pretokenise import conversation_sample, pretokenise

TALK = [
    Message("system", "Be brief."),
    Message("user", "Fix it"),
    Message("assistant", "<think></think>ls"),
    Message("tool", "a.py <|im_end|>"),
    Message("assistant", "done"),
]


def test_ids_are_those_of_the_whole_and_only_the_assistant_trains(model_folder: Path) -> None:
    chat = load_chat_format(model_folder)
    sample = conversation_sample(chat, TALK, "task")
    whole = chat.prompt_ids(TALK).tolist()
    assert sample.token_ids.tolist() == whole[: len(sample.token_ids)]
    trained = [token for token, on in zip(sample.token_ids.tolist(), sample.loss_mask, strict=True) if on]
    assert trained == [*chat.completion_ids("<think></think>ls"), *chat.completion_ids("done")]
    assert sample.token_ids[-1] == chat.end_of_turn_id
    assert sample.advantages.tolist() == sample.loss_mask.tolist()
    assert conversation_sample(chat, [*TALK, Message("tool", "late")], "task").token_ids.tolist() == sample.token_ids.tolist()


def test_processes_keep_the_order(model_folder: Path) -> None:
    talks = [(f"task {index}", [Message("user", "x" * index), Message("assistant", "y")]) for index in range(20)]
    alone = list(pretokenise(model_folder, talks))
    assert [sample.group for sample in alone] == [group for group, _ in talks]
    shared = list(pretokenise(model_folder, talks, num_processes=2))
    assert [sample.token_ids.tolist() for sample in shared] == [sample.token_ids.tolist() for sample in alone]


@pytest.mark.parametrize("num_processes", [1, 2])
def test_native_conversations_begin_with_their_tools(model_folder: Path, num_processes: int) -> None:
    chat, native = load_chat_format(model_folder), ACTION_FORMATS["native"]
    tools = native.template_tools(tool_schemas(select_tools(("execute_bash", "submit"))))
    said = Message("assistant", "Look.", (ToolCall("execute_bash", {"command": "ls"}, call_id="call_1"),))
    talk = [*TALK[:2], said, native.answer(said, "a.py"), Message("assistant", "", (ToolCall("submit", {}),))]
    (sample,) = pretokenise(model_folder, [("task", talk)], num_processes, tools)
    whole = [*chat.prompt_ids(talk[:-1], tools), *chat.said_ids(talk[-1])]
    assert sample.token_ids.tolist() == whole
    assert '"name": "execute_bash"' in chat.decode(sample.token_ids[: int(sample.loss_mask.argmax())])
    (without,) = pretokenise(model_folder, [("task", talk)])
    assert len(without.token_ids) < len(sample.token_ids)


@pytest.mark.parametrize("messages", [[], [Message("user", "x")], [Message("assistant", "x")]])
def test_conversations_without_anything_to_learn(model_folder: Path, messages: list[Message]) -> None:
    with pytest.raises(ValueError, match="task: a conversation to learn from begins with"):
        conversation_sample(load_chat_format(model_folder), messages, "task")
