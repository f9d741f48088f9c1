"""Whose fault a failed request is. The text of an error crosses the mailbox; whether another try may help goes with it."""

from dataclasses import dataclass

from envpool.policy import PolicyError


class EngineUnavailableError(PolicyError):
    """The engine died, hung, restarts or dropped the request: the same request may well succeed on another try."""


@dataclass(frozen=True)
class Failure:
    """A PolicyError on its way to the caller."""

    text: str
    may_retry: bool

    @classmethod
    def of(cls, error: BaseException) -> "Failure":
        """
        >>> Failure.of(PolicyError("vLLM refused a prompt of 2100 tokens"))
        Failure(text='vLLM refused a prompt of 2100 tokens', may_retry=False)
        """
        text = str(error) if isinstance(error, PolicyError) else f"{type(error).__name__}: {error}"
        return cls(text or type(error).__name__, isinstance(error, EngineUnavailableError))

    def as_error(self) -> PolicyError:
        """The exception again."""
        return EngineUnavailableError(self.text) if self.may_retry else PolicyError(self.text)
