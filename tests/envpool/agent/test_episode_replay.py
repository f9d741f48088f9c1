from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from configs.rollout_config import EpisodeConfig
from configs.sandbox_config import SandboxConfig
from envpool.action_format import ToolCall, render_action
from envpool.agent.episode import run_episode
from envpool.agent.episode_replay import journalled_group
from envpool.agent.journal_index import JournalIndex
from envpool.agent.turn_journal import TurnJournal, read_journal
from envpool.policy import Generate
from envpool.problem import Problem
from envpool.sandbox_parts.image_cache import FolderImages
from envpool.sandboxes.process_sandbox import ProcessBackend
from envpool.trajectory import Trajectory, Turn
from tests.envpool.agent.agent_doubles import CHAT, LinePolicy


def bash(command: str) -> str:
    return render_action(ToolCall("execute_bash", {"command": command}))


LINES = [
    bash("cd pkg && word=kept"),
    bash("echo \"$word\" > new.txt; sed -i 's/a - b/a + b/' ../calc.py"),
    bash("cat new.txt; pwd"),
    bash("ls"),
    render_action(ToolCall("submit", {})),
]
CONFIG = EpisodeConfig(max_tokens=8000, max_tokens_per_turn=400)


def made_up_turn(number: int) -> Turn:
    ids, logprobs = np.array([number], np.int32), np.array([0.0], np.float32)
    return Turn(ids, ids, logprobs, ids, text="", action="", observation="", generate_s=0.0, tool_s=0.0)


class DiesError(Exception):
    """The worker's end."""


async def play(
    images: FolderImages,
    image: str,
    policy: Generate,
    journal: TurnJournal,
    dies_after: int = 99,
    recorded: Sequence[Turn] = (),
) -> Trajectory:
    backend = ProcessBackend(SandboxConfig(isolation="none"), images, "replay-test")

    def on_turn(index: int, turn: Turn) -> None:
        journal.append("demo-1", 2, index, turn, seed=11)
        if index + 1 == dies_after:
            raise DiesError

    try:
        sandbox = await backend.start(image, "/testbed")
        problem = Problem("demo-1", "demo", "c0", image, "/testbed", "add should add")
        return await run_episode(
            problem, sandbox, policy, CHAT, CONFIG,
            sample_index=2, policy_name="lines", temperature=0.7, seed=11, on_turn=on_turn, recorded=recorded,
        )  # fmt: skip
    finally:
        await backend.close()


def written(trajectory: Trajectory) -> list[tuple[list[int], list[int], list[float], str]]:
    return [
        (turn.context_ids.tolist(), turn.completion_ids.tolist(), np.nan_to_num(turn.rollout_logprobs).tolist(), turn.observation)
        for turn in trajectory.turns
    ]


async def test_an_episode_goes_on_where_its_worker_died(images: FolderImages, calc_image: str, tmp_path: Path) -> None:
    path = tmp_path / "journal" / "worker_0.jsonl"
    with TurnJournal(tmp_path / "undisturbed.jsonl") as journal:
        whole = await play(images, calc_image, LinePolicy(CHAT, LINES), journal)
    with TurnJournal(path) as journal, pytest.raises(DiesError):
        await play(images, calc_image, LinePolicy(CHAT, LINES), journal, dies_after=3)

    turns = journalled_group(JournalIndex(path.parent), "demo-1", group_size=4, seed=11)
    assert {index: len(found) for index, found in turns.items()} == {2: 3}
    rest = LinePolicy(CHAT, LINES[3:])  # the policy is asked for what is missing, and for nothing else
    with TurnJournal(path) as journal:
        resumed = await play(images, calc_image, rest, journal, recorded=turns[2])
    assert len(rest.requests) == 2
    assert written(resumed) == written(whole)
    assert resumed.turns[2].observation.split() == ["kept", "/testbed/pkg"]
    assert resumed.patch == whole.patch
    assert resumed.patch.files == ("calc.py", "pkg/new.txt")
    assert [entry.turn_index for entry in read_journal(path)] == [0, 1, 2, 3, 4]  # no turn is journalled twice


async def test_a_replayed_turn_keeps_what_the_model_was_shown(images: FolderImages, calc_image: str, tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    lines = [bash("ls"), bash("echo $RANDOM$RANDOM$RANDOM | tee number"), bash("ls pkg"), LINES[-1]]
    with TurnJournal(path) as journal, pytest.raises(DiesError):
        await play(images, calc_image, LinePolicy(CHAT, lines), journal, dies_after=3)
    turns, policy = journalled_group(JournalIndex(tmp_path), "demo-1", 4, 11), LinePolicy(CHAT, lines[3:])
    with TurnJournal(path) as journal:
        resumed = await play(images, calc_image, policy, journal, recorded=turns[2])
    assert len(policy.requests) == 1
    assert [turn.observation for turn in resumed.turns[:3]] == [turn.observation for turn in turns[2]]


async def test_turns_that_do_not_follow_each_other_are_not_believed(
    images: FolderImages, calc_image: str, tmp_path: Path
) -> None:
    """The second recorded turn answers another observation: it and what follows are sampled again."""
    path = tmp_path / "journal.jsonl"
    with TurnJournal(path) as journal:
        whole = await play(images, calc_image, LinePolicy(CHAT, [bash("pwd"), bash("ls"), LINES[-1]]), journal)
    mixed = [replace(whole.turns[0], observation="something else"), *whole.turns[1:]]
    policy = LinePolicy(CHAT, [bash("ls pkg"), LINES[-1]])
    with TurnJournal(tmp_path / "second.jsonl") as journal:
        resumed = await play(images, calc_image, policy, journal, recorded=mixed)
    assert [turn.text for turn in resumed.turns] == [bash("pwd"), bash("ls pkg"), LINES[-1]]


def test_an_episode_that_went_on_elsewhere_is_in_two_journals(tmp_path: Path) -> None:
    paths = [tmp_path / "worker_0.jsonl", tmp_path / "worker_1.jsonl"]
    turns = [made_up_turn(number) for number in range(5)]
    with TurnJournal(paths[0]) as first, TurnJournal(paths[1]) as second:
        for index in range(3):
            second.append("demo-1", 0, index, turns[index], 11)
        for index in (3, 4):
            first.append("demo-1", 0, index, turns[index], 11)
        first.append("demo-1", 1, 1, turns[1], 11)  # its beginning is nowhere
        first.append("demo-1", 0, 0, turns[4], 12)  # another seed
    found = journalled_group(JournalIndex(tmp_path), "demo-1", 4, 11)
    assert {index: [int(turn.context_ids[0]) for turn in chain] for index, chain in found.items()} == {0: [0, 1, 2, 3, 4]}


async def test_other_playings_of_the_task_are_not_resumed(images: FolderImages, calc_image: str, tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    with TurnJournal(path) as journal:
        await play(images, calc_image, LinePolicy(CHAT, LINES), journal)
    journals = JournalIndex(tmp_path)
    assert journalled_group(journals, "demo-1", 4, seed=12) == {}
    assert journalled_group(journals, "demo-2", 4, seed=11) == {}
    assert journalled_group(journals, "demo-1", 2, seed=11) == {}
    assert journalled_group(JournalIndex(tmp_path / "nowhere"), "demo-1", 4, seed=11) == {}
