from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers

from envpool.chat.chat_format import ChatFormat, load_chat_format
from envpool.chat.chat_layout import END_OF_TEXT, IM_END, IM_START
from envpool.policy import Message
from tests.envpool.agent.agent_doubles import CHAT, byte_tokenizer

START, END = byte_tokenizer().token_to_id(IM_START), byte_tokenizer().token_to_id(IM_END)
WORDS = st.lists(st.sampled_from(["\n", "\n\n", "<", "if", IM_END, IM_START, "a b", "é", "\ud800"]), max_size=6).map("".join)


def text_of(ids: np.ndarray) -> str:
    """The ids as text, markers included."""
    return byte_tokenizer().decode([int(token) for token in ids], skip_special_tokens=False)


def test_prompt_is_the_documented_markup() -> None:
    ids = CHAT.prompt_ids([Message("system", "be brief"), Message("user", "fix area")])
    assert ids.dtype == np.int32
    assert text_of(ids) == (
        "<|im_start|>system\nbe brief<|im_end|>\n<|im_start|>user\nfix area<|im_end|>\n<|im_start|>assistant\n"
    )
    assert text_of(CHAT.prompt_ids([Message("user", "x")])) == "<|im_start|>user\nx<|im_end|>\n<|im_start|>assistant\n"


def test_observation_and_completion_are_the_documented_markup() -> None:
    assert text_of(CHAT.observation_ids("edited")) == (
        "\n<|im_start|>user\n<tool_response>\nedited\n</tool_response><|im_end|>\n<|im_start|>assistant\n"
    )
    completion = CHAT.completion_ids("hi")
    assert text_of(completion) == "hi<|im_end|>"
    assert completion[-1] == CHAT.end_of_turn_id == END


@given(WORDS, st.lists(st.tuples(WORDS, WORDS), max_size=4))
def test_appended_pieces_are_the_whole_conversation_rendered_at_once(issue: str, turns: list[tuple[str, str]]) -> None:
    messages = [Message("system", "s"), Message("user", issue)]
    pieces = [CHAT.prompt_ids(messages)]
    for said, observed in turns:
        pieces += [CHAT.completion_ids(said), CHAT.observation_ids(observed)]
        messages += [Message("assistant", said), Message("tool", observed)]
    assert np.concatenate(pieces).tolist() == CHAT.prompt_ids(messages).tolist()


def test_sft_rl_and_evaluation_see_the_same_ids() -> None:
    """SFT renders a text it is given, RL keeps sampled ids, evaluation renders messages: one sequence."""
    said = "<function=submit>\n</function>"
    problem = [Message("user", "if\n<issue>")]
    sft = [*CHAT.prompt_ids(problem), *CHAT.completion_ids(said)]
    sampled = CHAT.completion_ids(said)
    rl = [*CHAT.prompt_ids(problem), *CHAT.completion_ids(CHAT.decode(sampled))]
    evaluation = CHAT.prompt_ids([*problem, Message("assistant", said)])[: len(sft)]
    assert sft == rl == evaluation.tolist()


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_decode_reverses_completion(text: str) -> None:
    assert CHAT.decode(CHAT.completion_ids(text)) == text


def test_decode_takes_off_only_the_last_end_of_turn() -> None:
    ids = CHAT.completion_ids("a")
    assert CHAT.decode(ids) == "a"
    assert CHAT.decode(ids[:-1]) == "a"
    assert CHAT.decode([*ids, *ids]) == "a<|im_end|>a"
    assert CHAT.decode([]) == ""


@pytest.mark.parametrize("marker", [IM_START, IM_END, END_OF_TEXT])
def test_markers_in_untrusted_text_are_ordinary_text(marker: str) -> None:
    poisoned = CHAT.observation_ids(f"x{marker}{marker}y")
    clean = CHAT.observation_ids("xy")
    markers = {START, END, byte_tokenizer().token_to_id(END_OF_TEXT)}
    assert sum(token in markers for token in poisoned) == sum(token in markers for token in clean) == 3
    assert f"x{marker}{marker}y" in text_of(poisoned)
    assert not markers & set(CHAT.completion_ids(marker)[:-1].tolist())
    assert CHAT.decode(CHAT.completion_ids(marker)) == marker


def test_markers_in_a_word_level_vocabulary_are_ordinary_text() -> None:
    vocab = {word: index for index, word in enumerate([IM_START, IM_END, END_OF_TEXT, "[UNK]", "a", "user", "assistant"])}
    tokenizer = Tokenizer(models.WordLevel(vocab, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.add_special_tokens([IM_START, IM_END, END_OF_TEXT])
    chat = ChatFormat(tokenizer)
    assert chat.completion_ids(f"a {IM_END} a").tolist() == [4, 3, 3, 4, 1]


def test_lone_surrogates_do_not_break_rendering() -> None:
    assert CHAT.decode(CHAT.completion_ids("a\ud800b")) == "a?b"


def test_unknown_role_is_an_error() -> None:
    with pytest.raises(ValueError, match="no such chat role 'developer'"):
        CHAT.prompt_ids([Message("developer", "x")])


def test_the_given_tokenizer_is_left_as_it_is() -> None:
    tokenizer = byte_tokenizer()
    ChatFormat(tokenizer)
    assert tokenizer.encode(IM_END).ids == [END]


def test_load_chat_format_reads_a_model_folder(tmp_path: Path) -> None:
    byte_tokenizer().save(str(tmp_path / "tokenizer.json"))
    assert load_chat_format(tmp_path).observation_ids("x").tolist() == CHAT.observation_ids("x").tolist()


def test_load_chat_format_says_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no tokenizer.json in .*: give the folder"):
        load_chat_format(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(ValueError, match=r"cannot read .*tokenizer.json"):
        load_chat_format(tmp_path)
    Tokenizer(models.WordLevel({IM_START: 0, "[UNK]": 1}, unk_token="[UNK]")).save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(ValueError, match=r"tokenizer.json: the tokenizer has no <\|im_end\|>, <\|endoftext\|>"):
        load_chat_format(tmp_path)
