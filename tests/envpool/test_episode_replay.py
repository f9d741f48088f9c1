from pathlib import Path

import numpy as np
import pytest

from configs.rollout_config import EpisodeConfig
from configs.sandbox_config import SandboxConfig
from envpool.action_format import ToolCall, render_action
from envpool.episode import run_episode
from envpool.episode_replay import ReplayedGroup, journalled_group
from envpool.image_cache import FolderImages
from envpool.policy import Generate
from envpool.problem import Problem
from envpool.sandboxes.process_sandbox import ProcessBackend
from envpool.trajectory import Trajectory, Turn
from envpool.turn_journal import TurnJournal
from tests.envpool.agent_doubles import CHAT, LinePolicy


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


class DiesError(Exception):
    """The worker's end."""


async def play(images: FolderImages, image: str, policy: Generate, journal: TurnJournal, dies_after: int = 99) -> Trajectory:
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
            sample_index=2, policy_name="lines", temperature=0.7, seed=11, on_turn=on_turn,
        )  # fmt: skip
    finally:
        await backend.close()


def written(trajectory: Trajectory) -> list[tuple[list[int], list[int], list[float], str]]:
    return [
        (turn.context_ids.tolist(), turn.completion_ids.tolist(), np.nan_to_num(turn.rollout_logprobs).tolist(), turn.observation)
        for turn in trajectory.turns
    ]


async def test_an_episode_goes_on_where_its_worker_died(images: FolderImages, calc_image: str, tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    with TurnJournal(tmp_path / "undisturbed.jsonl") as journal:
        whole = await play(images, calc_image, LinePolicy(CHAT, LINES), journal)
    with TurnJournal(path) as journal, pytest.raises(DiesError):
        await play(images, calc_image, LinePolicy(CHAT, LINES), journal, dies_after=3)

    turns = journalled_group([path, tmp_path / "undisturbed.jsonl"][:1], "demo-1", group_size=4, seed=11)
    assert {index: len(found) for index, found in turns.items()} == {2: 3}
    rest = LinePolicy(CHAT, LINES[3:])  # the policy is asked for what is missing, and for nothing else
    replayed = ReplayedGroup(turns, "demo-1", 11, rest)
    with TurnJournal(path) as journal:
        resumed = await play(images, calc_image, replayed, journal)
    assert (replayed.num_replayed, len(rest.requests)) == (3, 2)
    assert written(resumed) == written(whole)
    assert resumed.turns[2].observation.split() == ["kept", "/testbed/pkg"]
    assert resumed.patch == whole.patch
    assert resumed.patch.files == ("calc.py", "pkg/new.txt")
    assert len(journalled_group([path], "demo-1", 4, 11)[2]) == 5


async def test_a_turn_that_comes_out_differently_ends_the_replay(images: FolderImages, calc_image: str, tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    lines = [bash("ls"), bash("echo $RANDOM$RANDOM$RANDOM"), bash("ls pkg"), LINES[-1]]
    with TurnJournal(path) as journal, pytest.raises(DiesError):
        await play(images, calc_image, LinePolicy(CHAT, lines), journal, dies_after=3)
    policy = LinePolicy(CHAT, [bash("pwd"), LINES[-1]])
    replayed = ReplayedGroup(journalled_group([path], "demo-1", 4, 11), "demo-1", 11, policy)
    with TurnJournal(path) as journal:
        resumed = await play(images, calc_image, replayed, journal)
    assert (replayed.num_replayed, len(policy.requests)) == (2, 2)
    assert [turn.text for turn in resumed.turns] == [*lines[:2], bash("pwd"), lines[-1]]


async def test_other_playings_of_the_task_are_not_resumed(images: FolderImages, calc_image: str, tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    with TurnJournal(path) as journal:
        await play(images, calc_image, LinePolicy(CHAT, LINES), journal)
    assert journalled_group([path], "demo-1", 4, seed=12) == {}
    assert journalled_group([path], "demo-2", 4, seed=11) == {}
    assert journalled_group([path], "demo-1", 2, seed=11) == {}
    assert journalled_group([], "demo-1", 4, seed=11) == {}
