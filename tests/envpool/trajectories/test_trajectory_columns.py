"""Reading parts of stored trajectories: new files, files without the derived columns, and broken ones."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from envpool.patch import Patch
from envpool.trajectories.trajectory_columns import TurnTexts, read_scalars, read_texts
from envpool.trajectories.trajectory_store import (
    DERIVED,
    TrajectoryFileError,
    derived_counts,
    read_trajectories,
    write_trajectories,
)
from envpool.trajectory import StopReason, Trajectory, Turn

PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""Machines under load are slow; nothing here is about time."""

CALL = "<function=execute_bash>\n<parameter=command>ls</parameter>\n</function>"
COLUMNS: dict[str, type] = {"instance_id": str, "sample_index": int, "resolved": bool, **dict.fromkeys(DERIVED, int)}


def turn(num_context: int, num_sampled: int, text: str, action: str) -> Turn:
    context, sampled = np.arange(num_context, dtype=np.int32), np.arange(num_sampled, dtype=np.int32)
    return Turn(context, sampled, sampled.astype(np.float32), sampled, text, action, f"saw {text[:4]}", 0.1, 0.2)


def trajectory(index: int, *turns: Turn) -> Trajectory:
    return Trajectory(f"task-{index}", index, "teacher", "fix it", turns, Patch("d"), StopReason.SUBMITTED, 1.5)


def store(path: Path) -> list[dict[str, Any]]:
    """Three trajectories and what their scalars should be."""
    rows = [
        (trajectory(0, turn(5, 3, f"a {CALL}", CALL), turn(2, 1, "no call", "")), {"resolved": True}),
        (trajectory(1), {"resolved": False}),
        (trajectory(2, turn(4, 2, f"{CALL} and then {CALL}", CALL.replace("ls", "git log"))), {"resolved": True}),
    ]
    write_trajectories(path, rows)
    numbers = [(2, 11, 1, 0, 0, 11), (0, 0, 0, 0, 0, 0), (1, 6, 0, 1, 1, 6)]
    return [
        {"instance_id": f"task-{index}", "sample_index": index, "resolved": index != 1, **dict(zip(DERIVED, row, strict=True))}
        for index, row in enumerate(numbers)
    ]


def without(path: Path, *names: str) -> None:
    """Rewrite a file without some columns, as an earlier version would have written it."""
    table = pq.read_table(path)
    pq.write_table(table.drop_columns(list(names)), path)


def test_scalars_are_read_without_the_turns(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    expected = store(path)
    assert list(read_scalars(path, COLUMNS)) == expected
    without(path, "seconds", "turns")
    with pytest.raises(TrajectoryFileError, match="no column seconds"):
        list(read_scalars(path, COLUMNS))


def test_an_older_file_gives_the_same_scalars_and_trajectories(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    expected = store(path)
    without(path, *DERIVED)
    assert list(read_scalars(path, COLUMNS)) == expected
    assert [(one.num_tokens, columns) for one, columns in read_trajectories(path)] == [
        (11, {"resolved": True}),
        (0, {"resolved": False}),
        (6, {"resolved": True}),
    ]


def test_the_longest_sample_of_rewritten_episodes(tmp_path: Path) -> None:
    """Samples end before restarts: 8 and 10 tokens, nothing, 4 + 4 and 10 (a first turn restarts nothing)."""
    path = tmp_path / "t.parquet"
    again = replace(turn(7, 3, "x", CALL), restart=True)
    rewritten = trajectory(0, turn(5, 3, "x", CALL), again)
    other = trajectory(1, replace(turn(2, 2, "x", CALL), restart=True), turn(3, 1, "x", CALL), replace(again, train=False))
    write_trajectories(path, [(rewritten, {}), (trajectory(2), {}), (other, {})])
    wanted = [
        {"num_tokens": 18, "longest_sample": 10},
        {"num_tokens": 0, "longest_sample": 0},
        {"num_tokens": 18, "longest_sample": 10},
    ]
    columns: dict[str, type] = {"num_tokens": int, "longest_sample": int}
    assert list(read_scalars(path, columns)) == wanted
    without(path, "longest_sample")
    assert list(read_scalars(path, columns)) == wanted
    assert [one.longest_sample for one, _ in read_trajectories(path)] == [10, 0, 10]


def test_derived_columns_do_not_come_back_as_extra_ones(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    store(path)
    assert [columns for _, columns in read_trajectories(path)] == [{"resolved": True}, {"resolved": False}, {"resolved": True}]
    with pytest.raises(ValueError, match="'num_turns' is a field of the trajectory"):
        write_trajectories(path, [(trajectory(0), {"num_turns": 3})])


def test_texts_of_the_chosen(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    store(path)
    texts = list(read_texts(path, lambda name, index: index != 1))
    assert [(one.instance_id, one.sample_index, one.policy_name, one.prompt) for one in texts] == [
        ("task-0", 0, "teacher", "fix it"),
        ("task-2", 2, "teacher", "fix it"),
    ]
    assert texts[0].turns == (TurnTexts(f"a {CALL}", "saw a <f"), TurnTexts("no call", "saw no c"))


def replaced(path: Path, name: str, values: Any) -> None:
    table = pq.read_table(path)
    pq.write_table(table.set_column(table.schema.get_field_index(name), name, values), path)


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("resolved", pa.array(["yes", "no", "no"]), "column resolved holds string, not bool"),
        ("resolved", pa.array([True, None, False]), "column resolved has empty cells"),
        ("sample_index", pa.array(["0", "1", "2"]), "column sample_index holds string, not int64"),
        ("num_tokens", pa.array([1.5, 2.0, 3.0]), "column num_tokens holds double, not int"),
        ("turns", pa.array([[1], [2], []]), r"column turns holds list<.*not list<"),
    ],
)
def test_wrong_types_are_named(tmp_path: Path, name: str, values: Any, message: str) -> None:
    path = tmp_path / "t.parquet"
    store(path)
    replaced(path, name, values)
    with pytest.raises(TrajectoryFileError, match=message) as caught:
        list(read_scalars(path, COLUMNS))
    assert str(path) in str(caught.value)


def test_an_unknown_stop_reason_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    store(path)
    replaced(path, "stop_reason", pa.array(["submitted", "bored", "submitted"]))
    with pytest.raises(TrajectoryFileError, match=r"t\.parquet: 'bored' is not a valid StopReason"):
        list(read_trajectories(path))


@pytest.mark.parametrize("cut", [0, 3, 100, -9, -200])
def test_a_truncated_file_is_a_named_error(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "t.parquet"
    store(path)
    path.write_bytes(path.read_bytes()[:cut])
    for reader in (
        lambda: read_scalars(path, COLUMNS),
        lambda: read_texts(path, lambda *_: True),
        lambda: read_trajectories(path),
    ):
        with pytest.raises(TrajectoryFileError, match=r"cannot read trajectories from .*t\.parquet"):
            list(reader())


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    write_trajectories(path, [(trajectory(0), {})])
    with pytest.raises(TrajectoryFileError, match="column resolved is missing"):
        list(read_scalars(path, COLUMNS))


def test_a_second_call_counts_only_after_a_finished_first() -> None:
    texts = [CALL, f"I write <function=x> then {CALL}", f"{CALL}\n{CALL}", f"{CALL} <function=", "</function>" * 20_000]
    assert derived_counts(0, 0, texts, [CALL] * 5)["num_repeated_calls"] == 1


PIECES = st.sampled_from(["</function>", "<function=", "x", " ", "\n", "1", "\u2003", "submit", "</", "<function=\n"])
ACTIONS = st.sampled_from(["", CALL, CALL.replace("ls", "git  show")])
WRITTEN = st.lists(PIECES, max_size=6).map("".join)


@settings(PATIENT, max_examples=40)
@given(
    st.lists(
        st.lists(st.tuples(WRITTEN, ACTIONS), max_size=4),
        min_size=1,
        max_size=4,
    )
)
def test_older_files_are_counted_as_new_ones_are(
    tmp_path_factory: pytest.TempPathFactory, episodes: list[list[tuple[str, str]]]
) -> None:
    path = tmp_path_factory.mktemp("older") / "t.parquet"
    rows = [trajectory(index, *(turn(index, 2, *texts) for texts in turns)) for index, turns in enumerate(episodes)]
    write_trajectories(path, [(row, {"resolved": True}) for row in rows])
    new = list(read_scalars(path, COLUMNS))
    without(path, "num_history_reads")
    assert list(read_scalars(path, COLUMNS)) == new
    without(path, *(name for name in DERIVED if name != "num_history_reads"))
    assert list(read_scalars(path, COLUMNS)) == new
