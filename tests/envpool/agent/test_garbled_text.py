import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from configs.rollout_config import GarbledConfig
from envpool.agent.garbled_text import garbled_signs, symbol_share

CONFIG = GarbledConfig()
RECORDED = Path(__file__).parents[4] / "shared" / "data" / "swe_master"
ROOT = Path(__file__).parents[3]

GARBLED = {
    "symbols are 100 % of it": "!" * 400,
    "symbols are 67 % of it": "ab????" * 60,
    "control characters are 25 % of it": "abc\x00" * 80,
    "4 replacement characters": "the file caf\ufffd\ufffd\ufffd\ufffd",
    "mixes Latin, Cyrillic, Han and Kana": "let me look at это в файле 看看这个文件里面的函数 " * 8,
    "mixes Latin, Arabic, Hangul": "return value القيمة 함수 " * 12,
}
ORDINARY = {
    "code": "def f(a, b):\n    return {**a, 'k': [x[0] for x in b if x != (1, -2)]}\n" * 6,
    "regex": "grep -rnE '^\\s*(class|def)\\s+[A-Za-z_]+\\(' src/ | sed -e 's/:.*//' | sort -u && echo done\n" * 4,
    "diff": "--- a/x.py\n+++ b/x.py\n@@ -1,3 +1,3 @@\n def f(x):\n-    return x - 1\n+    return x + 1\n" * 5,
    "table": "| name | value |\n|------|-------|\n| width of it | 12 |\n+------+-------+\n" * 8,
    "rulers": "Step one\n" + "=" * 120 + "\nI look at the file and then at its tests.\n" + "-" * 120 + "\n",
    "closing brackets": "foo({\n  bar: [\n    baz(\n    )\n  ]\n});\n" * 12,
    "Chinese": "这个函数在输入为空时返回错误的结果，请修复它并添加测试。" * 12,
    "Chinese with code": "这个函数 `parse(text)` 在输入为空时返回错误的结果，应为 `None`。" * 8,
    "Japanese": "この関数は入力が空のときに間違った結果を返します。カタカナもあります。" * 8,
    "Russian": "Эта функция возвращает неверный результат, если вход пуст: f([]) == None. " * 6,
    "a foreign name and a letter": "The patch by Иван uses α as the rate of 学习. " + "plain words " * 60,
    "terminal colours": "\x1b[32mpassed\x1b[0m test_one and test_two\n" * 20,
    "a short command": "$ [[ $? -ne 0 ]] && { :; }",
    "one character cut in two": "I will look at the caf\ufffd",
    "": "",
}  # fmt: skip


@pytest.mark.parametrize("sign", list(GARBLED))
def test_garbled(sign: str) -> None:
    assert garbled_signs(GARBLED[sign], CONFIG) == (sign,)


@pytest.mark.parametrize("name", list(ORDINARY))
def test_ordinary(name: str) -> None:
    assert garbled_signs(ORDINARY[name], CONFIG) == ()


def test_thresholds_are_the_configurations() -> None:
    text = "ab+" * 100
    assert symbol_share(text) == pytest.approx(1 / 3)
    assert garbled_signs(text, GarbledConfig(symbol_share=0.33)) == ("symbols are 33 % of it",)
    assert garbled_signs(text, GarbledConfig(symbol_share=0.34)) == ()
    assert garbled_signs("\ufffd", GarbledConfig(replacement_chars=1)) == ("1 replacement characters",)
    assert garbled_signs("слово word", GarbledConfig(min_chars=1, writing_systems=2)) == ("mixes Latin, Cyrillic",)
    assert garbled_signs("word\x01", GarbledConfig(min_chars=5, control_share=0.1)) == ("control characters are 20 % of it",)
    assert garbled_signs("!" * 400, GarbledConfig(min_chars=401)) == ()


@given(st.text(alphabet=st.characters(codec="ascii", categories=("L", "N", "Zs")), max_size=2000))
def test_words_and_spaces_are_never_garbled(text: str) -> None:
    assert garbled_signs(text, CONFIG) == ()


@given(st.text(max_size=600))
def test_any_text_is_judged(text: str) -> None:
    assert isinstance(garbled_signs(text, CONFIG), tuple)
    assert 0 <= symbol_share(text) <= 1


@pytest.mark.parametrize("path", sorted([*ROOT.glob("envpool/**/*.py"), *ROOT.glob("docs/*.md")]), ids=lambda path: path.name)
def test_the_repositorys_own_files_are_ordinary(path: Path) -> None:
    assert garbled_signs(path.read_text(), CONFIG) == ()


@pytest.mark.skipif(not RECORDED.is_dir(), reason="the recorded conversations are not beside the repository")
def test_recorded_conversations_are_ordinary() -> None:
    texts = []
    for line in (RECORDED / "trajectories" / "swe_rebench_glm46.jsonl").open():
        episode = json.loads(line)
        texts.append(episode["problem_statement"])
        for step in episode["trajectory_steps"]:
            texts += [f"{step['thought']}{step['action']}", str(step["observation"])]
    for line in (RECORDED / "sft" / "multi_turn.jsonl").open():
        texts.append(str(json.loads(line)["response"]))
    assert len(texts) > 500
    assert [text[:200] for text in texts if garbled_signs(text, CONFIG)] == []
