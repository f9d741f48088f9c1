"""What every actor call needs: awaiting a reference, one line out of a remote error, an actor placed in a bundle."""

from typing import Any

import ray
from ray.exceptions import RayTaskError
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy


async def arrives(ref: Any) -> Any:
    """An ObjectRef's value as a coroutine, which asyncio's timeouts and gather take."""
    return await ref


def cause_of(error: BaseException) -> str:
    """The remote exception's own first line, without Ray's traceback."""
    inner = error.cause if isinstance(error, RayTaskError) else error
    lines = [line.strip() for line in str(inner).splitlines() if line.strip()]
    return lines[0] if lines else type(inner).__name__


def make_actor(actor_class: type, placement_group: Any, bundle: int, **options: Any) -> Any:
    """An actor in one bundle of a placement group, or anywhere when that is None. `options` are Ray's."""
    if placement_group is not None:
        options["scheduling_strategy"] = PlacementGroupSchedulingStrategy(placement_group, bundle)
    return ray.remote(actor_class).options(**options).remote()
