"""What can break around an agent. The agent's own failures are values, never these.

SandboxError                 retried in a fresh sandbox, then the episode is left out of its group and counted
├── ImageMissingError        not retried: no such image here
├── SandboxStartError        the engine could not start one (also TimeoutError-like: a deadline passed)
├── SandboxLostError         it died under us: killed, out of memory, daemon gone
└── SandboxUnavailableError  no engine answers, or the pool is closed
"""


class SandboxError(RuntimeError):
    """Something around the agent broke; carries one message that says what, where and what to do."""


class ImageMissingError(SandboxError, LookupError):
    """The image does not exist where the sandbox should start."""


class SandboxStartError(SandboxError):
    """A sandbox could not be started in time."""


class SandboxLostError(SandboxError, ConnectionError):
    """A running sandbox is gone."""


class SandboxUnavailableError(SandboxError):
    """No engine answers or the pool is closed."""
