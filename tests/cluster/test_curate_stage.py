"""The curate stage on stored groups: what it keeps, records, draws and refuses; its sub-verbs; broken shards."""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast
from xml.etree import ElementTree

import numpy as np
import orjson
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from cluster.cli import app
from cluster.group_store import GroupStore, GroupStoreError, count_lost, read_facts, read_groups, read_outcomes
from cluster.metric_sinks import MetricSinks
from cluster.progress_view import ProgressView
from cluster.run_folder import RunFolder
from cluster.run_report import write_report
from cluster.sft_export import system_text
from cluster.stage import StageContext, StageError
from cluster.stages.curate_stage import curate
from cluster.stages.sft_stage import curated_samples
from cluster.stages.world_model_stage import training_trajectories
from configs.curate_config import CurateConfig
from configs.run_config import RunConfig
from configs.tasks_config import MicroTasksConfig
from envpool.action_formats import ACTION_FORMATS
from envpool.agent.prompt import PROMPTS, build_messages, tool_section
from envpool.chat.chat_sample import sample_of_trajectory
from envpool.micro.micro_tasks import generate_micro_tasks
from envpool.patch import Patch
from envpool.problem import Problem
from envpool.task_sets.task_store import write_tasks
from envpool.tools import TOOLS
from envpool.trajectories.trajectory_columns import TrajectoryTexts
from envpool.trajectories.trajectory_store import DERIVED
from envpool.trajectory import StopReason, Trajectory, Turn
from verifier.reward import Group, LostEpisode, Reward, ScoredTrajectory

CALL = "<function=execute_bash>\n<parameter=command>ls</parameter>\n</function>"
SUBMIT = "<function=submit>\n</function>"


def scored(
    task: str, index: int, resolved: bool = True, stop: StopReason = StopReason.SUBMITTED, first: str = CALL, tokens: int = 4
) -> ScoredTrajectory:
    ids = np.arange(tokens, dtype=np.int32)
    action = first if first == CALL else ""
    turns = tuple(
        Turn(ids, ids, ids.astype(np.float32), ids, text, act, seen, 0.0, 0.0)
        for text, act, seen in ((f"I look. {first}", action, "a.py"), (SUBMIT, SUBMIT, ""))
    )
    trajectory = Trajectory(task, index, "teacher", "Fix it.", turns, Patch("diff"), stop, 1.0)
    return ScoredTrajectory(trajectory, Reward(float(resolved), {}, True), resolved, "log")


GROUPS = [
    Group("a", (scored("a", 0), scored("a", 1, resolved=False), scored("a", 2, tokens=2)), (LostEpisode(3, "gone"),)),
    Group("b", (scored("b", 0), scored("b", 1)), ()),
    Group("c", (scored("c", 0, first="hm"), scored("c", 1, stop=StopReason.MAX_TURNS), scored("c", 2, resolved=False)), ()),
    Group("d", (), (LostEpisode(0, "gone"),)),
    Group("e", (scored("e", 0), scored("e", 1, resolved=False)), ()),
]


def stored(tmp_path: Path, groups: Sequence[Group] = tuple(GROUPS), **settings: Any) -> StageContext:
    config = RunConfig(runs_dir=str(tmp_path / "runs"), curate=CurateConfig(**settings))
    folder = RunFolder.create(config)
    with GroupStore(folder.root / "trajectories" / "rollout") as store:
        for group in groups:
            store.add(group)
    folder.record_stage("rollout", {"by_policy": {}, "seconds": 1.0})
    return StageContext(config, folder, MetricSinks(config, folder.root), cast(Any, None), ProgressView())


def run(context: StageContext) -> dict[str, Any]:
    record = asyncio.run(curate(context))
    context.folder.record_stage("curate", {**record, "seconds": 0.1})
    return record


def pairs(context: StageContext, name: str = "curated.json") -> list[list[Any]]:
    found: list[list[Any]] = orjson.loads((context.folder.root / name).read_bytes())
    return found


def test_the_record_says_what_each_step_left(tmp_path: Path) -> None:
    context = stored(tmp_path)
    record = run(context)
    assert pairs(context) == [["a", 0], ["a", 2], ["e", 0]]
    assert record["funnel"] == (
        ("played", 10),
        ("resolved", 7),
        ("mixed_results", 5),
        ("no_missed_calls", 4),
        ("turns_left", 3),
        ("within_tokens", 3),
        ("submitted", 3),
        ("distinct", 3),
    )
    assert record["fails_by_itself"]["mixed_results"] == 2
    assert record["difficulty"] == {"rows": 4, "all_fail": 0, "mixed": 3, "all_pass": 1, "sft_band": 3, "rl_band": 3}
    assert record["histogram"] == (0, 0, 0, 0, 0, 1, 2, 0, 0, 1)
    assert (record["lost"], record["sft_samples"]) == (2, 3)
    assert record["split"] == {"seed": 0, "heldout_share": 0.0, "train": 3, "heldout": 0}
    assert len(curated_samples(context.folder)) == 3


def test_what_is_trained_on_does_not_depend_on_which_group_finished_first(tmp_path: Path) -> None:
    orders = [GROUPS, GROUPS[::-1]]
    contexts = [stored(tmp_path / str(number), order, filters=("resolved",)) for number, order in enumerate(orders)]
    for context in contexts:
        run(context)
    samples = [[(one.group, one.token_ids.tolist()) for one in curated_samples(context.folder)] for context in contexts]
    assert samples[0] == samples[1]
    assert len(samples[0]) == 7
    seen = [[(one.trajectory.instance_id, one.trajectory.sample_index) for one in training_trajectories(c)] for c in contexts]
    assert seen[0] == seen[1] == sorted(seen[0])


def test_cap_split_and_filters_follow_the_configuration(tmp_path: Path) -> None:
    context = stored(tmp_path, filters=("resolved",), max_per_task=1, heldout_share=0.5, split_seed=3)
    run(context)
    train, heldout = pairs(context), pairs(context, "curated_heldout.json")
    assert sorted([*train, *heldout]) == [["a", 2], ["b", 0], ["c", 0], ["e", 0]]
    assert train
    assert heldout
    assert {name for name, _ in train}.isdisjoint({name for name, _ in heldout})


def test_statistics_of_another_run_replace_the_means(tmp_path: Path) -> None:
    first = stored(tmp_path)
    run(first)
    lines = [json.loads(line) for line in (first.folder.root / "difficulty.jsonl").read_text().splitlines()]
    assert lines[0] == {"instance_id": "a", "reward_mean": 2 / 3, "num_attempts": 3, "sft_band": True, "rl_band": True}
    statistics = tmp_path / "stats.jsonl"
    rows = [("a", 0.0), ("b", 0.5), ("e", 0.25), ("e", 0.75)]
    statistics.write_text("".join(json.dumps({"instance_id": key, "reward_mean": mean}) + "\n" for key, mean in rows) + "{\n")
    second = stored(tmp_path, statistics=(str(statistics),))
    record = run(second)
    assert pairs(second) == [["b", 0], ["b", 1]]
    assert record["statistics"] == {
        "files": [str(statistics)],
        "keys": 2,
        "repeated_keys": 1,
        "conflicting_keys": 1,
        "broken": [f"{statistics}: line 5 is not valid JSON"],
        "tasks_without": 2,
    }


def test_the_picture_and_the_report_show_the_funnel(tmp_path: Path) -> None:
    context = stored(tmp_path)
    run(context)
    root = ElementTree.fromstring((context.folder.root / "curation_funnel.svg").read_text())
    texts = [text for element in root.iter() if (text := element.text)]
    assert "10 from 4 tasks" in texts
    assert "3 from 2 tasks" in texts
    write_report(context.folder)
    assert "10 from 4 tasks" in (context.folder.root / "report.html").read_text()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"filters": ("solved",)}, "there is no filter 'solved'"),
        ({"mean_low": 1.0, "mean_high": 0.5}, r"mean_low=1 must be below"),
        ({"max_per_task": -1}, "max_per_task=-1"),
        ({"heldout_share": 1.5}, r"heldout_share=1\.5"),
        ({"statistics": ("none.jsonl",)}, r"none\.jsonl: cannot be read"),
        ({"filters": ("within_tokens",), "max_tokens": 1}, "curation left no trajectory"),
    ],
)
def test_mistakes_are_one_line_and_write_nothing(tmp_path: Path, settings: dict[str, Any], message: str) -> None:
    context = stored(tmp_path, **settings)
    with pytest.raises(StageError, match=message) as caught:
        run(context)
    assert "\n" not in str(caught.value)
    assert not (context.folder.root / "curated.json").exists()


# --- broken stores


def damaged(tmp_path: Path, damage: str) -> Path:
    folder = stored(tmp_path).folder.root / "trajectories" / "rollout"
    shard, lost = next(folder.glob("shard_*.parquet")), next(folder.glob("lost_*.jsonl"))
    if damage == "truncated":
        shard.write_bytes(shard.read_bytes()[:-20])
    elif damage == "gone":
        shard.unlink()
    elif damage == "other run":
        lost.write_bytes(b"".join(line + b"\n" for line in lost.read_bytes().splitlines()[:-1]))
    elif damage == "too few":
        lost.write_bytes(lost.read_bytes() + b'{"instance_id":"f","members":1,"lost":[]}\n')
    elif damage == "not json":
        lost.write_bytes(b"\xff\n")
    elif damage == "no score":
        pq.write_table(pq.read_table(shard).drop_columns(["resolved"]), shard)
    return folder


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("truncated", r"cannot read trajectories from .*shard_00000\.parquet.*remove it with lost_00000\.jsonl"),
        ("gone", r"shard_00000\.parquet is missing although lost_00000\.jsonl is there"),
        ("other run", r"shard_00000\.parquet holds 10 trajectories but its groups have 8"),
        ("too few", r"shard_00000\.parquet holds 10 trajectories but its groups have 11"),
        ("not json", r"lost_00000\.jsonl: line 1 does not describe a group"),
        ("no score", r"lacks the columns resolved|column resolved is missing"),
    ],
)
def test_a_damaged_shard_is_named_by_every_reader(tmp_path: Path, damage: str, message: str) -> None:
    folder = damaged(tmp_path, damage)
    readers = (lambda: read_groups(folder), lambda: read_facts(folder, lambda _: 0.5), lambda: read_outcomes(folder))
    for reader in readers:
        with pytest.raises(GroupStoreError, match=message):
            list(reader())


def test_shards_of_an_older_version_curate_alike(tmp_path: Path) -> None:
    context = stored(tmp_path)
    run(context)
    expected = pairs(context)
    for shard in (context.folder.root / "trajectories" / "rollout").glob("shard_*.parquet"):
        pq.write_table(pq.read_table(shard).drop_columns(list(DERIVED)), shard)
    run(context)
    assert pairs(context) == expected
    assert count_lost(context.folder.root / "trajectories" / "rollout") == 2


# --- sub-verbs


def invoke(*words: str | Path) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["curate", *map(str, words)])
    return result.exit_code, result.output


def test_export_and_import_by_command_line(tmp_path: Path) -> None:
    context = stored(tmp_path)
    run(context)
    root = context.folder.root
    for name in ("out.jsonl", "out.parquet"):
        assert invoke("export-sft", root, "--to", tmp_path / name, "--json")[0] == 0
        code, output = invoke("import-sft", tmp_path / name, "--json")
        assert code == 0
        assert json.loads(output)["samples"] == 3
        assert json.loads(output)["assistant_turns"] == 6
    row = json.loads((tmp_path / "out.jsonl").read_text().splitlines()[0])
    assert row["messages"][1]["content"] == "I look. "
    assert row["messages"][1]["tool_calls"][0]["function"] == {"name": "execute_bash", "arguments": {"command": "ls"}}
    assert (row["instance_id"], row["metadata"]["sample_index"]) == ("a", 0)
    code, output = invoke("funnel", root, "--markdown")
    assert code == 0
    assert "| played | 10 (4) |  |" in output
    assert json.loads(invoke("funnel", root, "--json")[1])[0]["source"] == "unknown"


def test_mistakes_of_the_sub_verbs_are_one_line(tmp_path: Path) -> None:
    context = stored(tmp_path)
    root = context.folder.root
    bad = tmp_path / "bad.jsonl"
    bad.write_text("{}\n")
    for words, message in (
        (("difficulty",), "needs at least one JSONL file"),
        (("difficulty", tmp_path / "none"), "cannot be read"),
        (("funnel", root), "has no curation yet"),
        (("export-sft", root), "needs --to FILE"),
        (("export-sft", root, "--to", "x.jsonl"), "has no curated.json"),
        (("export-sft", root, "--to", "x.jsonl", "--split", "test"), "choose from train, heldout"),
        (("export-sft", tmp_path, "--to", "x.jsonl"), "is not a run folder"),
        (("import-sft", bad), "holds no sample that can be read"),
        (("import-sft", tmp_path / "none.jsonl"), "no such file"),
        ((tmp_path,), "is not a run folder"),
    ):
        code, output = invoke(*words)
        assert code == 2, words
        assert message in output


def test_an_export_that_misses_trajectories_says_so(tmp_path: Path) -> None:
    context = stored(tmp_path)
    run(context)
    (context.folder.root / "curated.json").write_bytes(b'[["a", 0], ["z", 0]]')
    code, output = invoke("export-sft", context.folder.root, "--to", tmp_path / "x.jsonl")
    assert code == 2
    assert "holds 1 of 2 curated trajectories" in output
    (context.folder.root / "curated.json").write_bytes(b"[1]")
    assert "is damaged" in invoke("export-sft", context.folder.root, "--to", tmp_path / "x.jsonl")[1]


def test_difficulty_totals_by_command_line(tmp_path: Path) -> None:
    for name, means in (("x.jsonl", (0, 0.5)), ("y.jsonl", (0.25, 1))):
        lines = (json.dumps({"instance_id": f"t{i}", "reward_mean": mean}) + "\n" for i, mean in enumerate(means))
        (tmp_path / name).write_text("".join(lines))
    code, output = invoke("difficulty", tmp_path / "x.jsonl", tmp_path / "y.jsonl", "--json", "--total")
    first, _, total = map(json.loads, output.splitlines())
    assert code == 0
    assert {key: first[key] for key in ("rows", "all_fail", "mixed", "all_pass")} == {
        "rows": 2,
        "all_fail": 1,
        "mixed": 1,
        "all_pass": 0,
    }
    assert (total["rows"], total["mixed"], total["conflicting_keys"], total["histogram"][-1]) == (4, 2, 2, 1)
    assert "x.jsonl" in invoke("difficulty", tmp_path / "x.jsonl")[1]


# --- sources and prompts


def test_sources_come_from_the_task_set_and_statistics_join_by_commit(tmp_path: Path) -> None:
    statistics = tmp_path / "stats.jsonl"
    statistics.write_text('{"instance_id_or_commit_hash": "c0ffee", "reward_mean": 0.25}\n')
    context = stored(tmp_path, statistics=(str(statistics),), filters=("resolved", "mixed_results"))
    micro = [one.task for one in generate_micro_tasks(MicroTasksConfig(num_train=3, num_heldout=1), 0)]
    renamed = [
        replace(
            task,
            problem=replace(task.problem, instance_id=name, base_commit=commit),
            oracle=replace(task.oracle, instance_id=name),
            source=source,
            split=split,
        )
        for task, (name, commit, source, split) in zip(
            micro,
            [
                ("a", "c0ffee", "gym", "train"),
                ("b", "beef", "gym", "train"),
                ("unplayed", "x", "smith", "train"),
                ("h", "y", "gym", "heldout"),
            ],
            strict=True,
        )
    ]
    write_tasks(context.folder.tasks, renamed)
    record = run(context)
    assert pairs(context) == [["a", 0], ["a", 2]]
    funnels = {row["source"]: (row["available"], row["trajectories"]) for row in record["funnels"]}
    assert funnels["gym"] == (2, (("played", 5), ("resolved", 4), ("mixed_results", 2), ("distinct", 2)))
    assert funnels["unknown"][0] == 0
    assert funnels["smith"] == (1, (("played", 0), ("resolved", 0), ("mixed_results", 0), ("distinct", 0)))
    assert record["statistics"]["tasks_without"] == 3


def test_a_damaged_task_set_is_named(tmp_path: Path) -> None:
    context = stored(tmp_path)
    context.folder.tasks.mkdir(exist_ok=True)
    (context.folder.tasks / "oracles.parquet").write_bytes(b"PAR1")
    with pytest.raises(StageError, match=r"curate: .*tasks: cannot read the tasks' sources"):
        run(context)


def test_the_full_prompts_system_message_is_told_apart() -> None:
    tools = tool_section(TOOLS, ACTION_FORMATS["xml"])
    system = system_text(PROMPTS["full"].system, tools)
    assert system.startswith("You are a software engineer")
    assert tools in system
    problem = Problem("a", "r", "HEAD", "folder:a", "/testbed", "It breaks.")
    prompt = "\n\n".join(message.content for message in build_messages(PROMPTS["full"], problem, TOOLS, 10))
    sample = sample_of_trajectory(TrajectoryTexts("a", 0, "t", prompt, ()), (), system)
    assert [message.role for message in sample.messages] == ["system", "user"]
    assert sample.messages[1].content.startswith("The repository is in /testbed.")
    assert system_text("In {workdir}.", tools) == ""
