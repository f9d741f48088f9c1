"""What the model is shown when its history is rewritten, and that the record says exactly that."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from configs.context_config import ContextConfig
from configs.episode_check import CONTEXT_POLICIES as KNOWN_POLICIES
from configs.rollout_config import EpisodeConfig
from envpool.action_format import ToolCall, render_action
from envpool.agent.context_policies import CONTEXT_POLICIES, SummarisedHistory, View, context_policy, moved
from envpool.agent.episode import run_episode
from envpool.agent.turn_journal import TurnJournal, read_journal
from envpool.policy import Completion, GenerateRequest, Message
from envpool.sandbox import ExecResult
from envpool.sandboxes.scripted_sandbox import ScriptedSandbox, said
from envpool.trajectories.trajectory_store import read_trajectories, write_trajectories
from envpool.trajectory import StopReason, Trajectory, Turn
from tests.envpool.agent.agent_doubles import CHAT
from tests.envpool.agent.test_episode import DIFF, PROBLEM
from trainers.sample_building import samples_from_trajectory

SUBMIT = render_action(ToolCall("submit", {}))
BIG = EpisodeConfig(max_turns=40, max_tokens=200_000, max_tokens_per_turn=2000)


def summing_up(interval: int = 10, recent: int = 5, **more: object) -> EpisodeConfig:
    return replace(BIG, context=replace(ContextConfig("summary", interval, recent), **more))  # type: ignore[arg-type]


def folding(interval: int = 4, recent: int = 2) -> EpisodeConfig:
    return replace(BIG, context=ContextConfig("fold", interval, recent))


def run_command(number: int) -> str:
    return render_action(ToolCall("execute_bash", {"command": f"step {number}"}))


def shell(command: str) -> ExecResult:
    return said(f"{command}: first line\nand a second one that is long enough\n" if command.startswith("step") else DIFF)


@dataclass
class Worker:
    """Calls `step 0`, `step 1`, ... and submits after `num_steps`; sums up by `summarise` when asked to."""

    num_steps: int
    summarise: Callable[[int], str] = lambda number: f"Progress: part {number}."
    cut_step: int = -1
    requests: list[GenerateRequest] = field(default_factory=list)
    prompts: list[list[int]] = field(default_factory=list)
    steps: int = 0
    asked: int = 0

    async def __call__(self, request: GenerateRequest) -> Completion:
        self.requests.append(request)
        self.prompts.append(request.prompt_ids.tolist())
        if "answer with a summary" in request.messages[-1].content:
            self.asked += 1
            text = self.summarise(self.asked)
        else:
            text = run_command(self.steps) if self.steps < self.num_steps else SUBMIT
            self.steps += 1
        ids = CHAT.completion_ids(text)
        if self.steps == self.cut_step + 1 and text != SUBMIT:
            ids = ids[:-1]
        number = len(self.requests)
        return Completion(ids, np.full(len(ids), -number / 64, np.float32), np.full(len(ids), number, np.int32), "stop")


async def play(worker: Worker, config: EpisodeConfig, **more: object) -> Trajectory:
    settings: dict[str, object] = {"sample_index": 0, "policy_name": "worker", "temperature": 1.0, "seed": 3, **more}
    return await run_episode(PROBLEM, ScriptedSandbox({}, shell), worker, CHAT, config, **settings)  # type: ignore[arg-type]


def raw_turns(request: GenerateRequest) -> list[str]:
    return [message.content for message in request.messages if message.role == "assistant"]


def test_the_papers_vectors() -> None:
    """m=10, k=5: the first summary at t=15, the second at t=25, and always 5 to 14 raw turns."""
    policy, view = SummarisedHistory(10, 5), View()
    firsts = {}
    for turns in range(41):
        view = policy(view, turns)
        firsts[turns] = view.first
    assert [turns for turns in firsts if firsts[turns] != firsts.get(turns - 1, 0)] == [15, 25, 35]
    assert {turns - firsts[turns] for turns in range(5, 41)} == set(range(5, 15))


@given(st.integers(1, 12), st.integers(1, 8), st.integers(0, 120))
def test_the_number_of_summaries_is_the_papers(interval: int, recent: int, turns: int) -> None:
    first = 0
    for turn in range(turns + 1):
        first = moved(first, turn, interval, recent)
    assert first == max((turns - recent) // interval, 0) * interval


def test_policies_are_those_that_the_configuration_knows() -> None:
    assert tuple(CONTEXT_POLICIES) == KNOWN_POLICIES
    with pytest.raises(ValueError, match=r"no such context policy 'none'; known: full, summary, fold"):
        context_policy(ContextConfig(policy="none"))


async def test_summaries_take_the_place_of_old_turns() -> None:
    worker = Worker(26)
    trajectory = await play(worker, summing_up())
    assert trajectory.stop_reason is StopReason.SUBMITTED
    assert (trajectory.num_turns, len(trajectory.turns), worker.asked) == (27, 29, 2)
    assert [index for index, turn in enumerate(trajectory.turns) if turn.summary] == [15, 26]
    assert [index for index, turn in enumerate(trajectory.turns) if turn.restart] == [16, 27]
    before, asking, after = worker.requests[14:17]
    assert raw_turns(before) == [run_command(number) for number in range(14)]
    assert asking.messages[-1].content.startswith("Do not act now: answer with a summary of your turns 1 to 10 and no tool call.")
    assert after.messages[:2] == (
        Message("user", PROBLEM.problem_statement),
        Message("user", '<summary turns="1-10">\nProgress: part 1.\n</summary>'),
    )
    assert raw_turns(after) == [run_command(number) for number in range(10, 15)]
    assert after.messages[-1].content.startswith("step 14: first line")
    last = worker.requests[-1]
    assert [message.content.split("\n")[0] for message in last.messages[:3]] == [
        PROBLEM.problem_statement, '<summary turns="1-10">', '<summary turns="11-20">',
    ]  # fmt: skip
    assert raw_turns(last) == [run_command(number) for number in range(20, 26)]


def check_record(worker: Worker, trajectory: Trajectory, logs: bool = True) -> None:
    """Every prompt is the record's tokens since the last restart, every request says the same as messages and as ids, and the
    training samples are these tokens with loss once on each sampled one."""
    assert len(worker.prompts) == len(trajectory.turns)
    shown: list[int] = []
    for prompt, request, turn in zip(worker.prompts, worker.requests, trajectory.turns, strict=True):
        shown = turn.context_ids.tolist() if turn.restart else shown + turn.context_ids.tolist()
        assert prompt == shown == request.prompt_ids.tolist()  # and later appending has not changed what was handed out
        shown = shown + turn.completion_ids.tolist()
        if worker.cut_step < 0:
            assert CHAT.prompt_ids(request.messages).tolist() == prompt
    samples = samples_from_trajectory(trajectory, 2.0, True)
    assert len(samples) == len(trajectory.samples) == 1 + sum(turn.restart for turn in trajectory.turns)
    joined = [[*prompt, *turn.completion_ids] for prompt, turn in zip(worker.prompts, trajectory.turns, strict=True)]
    ends = [index - 1 for index, turn in enumerate(trajectory.turns) if turn.restart] + [len(joined) - 1]
    assert [sample.token_ids.tolist() for sample in samples] == [[int(token) for token in joined[end]] for end in ends]
    trained = [int(version) for sample in samples for version in sample.policy_versions[sample.loss_mask == 1]]
    expected = [version for turn in trajectory.turns if turn.train for version in turn.policy_versions.tolist()]
    assert trained == expected
    assert {sample.trajectory_tokens for sample in samples} == ({0} if len(samples) == 1 else {len(expected)})
    assert trajectory.num_tokens == sum(len(sample.token_ids) for sample in samples)


@pytest.mark.parametrize(
    "config",
    [BIG, summing_up(), summing_up(3, 1), summing_up(train_summary=True), folding(), folding(1, 1)],
    ids=["full", "summary", "small summaries", "trained summaries", "fold", "fold each turn"],
)
@pytest.mark.parametrize("cut_step", [-1, 6])
async def test_samples_hold_the_tokens_that_were_shown(config: EpisodeConfig, cut_step: int) -> None:
    worker = Worker(26, cut_step=cut_step)
    check_record(worker, await play(worker, config))


async def test_loss_on_summaries_is_a_choice() -> None:
    for train in (False, True):
        trajectory = await play(Worker(16), summing_up(train_summary=train))
        summary = trajectory.turns[15]
        assert (summary.summary, summary.train) == (True, train)
        first, _ = samples_from_trajectory(trajectory, 1.0, True)
        assert bool(first.loss_mask[-len(summary.completion_ids) :].any()) is train


async def test_old_outputs_are_folded_in_steps() -> None:
    worker = Worker(12)
    trajectory = await play(worker, folding(4, 2))
    assert [index for index, turn in enumerate(trajectory.turns) if turn.restart] == [6, 10]
    seventh = worker.requests[6]
    assert raw_turns(seventh) == [run_command(number) for number in range(6)]
    outputs = [message.content for message in seventh.messages if message.role == "tool"]
    assert outputs[:4] == ["[output of 2 lines left out]"] * 4
    assert [output.split(":")[0] for output in outputs[4:]] == ["step 4", "step 5"]
    assert worker.prompts[7][: len(worker.prompts[6])] == worker.prompts[6]  # the prefix holds until the next folding
    assert trajectory.turns[0].observation.startswith("step 0: first line")  # the record keeps what the tool said


async def test_folding_short_outputs_changes_nothing() -> None:
    def quiet(command: str) -> ExecResult:
        return said("ok\n" if command.startswith("step") else DIFF)

    trajectory = await run_episode(
        PROBLEM, ScriptedSandbox({}, quiet), Worker(12), CHAT, folding(4, 2),
        sample_index=0, policy_name="worker", temperature=1.0, seed=3,
    )  # fmt: skip
    assert not any(turn.restart for turn in trajectory.turns)


@pytest.mark.parametrize("text", ["", "  \n", "<think>hm</think>", SUBMIT, f"Progress: none. {run_command(0)}"])
async def test_without_a_summary_the_history_stays_and_it_is_tried_again_later(text: str) -> None:
    worker = Worker(30, summarise=lambda number: text if number == 1 else "Progress: all.")
    trajectory = await play(worker, summing_up())
    assert worker.asked == 3  # after 15 turns in vain, after 25, and at once for the ten turns after those
    assert [index for index, turn in enumerate(trajectory.turns) if turn.summary] == [25, 27]
    assert raw_turns(worker.requests[16]) == [run_command(number) for number in range(15)]
    assert [len(part) for part in trajectory.samples] == [26, 2, 5]
    assert '<summary turns="1-10">' in worker.requests[-1].messages[1].content


async def test_a_summary_has_a_deadline() -> None:
    class Slow(Worker):
        async def __call__(self, request: GenerateRequest) -> Completion:
            if "answer with a summary" in request.messages[-1].content:
                await asyncio.Event().wait()
            return await super().__call__(request)

    worker = Slow(16)
    trajectory = await play(worker, summing_up(summary_timeout_s=0.05))
    assert (trajectory.stop_reason, len(trajectory.samples)) == (StopReason.SUBMITTED, 1)
    check_record(worker, trajectory)


async def test_budgets_count_every_token_once_and_the_context_what_is_shown() -> None:
    whole = await play(Worker(26), BIG)
    used = whole.num_tokens
    worker = Worker(26)
    tight = replace(summing_up(), max_context_tokens=used * 4 // 5)
    trajectory = await play(worker, tight)
    assert trajectory.stop_reason is StopReason.SUBMITTED  # the same episode with the full history would not fit
    assert (await play(Worker(26), replace(BIG, max_context_tokens=used * 4 // 5))).stop_reason is StopReason.CONTEXT_FULL
    extra = 0  # the request for each summary, and the summary
    for index in (15, 26):
        summary, answer = trajectory.turns[index], trajectory.turns[index - 1].observation
        extra += len(summary.context_ids) - len(CHAT.observation_ids(answer)) + len(summary.completion_ids)
    last = trajectory.turns[-1]
    exact = replace(summing_up(), max_tokens=used + extra)
    worker = Worker(26)
    assert (await play(worker, exact)).stop_reason is StopReason.SUBMITTED_LAST_TOKENS
    assert worker.requests[-1].max_tokens == len(last.completion_ids)


class DiesError(Exception):
    """The worker's end."""


@pytest.mark.parametrize("config", [summing_up(3, 2), folding(3, 2)], ids=["summary", "fold"])
@pytest.mark.parametrize("dies_after", [5, 6, 7, 12])
async def test_a_broken_episode_goes_on_from_its_journal(config: EpisodeConfig, dies_after: int, tmp_path: Path) -> None:
    whole = await play(Worker(14), config)
    path = tmp_path / "journal.jsonl"
    with TurnJournal(path) as journal:

        def on_turn(index: int, turn: Turn) -> None:
            journal.append("demo-1", 0, index, turn, seed=3)
            if index + 1 == dies_after:
                raise DiesError

        with pytest.raises(DiesError):
            await play(Worker(14), config, on_turn=on_turn)
    recorded = tuple(entry.turn for entry in read_journal(path))
    summaries = sum(turn.summary for turn in recorded)
    rest = Worker(14, steps=len(recorded) - summaries, summarise=lambda number: f"Progress: part {number + summaries}.")
    resumed = await play(rest, config, recorded=recorded)
    assert len(rest.requests) == len(whole.turns) - dies_after
    assert [describe(turn) for turn in resumed.turns] == [describe(turn) for turn in whole.turns]


def describe(turn: Turn) -> tuple[list[int], list[int], str, bool, bool, bool]:
    return turn.context_ids.tolist(), turn.completion_ids.tolist(), turn.observation, turn.restart, turn.summary, turn.train


async def test_files_keep_restarts_and_summaries(tmp_path: Path) -> None:
    trajectory = await play(Worker(16), summing_up())
    path = tmp_path / "one.parquet"
    write_trajectories(path, [(trajectory, {})])
    ((read, _),) = read_trajectories(path)
    assert [describe(turn) for turn in read.turns] == [describe(turn) for turn in trajectory.turns]
    assert [len(part) for part in read.samples] == [16, 2]
