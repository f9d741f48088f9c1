"""Rollout workers that die or lose their sandboxes under a call, without Ray: scripted handles raise what Ray raises."""

import asyncio
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import pytest
from ray.exceptions import ActorUnavailableError, RayActorError, RayError, RayTaskError, WorkerCrashedError

from actors import rollout_workers
from actors.group_request import GroupRequest
from actors.rollout_worker import RolloutWorker, WorkerNotStartedError
from actors.rollout_workers import GROUP_TRIES, RolloutWorkers
from envpool.policy import PolicyError
from envpool.pool.image_affinity import preferred_nodes
from envpool.sandbox_errors import ImageMissingError, SandboxError, SandboxLostError, SandboxUnavailableError
from tests.verifier.small_repo import TASK
from trainers.rollout_window import INFRASTRUCTURE
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


class Process:
    """A worker process as its handle's driver meets it: what it was told, and what the next calls of a method raise. A call of
    `play_group` ends like one of a worker that is not started, or without the policy, as long as that is so."""

    def __init__(self, **broken: list[BaseException]) -> None:
        self.calls: list[str] = []
        self.broken, self.is_set_up = broken, False

    def __getattr__(self, method: str) -> Any:
        async def call(*arguments: Any) -> Any:
            self.calls.append(method)
            if method == "start":
                self.is_set_up = True
            if self.broken.get(method):
                raise self.broken[method].pop(0)
            if method == "is_started":
                return self.is_set_up
            if method == "play_group":
                if not self.is_set_up:
                    raise remote(WorkerNotStartedError("fresh"))
                return GROUP
            return None

        return SimpleNamespace(remote=call)


@pytest.fixture
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rollout_workers, "REVIVE_PAUSE_S", 0.0)


@pytest.mark.parametrize("error", [ActorUnavailableError("a lost message", None), RayActorError()])
@pytest.mark.parametrize("method", ["connect", "connect_world_model"])
async def test_a_revived_worker_is_up_only_when_it_is_connected(short_pauses: None, method: str, error: RayActorError) -> None:
    """It starts, the message that connects it is lost; then it is started already and must be connected all the same."""
    process: Any = Process(**{method: [error]})
    workers = RolloutWorkers([process], [("settings",)])
    workers._engines, workers._world_model = ["engine"], (["world"], {})
    assert await asyncio.wait_for(play_group(workers), 10) == GROUP
    assert process.calls[-1] == "play_group"
    assert process.calls[process.calls.index(method) + 1 :].count(method) == 1
    assert workers._reviving == {}


async def test_a_worker_that_hangs_while_it_is_connected_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    async def hangs(*arguments: Any) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(rollout_workers, "START_S", 0.05)
    workers = RolloutWorkers([SimpleNamespace(connect=SimpleNamespace(remote=hangs))], [()])
    with pytest.raises(SandboxUnavailableError, match=r"rollout worker 0 did not connect within 0.05 s"):
        await asyncio.wait_for(workers.connect(["engine"]), 10)


async def test_a_bug_that_ends_a_revival_is_raised_where_a_worker_is_wanted(short_pauses: None) -> None:
    process: Any = Process(is_started=[IndexError("a bug")], play_group=[RayActorError()])
    workers = RolloutWorkers([process], [("settings",)])
    for _ in range(2):
        with pytest.raises(IndexError, match="a bug"):
            await asyncio.wait_for(play_group(workers), 10)


async def test_closed_workers_say_so_also_to_a_group_that_they_took_along() -> None:
    async def dies(*arguments: Any) -> None:
        workers.handles = []  # as close does first
        raise RayActorError

    workers = RolloutWorkers([SimpleNamespace(play_group=SimpleNamespace(remote=dies))], [()])
    for _ in range(2):
        with pytest.raises(SandboxUnavailableError, match="the rollout workers are closed"):
            await asyncio.wait_for(play_group(workers), 10)


async def test_what_ray_loses_is_infrastructure_and_a_bug_of_a_worker_is_not() -> None:
    """As trainers.rollout_window sees a group's error."""
    lost: list[BaseException] = [
        WorkerCrashedError(),
        RayError("the object store is full"),
        remote(ImageMissingError("no image")),
        remote(OSError(28, "no space left")),
        remote(PolicyError("refused")),
    ]
    for error in lost:
        with pytest.raises(INFRASTRUCTURE):
            await play_group(crew(ScriptedHandle(error)))
    with pytest.raises(KeyError, match="Traceback") as raised:
        await play_group(crew(ScriptedHandle(remote(KeyError("label")))))
    assert not isinstance(raised.value, INFRASTRUCTURE)


async def test_a_fresh_process_says_that_it_is_not_started() -> None:
    with pytest.raises(WorkerNotStartedError):
        await RolloutWorker().try_patches(TASK.problem, TASK.preparation, ())
