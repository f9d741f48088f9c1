"""Images of an engine: pulled once through a mirror, kept within a disk budget, the least recently used removed first.

What was pulled here, and when it was last used, is written on the engine itself, as a second tag of the image
(`swe-master-cache/<digest of its name>:<seconds since 1970>`). So it survives crashes, all workers of a node share it, and an
image that somebody else brought is never removed.
"""

import asyncio
import hashlib
import logging
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from docker.errors import APIError, ImageNotFound, NotFound

from envpool.sandbox_errors import (
    DiskFullError,
    ImageMissingError,
    SandboxStartError,
    SandboxUnavailableError,
    means_disk_full,
)
from envpool.sandbox_parts.docker_engine import ENGINE_ERRORS

logger = logging.getLogger(__name__)

CACHE = "swe-master-cache"
PULLS_AT_ONCE = 8
TOUCH_S = 60
"""A use is written down at most this often."""
GIB = 2**30
MISSING = ("not found", "manifest unknown", "does not exist", "access denied", "name unknown", "no such image")


@dataclass(frozen=True)
class CachedImage:
    """An image that was pulled here. `names` are all that it is called, the cache's tag among them."""

    image_id: str
    used_at: int
    names: tuple[str, ...]


class DockerImages:
    """`ensure` makes an image be there, `shrink` removes what is over `budget_gib` (0: no limit).

    `mirror` (host:port, or host:port/path) is asked first, the image's own registry after it. A pull takes minutes, so it has
    threads of its own.
    """

    def __init__(self, client: Any, mirror: str = "", budget_gib: float = 0.0) -> None:
        self._client, self._mirror, self._budget_gib = client, mirror.strip("/"), budget_gib
        self._threads = ThreadPoolExecutor(PULLS_AT_ONCE, thread_name_prefix="pull")
        self._ensuring: dict[str, asyncio.Future[None]] = {}

    async def ensure(self, reference: str) -> None:
        """Pull the image unless it is there, and note its use; members of a group that ask at once pull it once, and one that
        is cancelled leaves the pull to the others.

        Raises ImageMissingError when no registry has it, DiskFullError, SandboxStartError when no registry answers, and
        SandboxUnavailableError once this is closed.
        """
        ensuring = self._ensuring.get(reference)
        try:
            if ensuring is None:
                ensuring = asyncio.wrap_future(self._threads.submit(self._ensure, reference))
                self._ensuring[reference] = ensuring
                ensuring.add_done_callback(lambda _: self._ensuring.pop(reference))
            await asyncio.shield(ensuring)
        except (asyncio.CancelledError, RuntimeError) as error:
            closed = ensuring is None or ensuring.cancelled()  # no thread takes it, or none took it before `close`
            if not closed:
                raise
            raise SandboxUnavailableError(f"the Docker backend is closed, {reference} is not pulled") from error

    def close(self) -> None:
        """What waits for a thread is given up; a pull that has begun ends by itself."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _ensure(self, reference: str) -> None:
        if not self._is_here(reference):
            self._pull(reference)
            self.shrink(spared=reference)
        self._touch(reference)

    def shrink(self, spared: str = "") -> list[str]:
        """Remove the least recently used cached images until all layers fit the budget; the removed images' ids.

        An image that a container uses stays, and so does `spared`.
        """
        removed: list[str] = []
        if self._budget_gib <= 0:
            return removed
        for image in sorted(self.cached(), key=lambda image: image.used_at):
            if self._client.df()["LayersSize"] <= self._budget_gib * GIB:
                break
            if _full_name(spared) in image.names:
                continue
            if self._remove(image):
                removed.append(image.image_id)
        return removed

    def cached(self) -> list[CachedImage]:
        """All images that were pulled here."""
        found = []
        for image in self._client.images():
            names = tuple(image.get("RepoTags") or ())
            times = [int(name.rpartition(":")[2]) for name in names if name.startswith(f"{CACHE}/")]
            if times:
                found.append(CachedImage(image["Id"], max(times), names))
        return found

    def _is_here(self, reference: str) -> bool:
        try:
            self._client.inspect_image(reference)
        except ImageNotFound:
            return False
        return True

    def _pull(self, reference: str) -> None:
        sources = [f"{self._mirror}/{_path(reference)}"] if self._mirror else []
        failures = []
        for source in (*sources, reference):
            repository, _, tag = _full_name(source).rpartition(":")
            try:
                for event in self._client.pull(repository, tag=tag, stream=True, decode=True):
                    if "error" in event:  # a failure after the first bytes does not raise
                        raise OSError(event["error"])
            except ENGINE_ERRORS as error:
                if means_disk_full(error):
                    what = f"no space is left to pull {reference}; free some, or lower sandbox.image_budget_gib"
                    raise DiskFullError(f"{what}: {error}") from error
                failures.append(f"{source}: {error}")
                continue
            if source != reference:
                wanted, _, wanted_tag = _full_name(reference).rpartition(":")
                self._client.tag(source, wanted, wanted_tag)
                self._client.remove_image(source, noprune=True)
            self._client.tag(reference, _cache_name(reference), str(int(time.time())))
            return
        why = "; ".join(failures)
        if any(word in failures[-1].lower() for word in MISSING):
            raise ImageMissingError(f"no registry has the image {reference!r}: {why}")
        raise SandboxStartError(f"the image {reference!r} cannot be pulled: {why}")

    def _touch(self, reference: str) -> None:
        """Note a use of an image that was pulled here."""
        ours, now = f"{_cache_name(reference)}:", int(time.time())
        names = self._client.inspect_image(reference).get("RepoTags") or ()
        old = [name for name in names if name.startswith(ours) and int(name.rpartition(":")[2]) < now - TOUCH_S]
        if old:
            self._client.tag(reference, ours.rstrip(":"), str(now))
            for name in old:
                with suppress(NotFound):  # another worker was faster
                    self._client.remove_image(name, noprune=True)

    def _remove(self, image: CachedImage) -> bool:
        """Remove by every name, the cache's last: what fails half-way is still known as ours."""
        if self._client.containers(all=True, filters={"ancestor": image.image_id}):
            return False
        for name in sorted(image.names, key=lambda name: name.startswith(f"{CACHE}/")):
            try:
                self._client.remove_image(name)
            except NotFound:
                continue
            except APIError as error:
                logger.warning("the image %s is over the disk budget, but cannot be removed: %s", name, error)
                return False
        return True


def _full_name(reference: str) -> str:
    """With its tag.

    >>> _full_name("localhost:5000/a/b"), _full_name("a:1"), _full_name("")
    ('localhost:5000/a/b:latest', 'a:1', '')
    """
    has_tag = ":" in reference.rpartition("/")[2]
    return reference if has_tag or not reference else f"{reference}:latest"


def _path(reference: str) -> str:
    """What a mirror of Docker Hub calls it, without its registry.

    >>> _path("swebench/django:1"), _path("python:3.12"), _path("ghcr.io/org/image")
    ('swebench/django:1', 'library/python:3.12', 'org/image')
    """
    first, slash, rest = reference.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost"):
        return rest
    return reference if slash else f"library/{reference}"


def _cache_name(reference: str) -> str:
    return f"{CACHE}/{hashlib.sha256(_full_name(reference).encode()).hexdigest()[:24]}"
