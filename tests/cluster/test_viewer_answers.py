"""The viewer's index and answers: literal values, damaged files, search, the export."""

import json
import re
from pathlib import Path

import numpy as np
import orjson
import pyarrow.parquet as pq
import pytest

from cluster.policy_logprobs import write_step
from cluster.run_folder import RunFolderError
from cluster.viewer.html_export import export_html
from cluster.viewer.run_index import CACHE_FILE, group_advantages
from cluster.viewer.text_search import SearchLimits, search
from cluster.viewer.token_pieces import TokenTexts
from cluster.viewer.viewed_run import ViewedRun, hidden_tests, repo_from_id
from cluster.viewer.viewer_answers import AnswerError, RunLibrary
from tests.cluster.viewer_runs import DIFF, LOG, write_run
from trainers.advantages import ADVANTAGES
from trainers.model_paths import resolve_model_path


def test_the_index_names_every_trajectory_with_its_group_step_and_advantage(tmp_path: Path) -> None:
    table = ViewedRun(write_run(tmp_path / "run")).index.table()
    rows, groups = table["rows"], table["groups"]
    assert table["shards"] == ["grpo/shard_00000", "rollout/shard_00000"]
    assert rows["reward"] == [1.0, 0.0, 1.0, 1.0, 0.0, 0.0]
    assert rows["advantage"] == [0.5, -0.5, 0.0, pytest.approx(2 / 3), pytest.approx(-1 / 3), pytest.approx(-1 / 3)]
    assert rows["step"] == [1, 1, 2, 0, 0, 0]
    assert rows["group"] == [0, 0, 1, 2, 2, 2]
    assert (groups["first"], groups["members"], groups["lost"][1]) == ([0, 2, 3], [2, 1, 3], [[1, "sandbox died"]])
    assert [table["repos"][code] for code in table["repo"]] == ["acme/anvil", "acme/rope"]
    assert table["problems"] == []


def test_members_that_do_not_train_are_in_no_baseline() -> None:
    assert group_advantages([1.0, 0.0, 9.0], [True, True, False], ADVANTAGES["group_mean"]) == [0.5, -0.5, None]
    assert group_advantages([None], [None], ADVANTAGES["group_mean"]) == [None]


def test_the_cache_is_used_and_renewed_only_where_files_changed(tmp_path: Path) -> None:
    root = write_run(tmp_path / "run")
    first = ViewedRun(root).index.table()
    cache = orjson.loads((root / CACHE_FILE).read_bytes())
    cache["shards"]["grpo/shard_00000"]["columns"]["reward"][0] = 7.0
    cache["shards"]["rollout/shard_00000"]["stamp"][0] = 1
    cache["shards"]["rollout/shard_00000"]["columns"]["reward"][0] = 7.0
    (root / CACHE_FILE).write_bytes(orjson.dumps(cache))
    again = ViewedRun(root).index.table()
    assert again["rows"]["reward"] == [7.0, *first["rows"]["reward"][1:]]
    (root / CACHE_FILE).write_bytes(b"{half")
    assert ViewedRun(root).index.table() == first


def test_a_trajectory_comes_with_tests_gold_patch_and_tokens(tmp_path: Path) -> None:
    run = ViewedRun(write_run(tmp_path / "run"))
    write_step(run.root, 1, [("acme__anvil-1", 0)], [np.array([-0.25, -1.0] * 3, np.float32)])
    episode = run.trajectory("grpo/shard_00000", 0)
    assert [turn["completion_tokens"] for turn in episode["turns"]] == [2, 2, 2]
    assert (episode["patch"], episode["gold_patch"]) == (DIFF.format(0), DIFF.format(2))
    assert episode["tests"] == [["t.py::test_new", "fail_to_pass", "failed"], ["t.py::test_old", "pass_to_pass", "passed"]]
    turns = run.tokens("grpo/shard_00000", 0)["turns"]
    assert turns[1]["rollout"] == [-0.25, -1.5]
    assert turns[1]["policy"] == [-0.25, -1.0]
    assert (turns[1]["mask"], turns[1]["versions"], len(turns[1]["context"])) == (1, [3, 3], 3)
    assert run.tokens("grpo/shard_00000", 1)["turns"][0]["policy"] is None
    assert run.spans("rollout/shard_00000", 1, 2) == [[[0.5, 0.25]] * 6] * 2


def test_hidden_tests_without_a_parser_are_not_read() -> None:
    task = {"log_parser": "no such parser", "fail_to_pass": ["a"], "pass_to_pass": []}
    assert hidden_tests(task, LOG) == [["a", "fail_to_pass", "not read"]]
    assert repo_from_id("no-repository") == "no-repository"


def test_a_character_over_several_tokens_stands_at_the_last() -> None:
    texts = TokenTexts(resolve_model_path("tiny_base") / "tokenizer.json")
    from tokenizers import Tokenizer

    ids = Tokenizer.from_file(str(resolve_model_path("tiny_base") / "tokenizer.json")).encode("a = é€").ids
    pieces = texts.pieces(ids)
    assert "".join(pieces) == "a = é€"
    assert len(pieces) == len(ids)
    assert TokenTexts(None).pieces([3, 4]) == ["#3 ", "#4 "]


def test_a_damaged_file_is_named_and_the_rest_is_shown(tmp_path: Path) -> None:
    root = write_run(tmp_path / "run")
    shard = root / "trajectories" / "rollout" / "shard_00000.parquet"
    shard.write_bytes(shard.read_bytes()[:-40])
    library = RunLibrary(root)
    table = library.answer(["index", "run"])
    assert len(table["rows"]["row"]) == 3
    assert "rollout/shard_00000.parquet" in table["problems"][0]
    assert library.answer(["run", "run"])["problems"] == table["problems"]
    assert list(search([("rollout/shard_00000", shard)], "x", SearchLimits()))[-1]["problems"] != []


def test_runs_of_other_versions_and_empty_ones_are_shown(tmp_path: Path) -> None:
    old = tmp_path / "old"
    (old / "trajectories").mkdir(parents=True)
    (old / "stages.json").write_text('{"eval-sft": {"seconds": 1}}')
    (old / "config.yaml").write_text("grpo: {advantage: gone}\n")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "config.yaml").write_text("")
    library = RunLibrary(tmp_path)
    assert {run["name"] for run in library.runs()} == {"old", "empty"}
    problems = " ".join(library.answer(["run", "old"])["problems"])
    assert "results of another version" in problems
    assert "unknown grpo.advantage 'gone'" in problems
    assert library.answer(["metrics", "empty"]) == {}
    assert library.answer(["index", "empty"])["rows"]["row"] == []
    with pytest.raises(RunFolderError, match="holds none"):
        RunLibrary(tmp_path / "old" / "trajectories")


def test_a_file_without_grades_or_counts_is_listed(tmp_path: Path) -> None:
    root = write_run(tmp_path / "run")
    shard = root / "trajectories" / "rollout" / "shard_00000.parquet"
    table = pq.read_table(shard).drop_columns(["reward", "train", "resolved", "num_turns", "num_tokens"])
    pq.write_table(table, root / "trajectories" / "plain.parquet")
    rows = ViewedRun(root).index.table()["rows"]
    at = len(rows["row"]) - 6  # `plain` sorts between grpo and rollout
    assert (rows["reward"][at], rows["num_turns"][at], rows["num_tokens"][at]) == (None, 6, 30)


@pytest.mark.parametrize(
    "words",
    [["trajectory", "run", "..", "..", "0"], ["trajectory", "run", "grpo", "shard_00000", "9"], ["run", "../run"], ["run", "x"],
     ["trajectory", "run", "grpo", "shard_00000", "-1"], ["tokens", "run", "grpo", "shard_00000", "9"], ["task", "run", "x"], []],
)  # fmt: skip
def test_what_is_not_there_is_not_found(tmp_path: Path, words: list[str]) -> None:
    with pytest.raises(AnswerError) as found:
        RunLibrary(write_run(tmp_path / "run")).answer(words)
    assert found.value.status == 404


def test_search_finds_in_every_text_and_says_when_it_was_cut(tmp_path: Path) -> None:
    index = ViewedRun(write_run(tmp_path / "run")).index
    shards = [(name, index.shard_path(name)) for name in index.shards()]

    def hits(needle: str, **limits: float) -> list[tuple[str, int, str, int, int]]:
        lines = [line["hit"] for line in search(shards, needle, SearchLimits(**limits)) if "hit" in line]
        return [(hit["shard"][:4], hit["row"], hit["field"], hit["turn"], hit["count"]) for hit in lines]

    assert hits("beta") == [("grpo", 2, "text", 1, 2)]
    assert hits("BETA") == []
    assert [hit[:4] for hit in hits("fix acme__rope")] == [("grpo", 2, "prompt", -1)] + [
        ("roll", i, "prompt", -1) for i in range(3)
    ]
    end = list(search(shards, "gamma", SearchLimits()))[-1]
    assert end == {"done": True, "searched": 6, "hits": 3, "cut": "", "problems": []}
    cut = list(search([*shards, *shards], "x = 1", SearchLimits(deadline_s=0)))[-1]
    assert (cut["cut"], cut["searched"] < 12) == ("stopped after 0 s", True)


def test_the_export_is_one_file_without_an_address(tmp_path: Path) -> None:
    target = tmp_path / "run.html"
    line = export_html(write_run(tmp_path / "run", hostile=True), target)
    text = target.read_text()
    assert "6 trajectories listed, 6 with their contents, 6 with their tokens" in line
    assert re.findall(r"(?:src|href)=", text.replace('src="', "src=").split("<script", 1)[0]) == []
    assert "onerror" not in text.split('id="exported"')[1].split("</script>")[0]
    answers = json.loads(text.split('id="exported">')[1].split("</script>")[0])["answers"]
    assert "trajectory/run/grpo/shard_00000/2" in answers
    short = export_html(tmp_path / "run", target, max_bytes=0)
    assert "6 trajectories listed, 0 with their contents, 0 with their tokens" in short
