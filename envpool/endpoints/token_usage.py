"""What asking an endpoint took, in its own tokens and in money; a ledger that outlives the process that asked."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

MILLION = 1_000_000


@dataclass(frozen=True)
class TokenPrices:
    """US dollars per million tokens. `cached` is for prompt tokens that the endpoint had from earlier requests."""

    prompt: float = 0.0
    cached: float = 0.0
    completion: float = 0.0

    def cost_usd(self, prompt_tokens: int, cached_tokens: int, completion_tokens: int) -> float:
        """`cached_tokens` are part of `prompt_tokens`.

        >>> TokenPrices(prompt=2.0, cached=0.5, completion=8.0).cost_usd(1_000_000, 600_000, 100_000)
        1.9
        """
        fresh = prompt_tokens - cached_tokens
        return round((fresh * self.prompt + cached_tokens * self.cached + completion_tokens * self.completion) / MILLION, 9)


@dataclass
class TokenUsage:
    """What was asked for so far, in the endpoint's own tokens (as it reports them)."""

    requests: int = 0
    retries: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    cost_usd: float = 0.0


@dataclass(frozen=True)
class AnswerUsage:
    """One answer's tokens, as the endpoint reported them; zeros where it reports none."""

    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0

    @classmethod
    def of_answer(cls, usage: Any) -> "AnswerUsage":
        """From the `usage` object of an answer. Raises TypeError, ValueError or AttributeError when it is none."""
        usage = usage or {}
        details = usage.get("prompt_tokens_details") or {}
        prompt = int(usage.get("prompt_tokens") or 0)
        # Some report the cached part at the top level (prompt_cache_hit_tokens).
        cached = int(details.get("cached_tokens") or usage.get("prompt_cache_hit_tokens") or 0)
        return cls(prompt, min(cached, prompt), int(usage.get("completion_tokens") or 0))


@dataclass
class UsageLedger:
    """Appends a line per answer to a file: the session, the model, tokens and dollars. Without a path nothing is written.

    One `write` a line in append mode, so a killed process tears at most its last line.
    """

    path: Path | None = None
    _file: Any = field(default=None, init=False, repr=False)

    def append(self, session: str, model: str, usage: AnswerUsage, cost_usd: float) -> None:
        if self.path is None:
            return
        if self._file is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self.path.open("ab", buffering=0)
        row = {
            "session": session,
            "model": model,
            "prompt_tokens": usage.prompt_tokens,
            "cached_tokens": usage.cached_tokens,
            "completion_tokens": usage.completion_tokens,
            "cost_usd": cost_usd,
        }
        self._file.write(b"\n" + orjson.dumps(row))  # the newline first: a torn line never swallows the next one

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


def read_ledgers(paths: Iterable[Path]) -> dict[str, TokenUsage]:
    """Session to what it took, over all files; torn lines are left out."""
    by_session: dict[str, TokenUsage] = {}
    for path in paths:
        for line in path.read_bytes().splitlines():
            try:
                row = orjson.loads(line)
                usage = AnswerUsage(int(row["prompt_tokens"]), int(row["cached_tokens"]), int(row["completion_tokens"]))
                session, cost = str(row["session"]), float(row["cost_usd"])
            except (KeyError, TypeError, ValueError):
                continue
            add_usage(by_session.setdefault(session, TokenUsage()), usage, cost)
    return by_session


def add_usage(total: TokenUsage, usage: AnswerUsage, cost_usd: float) -> None:
    """One answer more."""
    total.requests += 1
    total.prompt_tokens += usage.prompt_tokens
    total.cached_tokens += usage.cached_tokens
    total.completion_tokens += usage.completion_tokens
    total.cost_usd = round(total.cost_usd + cost_usd, 9)


def usage_record(by_session: dict[str, TokenUsage]) -> dict[str, float]:
    """Totals over all sessions, and how many there were."""
    rows = by_session.values()
    names = ("requests", "prompt_tokens", "cached_tokens", "completion_tokens", "cost_usd")
    return {"sessions": len(rows), **{name: round(sum(getattr(row, name) for row in rows), 6) for name in names}}
