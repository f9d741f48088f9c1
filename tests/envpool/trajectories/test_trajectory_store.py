from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envpool.agent.turn_journal import TurnJournal, read_journal
from envpool.patch import Patch
from envpool.trajectories.trajectory_columns import read_scalars, read_texts
from envpool.trajectories.trajectory_store import ROWS_PER_GROUP, Scalar, read_trajectories, write_trajectories
from envpool.trajectory import StopReason, Trajectory, Turn


def turn(num_context: int, num_sampled: int, text: str = "x") -> Turn:
    rng = np.random.default_rng(num_context * 100 + num_sampled)
    logprobs = -rng.random(num_sampled, dtype=np.float32)
    logprobs[::3] = np.nan
    return Turn(
        context_ids=rng.integers(0, 150_000, num_context, dtype=np.int32),
        completion_ids=rng.integers(0, 150_000, num_sampled, dtype=np.int32),
        rollout_logprobs=logprobs,
        policy_versions=np.full(num_sampled, 4, np.int32),
        text=text,
        action="<function=submit>\n</function>",
        observation="é\0\n",
        generate_s=0.1,
        tool_s=1 / 3,
    )


def trajectory(index: int, *turns: Turn) -> Trajectory:
    return Trajectory(f"demo-{index}", index, "teacher", "fix\tit", turns, Patch("diff\n"), StopReason.MAX_TURNS, 1.5)


def assert_same_turn(one: Turn, other: Turn) -> None:
    for name in ("context_ids", "completion_ids", "rollout_logprobs", "policy_versions"):
        left, right = getattr(one, name), getattr(other, name)
        assert left.dtype == right.dtype
        assert left.tobytes() == right.tobytes()
    for name in ("text", "action", "observation", "generate_s", "tool_s", "restart", "summary", "train"):
        assert getattr(one, name) == getattr(other, name)


def assert_same(one: Trajectory, other: Trajectory) -> None:
    for name in ("instance_id", "sample_index", "policy_name", "prompt", "patch", "stop_reason", "seconds", "num_tokens"):
        assert getattr(one, name) == getattr(other, name)
    assert len(one.turns) == len(other.turns)
    for left, right in zip(one.turns, other.turns, strict=True):
        assert_same_turn(left, right)


def test_what_is_read_is_what_was_written(tmp_path: Path) -> None:
    path = tmp_path / "sub" / "shard.parquet"
    rows: list[tuple[Trajectory, dict[str, Scalar]]] = [
        (trajectory(0, turn(5, 3), turn(2, 0)), {"resolved": True, "reward": 0.5, "train": True, "report_text": "ok"}),
        (trajectory(1), {"resolved": False, "reward": 0.0, "train": False, "report_text": ""}),
        (trajectory(2, turn(0, 7, "<|im_end|>")), {"resolved": False, "reward": -1, "train": True, "report_text": "é"}),
    ]
    write_trajectories(path, rows)
    read = list(read_trajectories(path))
    assert [columns for _, columns in read] == [columns for _, columns in rows]
    assert type(read[2][1]["reward"]) is float
    assert read[0][1]["resolved"] is True
    for (expected, _), (actual, _) in zip(rows, read, strict=True):
        assert_same(expected, actual)
    assert [file.name for file in path.parent.iterdir()] == ["shard.parquet"]


def test_files_of_no_and_of_many_trajectories(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    write_trajectories(path, [])
    assert list(read_trajectories(path)) == []
    many = [
        (trajectory(index, *[turn(index % 5, 1)] * (index % 3)), {"reward": float(index)})
        for index in range(ROWS_PER_GROUP * 2 + 3)
    ]
    write_trajectories(path, many)
    read = list(read_trajectories(path))
    assert len(read) == len(many)
    for (expected, columns), (actual, found) in zip(many, read, strict=True):
        assert_same(expected, actual)
        assert columns == found


@settings(max_examples=25, deadline=None)
@given(st.lists(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), max_size=3), max_size=4))
def test_any_shape_survives(tmp_path_factory: pytest.TempPathFactory, shapes: list[list[tuple[int, int]]]) -> None:
    path = tmp_path_factory.mktemp("shapes") / "t.parquet"
    rows: list[tuple[Trajectory, dict[str, Scalar]]] = [
        (trajectory(index, *(turn(*shape) for shape in shapes[index])), {}) for index in range(len(shapes))
    ]
    write_trajectories(path, rows)
    for (expected, _), (actual, _) in zip(rows, read_trajectories(path), strict=True):
        assert_same(expected, actual)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ([{"reward": 1.0}, {"score": 1.0}], "different extra columns"),
        ([{"reward": 1.0}, {"reward": "one"}], "must be all bool, all numbers or all str"),
        ([{"reward": 1.0}, {"reward": True}], "must be all bool, all numbers or all str"),
        ([{"turns": 1.0}, {"turns": 1.0}], "'turns' is a field of the trajectory"),
    ],
)
def test_columns_that_do_not_fit_are_refused_and_the_old_file_stays(
    tmp_path: Path, columns: list[dict[str, Scalar]], message: str
) -> None:
    path = tmp_path / "t.parquet"
    write_trajectories(path, [(trajectory(9), {})])
    with pytest.raises(ValueError, match=message):
        write_trajectories(path, [(trajectory(index), row) for index, row in enumerate(columns)])
    assert [found.instance_id for found, _ in read_trajectories(path)] == ["demo-9"]
    assert len(list(tmp_path.iterdir())) == 1


def test_a_file_that_is_none_is_named(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    with pytest.raises(FileNotFoundError, match=r"no trajectory file .*t.parquet"):
        list(read_trajectories(path))
    path.write_bytes(b"PAR1 not really")
    with pytest.raises(ValueError, match=r"cannot read trajectories from .*t.parquet"):
        list(read_trajectories(path))


# --- the journal


def test_journal_keeps_turns_in_order(tmp_path: Path) -> None:
    path = tmp_path / "journal" / "turns.jsonl"
    with TurnJournal(path) as journal:
        journal.append("demo-0", 1, 0, turn(3, 4))
        assert len(path.read_bytes().splitlines()) == 1  # on disk before the next turn
        journal.append("demo-0", 1, 1, turn(0, 0))
    entries = list(read_journal(path))
    assert [(entry.instance_id, entry.sample_index, entry.turn_index) for entry in entries] == [
        ("demo-0", 1, 0),
        ("demo-0", 1, 1),
    ]
    assert_same_turn(entries[0].turn, turn(3, 4))
    assert_same_turn(entries[1].turn, turn(0, 0))


def test_a_torn_last_line_is_left_out_and_cut_off_before_the_next(tmp_path: Path) -> None:
    path = tmp_path / "turns.jsonl"
    for torn in (b'{"instance_id": "demo-0", "sam', b"x" * 200_000):
        path.unlink(missing_ok=True)
        with TurnJournal(path) as journal:
            journal.append("demo-0", 0, 0, turn(1, 1))
        with path.open("ab") as file:
            file.write(torn)
        assert len(list(read_journal(path))) == 1
        with TurnJournal(path) as journal:
            journal.append("demo-0", 0, 1, turn(2, 2))
        assert [entry.turn_index for entry in read_journal(path)] == [0, 1]


def test_a_broken_line_elsewhere_is_named(tmp_path: Path) -> None:
    path = tmp_path / "turns.jsonl"
    path.write_bytes(b'{"instance_id": 1}\n')
    with pytest.raises(ValueError, match=r"turns.jsonl, line 1: not a journalled turn"):
        list(read_journal(path))


def test_files_and_journals_from_before_history_could_be_rewritten_are_read(tmp_path: Path) -> None:
    written = trajectory(0, turn(3, 2), turn(4, 5))
    path, old = tmp_path / "new.parquet", tmp_path / "old.parquet"
    write_trajectories(path, [(written, {})])
    table = pq.read_table(path)
    turns = table["turns"].combine_chunks()
    names = [field.name for field in turns.type.value_type if field.name not in ("restart", "summary", "train")]
    structs = pa.StructArray.from_arrays([turns.flatten().field(name) for name in names], names)
    place = table.column_names.index("turns")
    pq.write_table(table.set_column(place, "turns", pa.ListArray.from_arrays(turns.offsets, structs)), old)
    ((read, _),) = read_trajectories(old)
    assert_same(read, written)
    assert [len(one.turns) for one in read_texts(old, lambda *_: True)] == [2]
    with TurnJournal(tmp_path / "journal.jsonl") as journal:
        journal.append("a", 0, 0, written.turns[0])
    assert b"restart" not in (tmp_path / "journal.jsonl").read_bytes()
    (entry,) = read_journal(tmp_path / "journal.jsonl")
    assert_same_turn(entry.turn, written.turns[0])


def test_summaries_are_no_turns_of_the_counts_and_no_texts(tmp_path: Path) -> None:
    summary = replace(turn(2, 3, "Progress: none."), action="", summary=True, train=False)
    written = trajectory(0, turn(3, 2), summary, replace(turn(4, 5), restart=True))
    path = tmp_path / "one.parquet"
    write_trajectories(path, [(written, {})])
    ((read, _),) = read_trajectories(path)
    assert_same(read, written)
    counted = {"num_turns": int, "num_missed_calls": int, "num_tokens": int, "longest_sample": int}
    (row,) = read_scalars(path, counted)
    assert row == {"num_turns": 2, "num_missed_calls": 0, "num_tokens": 19, "longest_sample": 10}
    (texts,) = read_texts(path, lambda *_: True)
    assert [one.text for one in texts.turns] == ["x", "x"]
