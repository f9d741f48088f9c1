"""The renderer against Hugging Face's `apply_chat_template`, with the templates of Qwen2.5, Qwen3 and the tiny model."""

import json
import re
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from envpool.action_format import ToolCall
from envpool.action_formats import ACTION_FORMATS
from envpool.chat.chat_format import ChatFormat, load_chat_format
from envpool.chat.chat_layout import PLAIN, ChatLayout
from envpool.chat.chat_sample import ChatSample, chat_messages
from envpool.chat.chat_sample_file import read_samples
from envpool.chat.chat_spans import tokenize_chat
from envpool.chat.chat_template import jinja_template, layout_of, read_template, template_message
from envpool.policy import Message
from envpool.tool import tool_schemas
from envpool.tools import TOOLS

TEMPLATES = Path(__file__).parent / "chat_templates"
TINY = Path(__file__).parents[3] / "trainers" / "tiny_base"
REAL = Path(__file__).parents[4] / "shared" / "data" / "swe_master" / "sft" / "multi_turn.jsonl"
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
TAGS = ["<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>", "<think>", "</think>"]
SPLIT = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
"""How Qwen's tokenizers cut text into words."""
MODELS = ("qwen2_5", "qwen3", "tiny")
needs_data = pytest.mark.skipif(not REAL.is_file(), reason="the released conversations are not here")


@cache
def qwen_like() -> Tokenizer:
    """Qwen's pipeline (NFC, word pattern, byte-level BPE, special and added tokens) with a small vocabulary of its own."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(SPLIT), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=1500, initial_alphabet=alphabet, show_progress=False)
    texts = [path.read_text() for path in sorted(Path(__file__).parents[1].rglob("test_*.py"))[:12]]
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL])
    tokenizer.add_tokens([AddedToken(token, special=False, normalized=False) for token in TAGS])
    return tokenizer


@cache
def pair(name: str) -> tuple[ChatFormat, PreTrainedTokenizerFast]:
    """Our renderer and Hugging Face's of one model."""
    if name == "tiny":
        return load_chat_format(TINY), PreTrainedTokenizerFast.from_pretrained(TINY)
    template = (TEMPLATES / f"{name}.jinja").read_text()
    theirs = PreTrainedTokenizerFast(tokenizer_object=qwen_like(), chat_template=template)
    return ChatFormat(qwen_like(), layout_of(template)), theirs


def their_ids(name: str, messages: list[Message], tools: list[dict[str, object]], prompt: bool = True) -> list[int]:
    plain = [template_message(message) for message in messages]
    found = pair(name)[1].apply_chat_template(plain, tools=tools or None, add_generation_prompt=prompt, return_dict=False)
    return list(found)


TEXT = st.lists(
    st.sampled_from(
        ["a", "\n", " ", "é", "def f():", "<think>\nx\n</think>\n\n", "<tool_call>", "</tool_response>", "<|im", "e\u0301"]
    )
    | st.text(st.characters(codec="utf-8"), max_size=3),
    max_size=5,
).map("".join)
SAID = TEXT.map(lambda text: re.sub(r"^(?:\s|</tool_response>)+", "", text))
"""Nothing in front that a tokenizer joins with a line end: a model samples after `assistant\\n`, whose ids are fixed by then."""
CALL = st.builds(
    lambda path, line: ToolCall("view", {"path": path, "line": str(line)}, json_values=frozenset({"line"})), TEXT, st.integers()
)
TURN = st.tuples(
    st.one_of(
        st.builds(Message, st.just("assistant"), SAID),
        st.builds(lambda text, calls: Message("assistant", text, tuple(calls)), SAID, st.lists(CALL, min_size=1, max_size=2)),
    ),
    st.lists(st.builds(Message, st.sampled_from(["tool", "user"]), TEXT), min_size=1, max_size=3),
)
TURNS = st.lists(TURN, max_size=3)


@pytest.mark.parametrize("name", MODELS)
@settings(max_examples=60, deadline=None)
@given(st.none() | TEXT, TEXT, TURNS, st.booleans())
def test_any_conversation_is_what_the_template_makes_of_it(
    name: str, system: str | None, issue: str, turns: list[tuple[Message, list[Message]]], with_tools: bool
) -> None:
    messages = [] if system is None else [Message("system", system)]
    messages += [Message("user", issue)]
    for said, answers in turns:
        messages += [said, *answers]
    tools = tool_schemas(TOOLS) if with_tools else []
    assert pair(name)[0].prompt_ids(messages, tools).tolist() == their_ids(name, messages, tools)


def conversations(action: str) -> list[tuple[list[Message], list[dict[str, object]]]]:
    found = []
    for sample in read_samples(REAL):
        assert isinstance(sample, ChatSample)
        tools = [dict(spec) for spec in sample.tools] if action == "native" else []
        found.append((list(chat_messages(sample, action)), tools))
    return found


@needs_data
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(("action", "with_tools"), [("xml", False), ("native", True), ("xml", True), ("native", False)])
def test_the_released_conversations_are_what_the_template_makes_of_them(name: str, action: str, with_tools: bool) -> None:
    chat, _ = pair(name)
    usual = with_tools == (action == "native")
    for messages, own_tools in conversations(action)[: None if usual else 1]:
        assert sum(message.role == "assistant" for message in messages) >= 29
        tools = (own_tools or tool_schemas(TOOLS)) if with_tools else []
        until = messages[:-1]  # the last one is the assistant's: Qwen3 writes an empty reasoning block into a last message
        assert chat.prompt_ids(until, tools).tolist() == their_ids(name, until, tools)
        if usual and name == "qwen2_5":
            assert tokenize_chat(messages, chat, tools).token_ids.tolist() == their_ids(name, messages, tools, prompt=False)


@needs_data
@pytest.mark.parametrize("action", ["xml", "native"])
def test_turn_by_turn_gives_the_ids_and_mask_of_the_whole(action: str) -> None:
    """All released conversations: what is appended after each turn, joined, is the conversation rendered at once."""
    chat, _ = pair("qwen3")
    for messages, tools in conversations(action):
        whole = tokenize_chat(messages, chat, tools)
        joined: list[int] = []
        mask: list[int] = []
        context: list[Message] = []
        for message in messages:
            if message.role != "assistant":
                context.append(message)
                continue
            shown = chat.continuation_ids(context) if joined else chat.prompt_ids(context, tools)
            completion = chat.said_ids(message)
            joined += [*shown.tolist(), *completion.tolist()]
            mask += [0] * len(shown) + [1] * len(completion)
            context = []
        assert whole.token_ids.tolist()[: len(joined)] == joined
        assert whole.loss_mask.tolist()[: len(joined)] == mask


def test_what_qwen3_s_template_takes_out_we_keep() -> None:
    """The known difference: reasoning inside the text of a message that a later user message follows."""
    chat, theirs = pair("qwen3")
    said = "<think>\nhm\n</think>\n\nDone."
    plain = [{"role": "user", "content": "a"}, {"role": "assistant", "content": said}, {"role": "user", "content": "b"}]
    text = theirs.apply_chat_template(plain, add_generation_prompt=True, tokenize=False)
    assert "hm" not in text
    ours = chat.prompt_ids([Message("user", "a"), Message("assistant", said), Message("user", "b")])
    assert "<think>\nhm\n</think>\n\nDone." in chat.decode(ours)
    # While no user message follows, the template keeps reasoning that stands in its own canonical form.
    plain[2] = {"role": "tool", "content": "b"}
    both = [Message("user", "a"), Message("assistant", said), Message("tool", "b")]
    assert (
        list(theirs.apply_chat_template(plain, add_generation_prompt=True, return_dict=False)) == chat.prompt_ids(both).tolist()
    )


def test_layouts_are_found_by_what_a_template_renders() -> None:
    assert layout_of((TEMPLATES / "qwen2_5.jinja").read_text()) == ChatLayout(
        "You are Qwen, created by Alibaba Cloud. You are a helpful assistant."
    )
    assert layout_of((TEMPLATES / "qwen3.jinja").read_text()) == PLAIN
    for layout in (PLAIN, ChatLayout('Be "brief"\nü.')):
        assert layout_of(jinja_template(layout)) == layout
    marked = jinja_template(PLAIN).replace(
        "{{- function.arguments if", "{%- generation -%}{%- endgeneration %}{{- function.arguments if"
    )
    assert "generation -%}" in marked
    assert layout_of(marked) == PLAIN


def test_a_template_without_tools_refuses_native_calls(tmp_path: Path) -> None:
    without = jinja_template(PLAIN).replace("or tools", "").replace("if tools", "if false")
    layout = layout_of(without)
    assert layout == ChatLayout(shows_tools=False)
    chat = ChatFormat(qwen_like(), layout)
    assert len(chat.prompt_ids([Message("user", "a")])) > 0
    with pytest.raises(ValueError, match="shows no tools: set"):
        chat.prompt_ids([Message("user", "a")], tool_schemas(TOOLS))


def test_a_folder_without_a_template_speaks_the_plain_layout(tmp_path: Path) -> None:
    qwen_like().save(str(tmp_path / "tokenizer.json"))
    messages = [Message("user", "a"), Message("assistant", "b"), Message("tool", "c")]
    expected = ChatFormat(qwen_like(), PLAIN).prompt_ids(messages)
    assert load_chat_format(tmp_path).prompt_ids(messages).tolist() == expected.tolist()


def test_a_foreign_template_is_refused_with_the_place(tmp_path: Path) -> None:
    qwen_like().save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "chat_template.jinja").write_text(jinja_template(PLAIN).replace("assistant\\n'", "assistant\\n<think>\\n'"))
    with pytest.raises(ValueError, match=r"none this renderer speaks: after '.*assistant\\n' it says '<think>"):
        load_chat_format(tmp_path)
    (tmp_path / "chat_template.jinja").write_text("{% if %}")
    with pytest.raises(ValueError, match="cannot be rendered"):
        load_chat_format(tmp_path)


def test_templates_are_read_from_either_file(tmp_path: Path) -> None:
    assert read_template(tmp_path) is None
    config = tmp_path / "tokenizer_config.json"
    config.write_text(json.dumps({"chat_template": "one"}))
    assert read_template(tmp_path) == "one"
    config.write_text(
        json.dumps({"chat_template": [{"name": "tool_use", "template": "t"}, {"name": "default", "template": "two"}]})
    )
    assert read_template(tmp_path) == "two"
    (tmp_path / "chat_template.jinja").write_text("three")
    assert read_template(tmp_path) == "three"
    (tmp_path / "chat_template.jinja").unlink()
    for broken in ("{", "[]", '{"chat_template": 3}'):
        config.write_text(broken)
        with pytest.raises(ValueError, match="cannot read"):
            read_template(tmp_path)


def test_a_native_completion_is_its_message_rendered() -> None:
    """What a model samples and what SFT writes for the same turn are the same ids."""
    chat, form = pair("qwen3")[0], ACTION_FORMATS["native"]
    text = f"Look.\n{form.render(ToolCall('view', {'path': 'a.py'}))}"
    assert chat.said_ids(form.assistant_message(text, "call_1")).tolist() == chat.completion_ids(text).tolist()
