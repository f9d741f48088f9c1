"""The tiny base model: a lossless word-level tokenizer, training text that holds nothing of the demo, a checkpoint that loads."""

import random
import re
from itertools import islice
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM, AutoTokenizer, Qwen2ForCausalLM

from configs.tasks_config import MicroTasksConfig
from envpool.chat.chat_format import load_chat_format
from envpool.micro.micro_names import EXPLICIT_TEMPLATES, VAGUE_TEMPLATES, function_names
from envpool.micro.micro_tasks import generate_micro_tasks
from envpool.micro.scripted_policy import TEACHERS
from envpool.policy import Message
from trainers.tiny_base_pretraining import (
    PREVIOUS_TOKEN_HEADS,
    sample_rows,
    seed_induction_heads,
    tiny_config,
    weighted_loss,
)
from trainers.tiny_base_text import generate_document
from trainers.tiny_base_tokenizer import TOOL_TAGS, build_tokenizer

FOLDER = Path(__file__).parents[2] / "trainers" / "tiny_base"
TOKENIZER = build_tokenizer()


def encode(text: str) -> list[int]:
    return list(TOKENIZER.encode(text, add_special_tokens=False).ids)


def pieces(text: str) -> list[str]:
    return [TOKENIZER.decode([token], skip_special_tokens=False) for token in encode(text)]


@given(st.text())
def test_any_text_survives_a_round_trip(text: str) -> None:
    assert TOKENIZER.decode(encode(text), skip_special_tokens=False) == text


def test_words_are_the_same_token_everywhere() -> None:
    assert pieces("def merge_area(w, h):\n    return w // h\n") == [
        "def ", "merge", "_", "area", "(", "w", ", ", "h", "):\n    return ", "w", " // ", "h", "\n",
    ]  # fmt: skip
    assert pieces("merge_area of shapes.py is 42 or 123") == [
        "merge", "_", "area", " ", "of", " ", "shapes", ".py", " ", "is", " ", "42", " ", "or", " ", "12", "3",
    ]  # fmt: skip


def test_tool_tags_are_one_token_each() -> None:
    assert all(len(encode(tag)) == 1 for tag in TOOL_TAGS)
    call = "<function=execute_bash>\n<parameter=command>python3 test_shapes.py</parameter>\n</function>"
    assert pieces(call) == [
        "<function=execute_bash>\n<parameter=command>", "python3 test_", "shapes", ".py", "</parameter>\n</function>",
    ]  # fmt: skip


def test_demo_text_is_never_spelled_in_bytes() -> None:
    longest = max(len(token) for token in pieces("€"))
    for micro in islice(generate_micro_tasks(MicroTasksConfig(), seed=0), 0, 608, 8):
        for text in (micro.task.problem.problem_statement, *micro.files.values()):
            assert all(len(token) > longest or not token.isalpha() or token in "abdhijkmnpqwxy" for token in pieces(text))


def test_training_text_holds_no_name_template_or_call_of_the_demo() -> None:
    rng = random.Random(7)
    text = "\n".join("".join(segment for segment, _ in generate_document(rng)) for _ in range(3000))
    demo_names = {name for split in ("train", "validation", "heldout") for name in function_names(split)}
    found = set(re.findall(r"[a-z]+_[a-z]+", text))
    assert len(found) > 2000
    assert not found & demo_names
    for templates in (EXPLICIT_TEMPLATES, VAGUE_TEMPLATES):
        for split in templates:
            for template in templates[split]:
                pattern = re.sub(r"\\{\w+\\}", r"\\w+", re.escape(template))
                assert not re.search(pattern, text), template
    assert "<function" not in text
    assert "<parameter" not in text
    assert "<issue>" not in text


def test_seeded_heads_look_back_and_find_the_earlier_occurrence() -> None:
    torch.manual_seed(0)
    config = tiny_config(TOKENIZER.get_vocab_size())
    config._attn_implementation = "eager"
    model = Qwen2ForCausalLM(config)
    seed_induction_heads(model)
    ids = torch.randperm(800)[:30].repeat(2)[None]
    first, second, *_ = model(input_ids=ids, output_attentions=True).attentions
    for head, back in PREVIOUS_TOKEN_HEADS:
        assert first[0, head, 50].argmax().item() == 50 - back
    # Position 50 repeats position 20: what came after it stands at 21.
    assert [second[0, head, 50].argmax().item() for head in range(4)] == [21, 21, 21, 21]


def test_loss_counts_weights_only() -> None:
    torch.manual_seed(0)
    model = Qwen2ForCausalLM(tiny_config(TOKENIZER.get_vocab_size()))
    ids, weights = sample_rows(TOKENIZER, random.Random(0), rows=1)
    one = torch.zeros_like(weights)
    one[0, 5] = 1.0
    loss, answers = weighted_loss(model, ids, one)
    logits = model(input_ids=ids).logits
    expected = -torch.log_softmax(logits[0, 4], -1)[ids[0, 5]]
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(answers, expected.detach())


needs_checkpoint = pytest.mark.skipif(not (FOLDER / "model.safetensors").exists(), reason="no checkpoint in the tree")


@needs_checkpoint
def test_shipped_tokenizer_is_the_script_s_and_the_template_is_the_chat_format() -> None:
    assert Tokenizer.from_file(str(FOLDER / "tokenizer.json")).get_vocab() == TOKENIZER.get_vocab()
    tokenizer = AutoTokenizer.from_pretrained(FOLDER)
    assert tokenizer.eos_token_id == TOKENIZER.token_to_id("<|im_end|>") == 2
    messages = [Message("user", "a"), Message("assistant", "b"), Message("tool", "c")]
    plain = [{"role": message.role, "content": message.content} for message in messages]
    expected = load_chat_format(FOLDER).prompt_ids(messages).tolist()
    assert tokenizer.apply_chat_template(plain, add_generation_prompt=True, return_dict=False) == expected


@needs_checkpoint
def test_shipped_model_is_small_loads_and_copies() -> None:
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) <= 5_000_000
    model = AutoModelForCausalLM.from_pretrained(FOLDER, dtype=torch.float32)
    assert 500_000 <= sum(p.numel() for p in model.parameters()) <= 1_500_000
    text = "river: merge\nstone: blend\ncloud: scale\n? stone: blend\ncloud: scale\nriver:"
    ids = torch.tensor([encode(text + " ")])
    assert pieces("merge")[0] == TOKENIZER.decode([model(input_ids=ids).logits[0, -1].argmax().item()])


@needs_checkpoint
async def test_a_teacher_s_turn_is_the_same_ids_after_decoding() -> None:
    chat = load_chat_format(FOLDER)
    for micro in islice(generate_micro_tasks(MicroTasksConfig(), seed=0), 20):
        text = TEACHERS["careful"].next_text((Message("user", micro.task.problem.problem_statement),), random.Random(0))
        ids = chat.completion_ids(text)
        assert chat.completion_ids(chat.decode(ids)).tolist() == ids.tolist()
        assert len(ids) == 5
