"""The fast encoder gives the ids of the tokenizers library, whatever the text, or says that it cannot."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from envpool.chat.piece_encoder import PATTERNS, _runs_of_lines, fast_encoder

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
ADDED = ["<think>", "</think>", "<tool_call>", "<tool_call>\n"]
CONVERSATIONS = Path(__file__).parents[4] / "shared" / "data" / "swe_master" / "sft" / "multi_turn.jsonl"


def byte_level_bpe(pattern: str, normalizer: Any = None) -> Tokenizer:
    """Trained on this repository's own tests; special tokens are plain text, as the renderer wants them."""
    tokenizer = Tokenizer(models.BPE())
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(pattern), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    ])  # fmt: skip
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=1500, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False)
    text = "".join(path.read_text() for path in sorted(Path(__file__).parents[1].rglob("test_[a-d]*.py")))
    tokenizer.train_from_iterator(text.splitlines(keepends=True), trainer)
    tokenizer.add_tokens([AddedToken(token, normalized=False) for token in ADDED])
    tokenizer.encode_special_tokens = True
    return tokenizer


TOKENIZERS = [byte_level_bpe(pattern, form) for pattern in PATTERNS for form in (None, normalizers.NFC())]
PIECES = st.one_of(
    st.sampled_from([*SPECIAL, *ADDED, "<|im_", "<think", "'re", "'LL", "'\u017f", "\r\n", "\n\n  ", "    def f("]),
    st.sampled_from(["é", "e\u0301", ">\u0338"]),
    st.text(st.characters(max_codepoint=127), max_size=6),
    st.text(st.sampled_from(" \n\t\x0b\x1c\x85\xa0\u2028\u180e'aZ9²Ⅷ٣_中🙂\u0301\u200b"), max_size=6),
    st.text(max_size=4),
)  # fmt: skip


@settings(max_examples=400, deadline=None)
@given(st.lists(PIECES, max_size=12).map("".join), st.sampled_from(TOKENIZERS))
def test_equal_to_the_library(text: str, tokenizer: Tokenizer) -> None:
    text = text.encode("utf-8", "replace").decode()
    encode = fast_encoder(tokenizer)
    assert encode is not None
    expected = tokenizer.encode(text, add_special_tokens=False).ids
    assert encode(text) == expected
    assert encode(text) == expected  # now from memory


def test_special_tokens_are_found_when_the_tokenizer_finds_them() -> None:
    tokenizer = byte_level_bpe(next(iter(PATTERNS)))
    tokenizer.encode_special_tokens = False
    encode = fast_encoder(tokenizer)
    assert encode is not None
    assert encode("a<|im_end|>") == tokenizer.encode("a<|im_end|>").ids
    assert encode("a<|im_end|>")[-1] == tokenizer.token_to_id("<|im_end|>")


def test_real_conversations() -> None:
    if not CONVERSATIONS.is_file():
        pytest.skip("no recorded conversations here")
    tokenizer = TOKENIZERS[1]
    encode = fast_encoder(tokenizer)
    assert encode is not None
    for line in CONVERSATIONS.read_text().splitlines():
        text = str(json.loads(line)["prompt"])
        assert encode(text) == tokenizer.encode(text, add_special_tokens=False).ids


def changed(**changes: Any) -> Tokenizer:
    """The first tokenizer with other settings: pre_tokenizer, normalizer, or a token that is added."""
    tokenizer = Tokenizer.from_str(TOKENIZERS[0].to_str())
    for name, value in changes.items():
        tokenizer.add_tokens([value]) if name == "added" else setattr(tokenizer, name, value)
    return tokenizer


@pytest.mark.parametrize(
    "tokenizer",
    [
        changed(pre_tokenizer=pre_tokenizers.ByteLevel(add_prefix_space=False)),
        changed(pre_tokenizer=pre_tokenizers.Sequence([
            pre_tokenizers.Split(Regex(r"\w+|\W+"), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ])),
        changed(pre_tokenizer=pre_tokenizers.Sequence([
            pre_tokenizers.Split(Regex(next(iter(PATTERNS))), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=True, use_regex=False),
        ])),
        changed(normalizer=normalizers.Lowercase()),
        changed(added=AddedToken("<pad>", lstrip=True)),
        changed(added=AddedToken("<é>", normalized=False)),
        changed(added=AddedToken("<x>", normalized=True)),
        changed(model=models.BPE(dropout=0.1)),
        changed(model=models.WordLevel({"a": 0}, unk_token="a")),
    ],
)  # fmt: skip
def test_other_tokenizers_are_left_to_the_library(tokenizer: Tokenizer) -> None:
    assert fast_encoder(tokenizer) is None


def test_runs_of_lines_are_the_text() -> None:
    text = "a\n\né\n\u2028\n b\nc\n"
    assert list(_runs_of_lines(text)) == [("a\n\né\n\u2028\n b\n", False), ("c\n", True)]
    assert list(_runs_of_lines("")) == [("", True)]
