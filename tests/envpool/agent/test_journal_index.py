"""One pass over the journals finds the turns of every group; what is written later is read on from there."""

from pathlib import Path

import pytest

from envpool.agent.journal_index import JournalIndex
from envpool.agent.turn_journal import TurnJournal
from tests.envpool.agent.test_episode_replay import made_up_turn


def found(index: JournalIndex, seed: int) -> list[list[tuple[str, int, int]]]:
    return [[(entry.instance_id, entry.sample_index, entry.turn_index) for entry in part] for part in index.entries(seed)]


def test_turns_are_found_by_seed_in_all_journals(tmp_path: Path) -> None:
    index = JournalIndex(tmp_path)
    assert (index.seeds(), index.entries(7)) == (set(), [])
    with TurnJournal(tmp_path / "worker_0.jsonl") as first, TurnJournal(tmp_path / "worker_1.jsonl") as second:
        for turn in range(3):
            first.append("a", 0, turn, made_up_turn(turn), seed=7)
            first.append('b "seed":9,', 1, turn, made_up_turn(turn), seed=8)
        assert found(index, 7) == [[("a", 0, 0), ("a", 0, 1), ("a", 0, 2)]]
        second.append("a", 0, 3, made_up_turn(3), seed=7)
        assert found(index, 7) == [[("a", 0, 0), ("a", 0, 1), ("a", 0, 2)], [("a", 0, 3)]]
    assert index.seeds() == {7, 8}


def test_what_was_read_is_not_read_again(tmp_path: Path) -> None:
    path = tmp_path / "worker_0.jsonl"
    index = JournalIndex(tmp_path)
    with TurnJournal(path) as journal:
        journal.append("a", 0, 0, made_up_turn(0), seed=7)
        size = path.stat().st_size
        assert index.seeds() == {7}
        with path.open("r+b") as file:
            file.write(b" " * (size - 1))  # a second pass would not find the seed
        journal.append("a", 0, 0, made_up_turn(0), seed=8)
    assert index.seeds() == {7, 8}
    with pytest.raises(ValueError, match=r"worker_0.jsonl, byte 0: not a journalled turn"):
        index.entries(7)
    assert found(index, 8) == [[("a", 0, 0)]]


def test_a_torn_line_is_read_once_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "worker_0.jsonl"
    with TurnJournal(path) as journal:
        journal.append("a", 0, 0, made_up_turn(0), seed=7)
    line, index = path.read_bytes(), JournalIndex(tmp_path)
    path.write_bytes(line + line[:-9])
    assert found(index, 7) == [[("a", 0, 0)]]
    path.write_bytes(line + line)
    assert found(index, 7) == [[("a", 0, 0)] * 2]
