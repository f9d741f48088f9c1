"""Groups of episodes: played in process sandboxes, graded by real tests, with policies and backends that break."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from configs.rollout_config import RolloutConfig
from configs.verifier_config import VerifierConfig
from envpool.policy import Completion, Generate, GenerateRequest, PolicyError
from envpool.pool.sandbox_pool import SandboxPool
from envpool.sandbox_errors import SandboxStartError
from envpool.task import Task
from envpool.trajectory import StopReason, Turn
from tests.envpool.agent.agent_doubles import CHAT, LinePolicy
from tests.verifier.small_repo import FILES, TASK, process_pool
from verifier.grade_cache import GradeCache
from verifier.group_rollout import CUT, OnTurn, play_group
from verifier.reward import Group

FIX = (
    "<function=str_replace_editor>\n<parameter=command>str_replace</parameter>\n<parameter=path>calc.py</parameter>\n"
    "<parameter=old_str>a - b</parameter>\n<parameter=new_str>a {} b</parameter>\n</function>"
)
SUBMIT = "<function=submit>\n</function>"


@dataclass
class PerEpisode:
    """A policy that says other lines in every episode: the n-th session to ask gets the n-th list."""

    scripts: list[list[str]]
    sessions: dict[str, LinePolicy] = field(default_factory=dict)

    async def __call__(self, request: GenerateRequest) -> Completion:
        if request.session_id not in self.sessions:
            self.sessions[request.session_id] = LinePolicy(CHAT, self.scripts[len(self.sessions)])
        return await self.sessions[request.session_id](request)


@pytest.fixture
async def pool(tmp_path: Path) -> AsyncIterator[SandboxPool]:
    pool = process_pool(tmp_path, {"calc": FILES}, num_sandboxes=2)
    yield pool
    await pool.close()
    assert pool.active == 0


async def play(
    pool: SandboxPool,
    generate: Generate,
    group_size: int,
    *,
    task: Task = TASK,
    retries: int = 1,
    cache: GradeCache | None = None,
    on_turn: OnTurn | None = None,
    cut: asyncio.Event | None = None,
) -> Group:
    rollout = RolloutConfig(infra_retries=retries)
    rollout = replace(rollout, episode=replace(rollout.episode, max_turns=3, max_tokens=4096, max_tokens_per_turn=512))
    return await play_group(
        task,
        group_size=group_size,
        generate=generate,
        policy_name="scripted",
        pool=pool,
        chat=CHAT,
        rollout=rollout,
        verifier=VerifierConfig(),
        temperature=1.0,
        seed=0,
        cache=cache or GradeCache(),
        on_turn=on_turn,
        cut=cut,
    )


async def test_a_group_of_right_wrong_and_unfinished_episodes(pool: SandboxPool) -> None:
    policy = PerEpisode(
        [[FIX.format("+"), SUBMIT], [FIX.format("*"), SUBMIT], [FIX.format("+"), "hm", "hm"], [SUBMIT], [FIX.format("+"), SUBMIT]]
    )
    cache, turns = GradeCache(), list[tuple[int, int]]()

    def on_turn(sample: int, index: int, turn: Turn) -> None:
        turns.append((sample, index))

    group = await play(pool, policy, 5, cache=cache, on_turn=on_turn)
    assert group.lost == ()
    assert [member.trajectory.sample_index for member in group.members] == [0, 1, 2, 3, 4]
    seen = sorted(
        (m.resolved, m.reward.value, m.trajectory.stop_reason.value, m.trajectory.patch.is_empty) for m in group.members
    )
    assert seen == [
        (False, 0.0, "submitted", False),
        (False, 0.0, "submitted", True),
        (True, 0.5, "max_turns", False),
        (True, 1.0, "submitted", False),
        (True, 1.0, "submitted", False),
    ]
    assert cache.num_graded == 3  # three right patches are one, a wrong one, an empty one
    assert sorted(turns) == sorted((m.trajectory.sample_index, i) for m in group.members for i in range(len(m.trajectory.turns)))
    spent = [member.seconds for member in group.members]
    assert all(min(one.parts().values()) >= 0 for one in spent)
    assert all(sum(one.parts().values()) == pytest.approx(one.total) for one in spent)
    assert all(one.tool > 0 for one in spent if one is not spent[3])
    assert max(one.queue for one in spent) > min(one.total for one in spent) / 2  # two sandboxes for five episodes
    assert sum(cache.seconds.counts) == 3
    assert sum(pool.start_s.counts) == pool.started
    assert sum(pool.exec_s.counts) >= pool.started
    right = next(member for member in group.members if member.resolved)
    assert right.report_text.startswith("PASSED tests/hidden_test_calc.py::test_add")
    assert right.statuses == dict.fromkeys((*TASK.oracle.fail_to_pass, *TASK.oracle.pass_to_pass), "passed")
    assert right.context is not None
    assert "a + b" in right.context.files["calc.py"]


async def test_a_broken_policy_is_tried_again_and_then_lost_but_never_reward_zero(pool: SandboxPool) -> None:
    calls = 0

    async def broken(request: GenerateRequest) -> Completion:
        nonlocal calls
        calls += 1
        raise PolicyError("engine gone")

    group = await play(pool, broken, 2, retries=2)
    assert group.members == ()
    assert [(lost.sample_index, lost.error) for lost in group.lost] == [
        (0, "PolicyError: engine gone"),
        (1, "PolicyError: engine gone"),
    ]
    assert calls == 6
    assert pool.started == 6


async def test_a_timeout_inside_an_episode_is_not_taken_for_the_end_of_its_lease(pool: SandboxPool) -> None:
    calls = 0

    async def late(request: GenerateRequest) -> Completion:
        nonlocal calls
        calls += 1
        raise TimeoutError("a bug")

    with pytest.raises(TimeoutError, match="a bug"):
        await play(pool, late, 1, retries=2)
    assert calls == 1


async def test_an_episode_that_broke_once_is_played_again(pool: SandboxPool) -> None:
    good, calls = LinePolicy(CHAT, [FIX.format("+"), SUBMIT]), 0

    async def breaks_once(request: GenerateRequest) -> Completion:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise PolicyError("hiccup")
        return await good(request)

    group = await play(pool, breaks_once, 1)
    assert [member.resolved for member in group.members] == [True]
    assert group.lost == ()


@dataclass
class BreakingBackend:
    """Starts sandboxes of another backend, but fails on the starts whose numbers are given (from 0)."""

    inner: SandboxPool
    fails: set[int]
    num_starts: int = 0

    async def start(self, image: str, workdir: str) -> object:
        self.num_starts += 1
        if self.num_starts - 1 in self.fails:
            raise SandboxStartError("no room")
        return await self.inner._backend.start(image, workdir)

    async def close(self) -> None:
        await self.inner.close()


@pytest.mark.parametrize(("fails", "lost"), [({0}, 0), ({1}, 0), ({0, 1}, 1), ({1, 2}, 1)])
async def test_broken_sandboxes_of_episode_or_grading(pool: SandboxPool, fails: set[int], lost: int) -> None:
    breaking = SandboxPool(BreakingBackend(pool, fails), 1, 60.0)  # type: ignore[arg-type]
    policy = PerEpisode([[FIX.format("+"), SUBMIT]])
    group = await play(breaking, policy, 1, retries=1)
    assert (len(group.members), len(group.lost)) == (1 - lost, lost)
    assert all(member.resolved for member in group.members)


async def test_a_missing_image_is_lost_without_retries(pool: SandboxPool) -> None:
    task = replace(TASK, problem=replace(TASK.problem, image="folder:none"))
    group = await play(pool, PerEpisode([]), 1, task=task, retries=5)
    assert group.lost[0].error.startswith("ImageMissingError: ")
    assert pool.started == 0


async def test_a_bug_ends_the_group_and_closes_every_sandbox(pool: SandboxPool) -> None:
    async def buggy(request: GenerateRequest) -> Completion:
        if pool.active == 2:
            raise ZeroDivisionError("a bug")
        await asyncio.sleep(60)
        raise AssertionError("unreachable")

    with pytest.raises(ZeroDivisionError):
        await play(pool, buggy, 2)
    assert pool.active == 0


async def test_cancelling_a_group_gives_its_sandboxes_back(pool: SandboxPool) -> None:
    asked = asyncio.Event()

    async def slow(request: GenerateRequest) -> Completion:
        asked.set()
        await asyncio.sleep(60)
        raise AssertionError("unreachable")

    playing = asyncio.create_task(play(pool, slow, 3))
    async with asyncio.timeout(30):
        await asked.wait()
    playing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await playing
    assert pool.active == 0


async def test_the_reward_table_of_the_configuration_is_used(pool: SandboxPool) -> None:
    group = await play_group(
        TASK,
        group_size=1,
        generate=PerEpisode([["hm"]]),
        policy_name="scripted",
        pool=pool,
        chat=CHAT,
        rollout=replace(RolloutConfig(), episode=replace(RolloutConfig().episode, max_turns=1, max_tokens=4096)),
        verifier=VerifierConfig(reward="deepswe"),
        temperature=1.0,
        seed=0,
        cache=GradeCache(),
    )
    assert group.members[0].trajectory.stop_reason is StopReason.MAX_TURNS
    assert (group.members[0].reward.value, group.members[0].reward.train) == (0.0, False)


async def test_an_episode_goes_on_after_its_finished_turns(pool: SandboxPool) -> None:
    """The engine breaks after the fix was made: the second try makes it again without asking, and asks for the rest."""
    lines, calls, seen = LinePolicy(CHAT, [FIX.format("+"), SUBMIT]), 0, list[int]()

    async def breaks_second(request: GenerateRequest) -> Completion:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise PolicyError("hiccup")
        return await lines(request)

    group = await play(pool, breaks_second, 1, on_turn=lambda sample, index, turn: seen.append(index))
    assert ([member.resolved for member in group.members], calls, seen) == ([True], 3, [0, 1])
    assert pool.started == 3  # two for the episode, one for grading


async def test_a_group_that_is_cut_ends_with_the_members_it_has(pool: SandboxPool) -> None:
    quick, cut = LinePolicy(CHAT, [FIX.format("+"), SUBMIT]), asyncio.Event()

    async def second_hangs(request: GenerateRequest) -> Completion:
        if request.session_id.split("/")[1] == "1":
            await asyncio.sleep(1000)
        return await quick(request)

    async def cut_when_graded() -> None:
        while pool.started < 3 or pool.active > 1:  # noqa: ASYNC110 (the third sandbox is the grader's)
            await asyncio.sleep(0.05)
        await asyncio.sleep(0.5)
        cut.set()

    async with asyncio.timeout(60), asyncio.TaskGroup() as running:
        running.create_task(cut_when_graded())
        group = await play(pool, second_hangs, 2, cut=cut)
    assert [member.trajectory.sample_index for member in group.members] == [0]
    assert [(lost.sample_index, lost.error) for lost in group.lost] == [(1, CUT)]
    assert pool.active == 0


async def test_commands_that_ran_code_are_kept_with_what_they_did(pool: SandboxPool) -> None:
    run = "<function=execute_bash>\n<parameter=command>python3 test_calc.py</parameter>\n</function>"
    group = await play(pool, PerEpisode([[FIX.format("+"), run, SUBMIT]]), 1)
    (executed,) = group.members[0].executed
    assert (executed.output, executed.exit_code, executed.context.command) == ("passed\n", 0, "python3 test_calc.py")
    assert "a + b" in executed.context.code["calc.py"]
    assert executed.context.problem_statement == TASK.problem.problem_statement
