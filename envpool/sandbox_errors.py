"""What can break around an agent. The agent's own failures (a non-zero exit, a command's timeout) are values, never these.

SandboxError                      retry    what happened
├── ImageMissingError             NEVER    no such image here, nor where it is pulled from
├── SandboxStartError             FRESH    one sandbox could not be started (a deadline passed, the engine refused)
├── DiskFullError                 PAUSE    no space left where sandboxes and images lie
├── SandboxUnavailableError       PAUSE    no engine answers, or the pool is closed
└── SandboxLostError              FRESH    it died under us: killed, out of memory
    ├── EngineLostError           PAUSE    the engine went away, and with it every sandbox it ran
    └── LeaseExpiredError         ONCE     the lease ended before its user did

NEVER: another try would end the same way. FRESH: at once, in a fresh sandbox. PAUSE: in a fresh sandbox after a pause, or on
another node. ONCE: as FRESH, one more time only, since what was too slow once is likely to be so again.
After the last try an episode is left out of its group and counted.
"""

import errno
from enum import Enum
from typing import ClassVar


class Retry(Enum):
    """What to do after an error; see the tree above."""

    NEVER = "never"
    FRESH = "fresh"
    PAUSE = "pause"
    ONCE = "once"

    def allows(self, num_failures: int, num_retries: int) -> bool:
        """Whether to try again after `num_failures` failures where `num_retries` are configured.

        >>> [Retry.FRESH.allows(failures, 2) for failures in (1, 2, 3)], Retry.ONCE.allows(2, 2), Retry.NEVER.allows(1, 2)
        ([True, True, False], False, False)
        """
        most = {Retry.NEVER: 0, Retry.ONCE: min(1, num_retries)}.get(self, num_retries)
        return num_failures <= most

    def pause_s(self, num_failures: int) -> float:
        """How long to wait before the next try: for PAUSE 1, 2, 4, ... at most 30 seconds.

        >>> [Retry.PAUSE.pause_s(failures) for failures in (1, 2, 3, 9)], Retry.FRESH.pause_s(3)
        ([1.0, 2.0, 4.0, 30.0], 0.0)
        """
        return min(30.0, 2.0 ** (num_failures - 1)) if self is Retry.PAUSE else 0.0


class SandboxError(RuntimeError):
    """Something around the agent broke; carries one message that says what, where and what to do."""

    retry: ClassVar[Retry] = Retry.FRESH


class ImageMissingError(SandboxError, LookupError):
    """The image does not exist where the sandbox should start."""

    retry = Retry.NEVER


class SandboxStartError(SandboxError):
    """A sandbox could not be started in time."""


class DiskFullError(SandboxError):
    """No space is left where the sandboxes or their images lie."""

    retry = Retry.PAUSE


class SandboxUnavailableError(SandboxError):
    """No engine answers or the pool is closed."""

    retry = Retry.PAUSE


class SandboxLostError(SandboxError, ConnectionError):
    """A running sandbox is gone."""


class EngineLostError(SandboxLostError):
    """The engine that ran the sandbox does not answer any more."""

    retry = Retry.PAUSE


class LeaseExpiredError(SandboxLostError):
    """The sandbox was taken back because its lease ended."""

    retry = Retry.ONCE


def retry_rule(error: BaseException) -> Retry:
    """The rule of any error; what is no SandboxError (a broken policy) is tried afresh."""
    rule = getattr(error, "retry", Retry.FRESH)
    return rule if isinstance(rule, Retry) else Retry.FRESH


def means_disk_full(error: BaseException) -> bool:
    """Whether an error, or one of its causes, says that no space is left.

    >>> [means_disk_full(OSError(errno.ENOSPC, "full")), means_disk_full(OSError("write: no space left on device"))]
    [True, True]
    >>> means_disk_full(OSError(errno.EBADF, "Bad file descriptor"))
    False
    """
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError) and seen.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        if "no space left on device" in str(seen).lower():
            return True
        seen = seen.__cause__
    return False
