"""The parts of a fleet are started once for all who ask, whoever of them is cancelled; a failed start may be tried again."""

import asyncio
from pathlib import Path

import pytest

from cluster.fleet import Fleet
from cluster.run_folder import RunFolder
from configs.run_config import RunConfig


class Part:
    """A part whose start waits for `ready` and fails with the next of `errors`, and whose end fails with `ending`."""

    def __init__(self, *errors: Exception, ending: Exception | None = None) -> None:
        self.ready = asyncio.Event()
        self.errors, self.ending = list(errors), ending
        self.begun, self.closed = 0, 0

    async def start(self) -> "Part":
        self.begun += 1
        await self.ready.wait()
        if self.errors:
            raise self.errors.pop(0)
        return self

    async def close(self) -> None:
        self.closed += 1
        if self.ending is not None:
            raise self.ending


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    config = RunConfig(runs_dir=str(tmp_path))
    return Fleet(config, RunFolder.create(config))


async def test_who_is_cancelled_during_a_start_cancels_it_for_nobody_else(fleet: Fleet) -> None:
    part = Part()
    gone, stays = (asyncio.create_task(fleet._once("part", part.start)) for _ in range(2))
    await asyncio.sleep(0)
    gone.cancel()
    await asyncio.wait([gone])
    part.ready.set()
    assert await asyncio.wait_for(stays, 10) is part
    assert await fleet._once("part", part.start) is part
    assert part.begun == 1


async def test_who_is_cancelled_just_as_a_start_succeeds_leaves_it_there(fleet: Fleet) -> None:
    part = Part()
    gone = asyncio.create_task(fleet._once("part", part.start))
    await asyncio.sleep(0)
    part.ready.set()
    await asyncio.wait([fleet._starting["part"]])
    gone.cancel()
    await asyncio.wait([gone])
    assert await fleet._once("part", part.start) is part
    assert part.begun == 1


async def test_a_failed_start_raises_for_all_who_wait_and_is_begun_again_for_the_next(fleet: Fleet) -> None:
    part = Part(OSError("no memory"))
    part.ready.set()
    both = await asyncio.gather(*(fleet._once("part", part.start) for _ in range(2)), return_exceptions=True)
    assert [str(outcome) for outcome in both] == ["no memory"] * 2
    assert await fleet._once("part", part.start) is part
    assert part.begun == 2


async def test_a_start_that_failed_in_the_background_raises_for_the_first_who_asks(fleet: Fleet) -> None:
    part = Part(OSError("no memory"))
    part.ready.set()
    await asyncio.wait([fleet._begin("part", part.start)])
    with pytest.raises(OSError, match="no memory"):
        await fleet._once("part", part.start)
    assert part.begun == 1


async def test_every_part_is_closed_and_what_fails_is_logged(fleet: Fleet, caplog: pytest.LogCaptureFixture) -> None:
    hung, whole, dead = Part(ending=RuntimeError("a rank does not end")), Part(), Part(OSError("no memory"))
    for name, part in (("learner", hung), ("workers", whole), ("engines", dead)):
        part.ready.set()
        await asyncio.wait([fleet._begin(name, part.start)])
    await fleet.close()
    await fleet.close()
    assert (hung.closed, whole.closed, dead.closed) == (1, 1, 0)
    assert "learner did not start or did not end cleanly: RuntimeError('a rank does not end')" in caplog.text
    assert "engines did not start or did not end cleanly: OSError('no memory')" in caplog.text
