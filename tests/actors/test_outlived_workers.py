"""Rollout workers that die or lose their sandboxes under a call, without Ray: scripted handles raise what Ray raises."""

from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import pytest
from ray.exceptions import RayActorError, RayTaskError

from actors.group_request import GroupRequest
from actors.rollout_worker import RolloutWorker, WorkerNotStartedError
from actors.rollout_workers import GROUP_TRIES, RolloutWorkers
from envpool.policy import PolicyError
from envpool.pool.image_affinity import preferred_nodes
from envpool.sandbox_errors import ImageMissingError, SandboxError, SandboxLostError, SandboxUnavailableError
from tests.verifier.small_repo import TASK
from verifier.patch_signals import PatchSignals
from verifier.reward import Group

SEEN = [PatchSignals(existing_tests=1.0)]
GROUP = Group(TASK.instance_id, (), ())


def remote(error: Exception) -> BaseException:
    """As it comes out of an actor."""
    found: BaseException = RayTaskError("try_patches", "Traceback", error).as_instanceof_cause()
    return found


class ScriptedHandle:
    """Answers calls from a list; an exception is raised."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[Any, ...]] = []
        self.started: list[tuple[Any, ...]] = []
        self.try_patches = self.play_group = SimpleNamespace(remote=self._answer)
        self.is_started = SimpleNamespace(remote=lambda: self._value(False))
        self.start = SimpleNamespace(remote=self._start)

    async def _value(self, value: Any) -> Any:
        return value

    async def _answer(self, *arguments: Any) -> Any:
        self.asked.append(arguments)
        answer = self.answers.pop(0)
        if isinstance(answer, BaseException):
            raise answer
        return answer

    async def _start(self, *arguments: Any) -> None:
        self.started.append(arguments)


def crew(*handles: ScriptedHandle) -> RolloutWorkers:
    return RolloutWorkers(list(handles), [("settings",)] * len(handles))


def try_patches(workers: RolloutWorkers) -> Awaitable[list[PatchSignals]]:
    return workers.try_patches(TASK.problem, TASK.preparation, ("diff",))


def play_group(workers: RolloutWorkers) -> Awaitable[Group]:
    return workers.play_group(GroupRequest(TASK, "engine", 2, 1.0, 7))


@pytest.mark.parametrize(("call", "answer"), [(try_patches, SEEN), (play_group, GROUP)])
async def test_a_dead_worker_is_revived_and_asked_again(call: Callable[[RolloutWorkers], Awaitable[Any]], answer: Any) -> None:
    handle = ScriptedHandle(RayActorError(), remote(WorkerNotStartedError("fresh")), answer)
    workers = crew(handle)
    assert await call(workers) == answer
    assert handle.started == [("settings",), ("settings",)]
    assert workers._load == [0]


async def test_a_group_goes_on_from_the_journal_only_after_a_death() -> None:
    handle = ScriptedHandle(remote(SandboxUnavailableError("away")), RayActorError(), GROUP)
    await play_group(crew(handle))
    assert [request.resume for (request,) in handle.asked] == [False, False, True]


async def test_patches_are_tried_on_another_node_when_an_engine_is_away() -> None:
    first, second = preferred_nodes(TASK.problem.image, 2)
    handles = [ScriptedHandle(), ScriptedHandle()]
    handles[first].answers, handles[second].answers = [remote(SandboxUnavailableError("away"))], [SEEN]
    assert await try_patches(crew(*handles)) == SEEN


async def test_a_lost_sandbox_is_tried_again_and_a_missing_image_is_not() -> None:
    assert await try_patches(crew(ScriptedHandle(remote(SandboxLostError("killed")), SEEN))) == SEEN
    with pytest.raises(SandboxError, match=r"its patches could not be tried: .*no image"):
        await try_patches(crew(ScriptedHandle(remote(ImageMissingError("no image")))))


async def test_what_breaks_every_time_is_one_line_of_the_last_error() -> None:
    with pytest.raises(SandboxError, match=r"its patches could not be tried: .*killed") as error:
        await try_patches(crew(ScriptedHandle(*(remote(SandboxLostError("killed")) for _ in range(GROUP_TRIES)))))
    assert not isinstance(error.value, SandboxUnavailableError)
    away = ScriptedHandle(*(remote(SandboxUnavailableError("away")) for _ in range(GROUP_TRIES)))
    with pytest.raises(SandboxUnavailableError, match=f"failed on {GROUP_TRIES} rollout workers; the last one: .*away"):
        await try_patches(crew(away))


async def test_an_unknown_policy_is_one_line() -> None:
    with pytest.raises(PolicyError, match=r"^no policy"):
        await play_group(crew(ScriptedHandle(remote(PolicyError("no policy")))))


async def test_a_fresh_process_says_that_it_is_not_started() -> None:
    with pytest.raises(WorkerNotStartedError):
        await RolloutWorker().try_patches(TASK.problem, TASK.preparation, ())
