"""A client of any OpenAI-compatible `/v1/chat/completions` endpoint: messages and tools in, text and tool calls out."""

import asyncio
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from functools import cached_property
from typing import Any

import httpx
import orjson
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from configs.rollout_config import EndpointConfig
from envpool.endpoints.request_limiter import RequestLimiter
from envpool.endpoints.token_usage import AnswerUsage, TokenPrices, TokenUsage, UsageLedger, add_usage
from envpool.policy import FinishReason, PolicyError

Json = Mapping[str, Any]
_BACKOFF = wait_random_exponential(multiplier=0.5, max=20.0)
_RETRIED_STATUS = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
MAX_RETRY_AFTER_S = 600.0
CHARS_PER_TOKEN = 4
"""For estimates where the caller does not know its prompt's length in tokens."""


@dataclass(frozen=True)
class AnsweredCall:
    """A tool call of an answer; `arguments` is JSON text as the model wrote it, which may be broken."""

    name: str
    arguments: str


@dataclass(frozen=True)
class ChatAnswer:
    """`reasoning` is what the endpoint reports apart from the text ("" when it does not)."""

    text: str
    reasoning: str
    calls: tuple[AnsweredCall, ...]
    finish_reason: FinishReason
    usage: AnswerUsage


class _Transient(Exception):
    """A failure that may pass."""


class TryTime:
    """How long the try of a request took that is answered, or that is under way: not those that failed, nor the time before."""

    def __init__(self) -> None:
        self._began: float | None = None
        self._took_s = 0.0

    @property
    def seconds(self) -> float:
        """Until now; 0 between tries."""
        return self._took_s if self._began is None else time.monotonic() - self._began

    @contextmanager
    def running(self) -> Iterator[None]:
        """A try, from being let through to its end. One that is cut keeps its seconds, one that fails has none."""
        self._began = time.monotonic()
        try:
            yield
        except Exception:
            self._began = None
            raise
        finally:
            self._took_s, self._began = self.seconds, None


@dataclass(frozen=True)
class ChatEndpoint:
    """Asks the endpoint of `config` for chat completions.

    The key is read from the environment at each call and kept nowhere. Connection errors, rate limits and server errors are
    retried until `deadline_s`; waiting for the configured rate limits counts. `share` processes divide those limits. Answers are
    added to `usage` and written to `ledger`. Use it in one event loop. Raises PolicyError with one line.
    """

    config: EndpointConfig
    deadline_s: float = 300.0
    share: int = 1
    ledger: UsageLedger = field(default_factory=UsageLedger, repr=False, compare=False)
    usage: TokenUsage = field(default_factory=TokenUsage, compare=False)

    async def ask(
        self,
        messages: Sequence[Json],
        max_tokens: int,
        temperature: float,
        seed: int,
        *,
        tools: Sequence[Json] = (),
        session: str = "",
        prompt_tokens: int = 0,
        tried: TryTime | None = None,
    ) -> ChatAnswer:
        """One answer to `messages` (the protocol's JSON objects). `session` names the asker in the ledger; `prompt_tokens` is an
        estimate for the token limit, taken from the messages' length where it is 0; `tried` is kept up to date meanwhile."""
        options = {"max_tokens": max_tokens, "temperature": temperature, "seed": seed}
        body: dict[str, Any] = {"model": self.config.model, "messages": list(messages), **options}
        if tools:
            body |= {"tools": list(tools), "tool_choice": "auto"}
        body |= self.config.extra_body
        content = orjson.dumps(_clean(body))
        expected = (prompt_tokens or len(content) // CHARS_PER_TOKEN) + max_tokens
        retrying = AsyncRetrying(
            stop=stop_after_attempt(self.config.max_attempts), wait=_wait, retry=retry_if_exception_type(_Transient), reraise=True
        )
        tried = tried or TryTime()
        last = f"its rate limit lets no request through in {self.deadline_s:g} s"
        try:
            async with asyncio.timeout(self.deadline_s):
                async for attempt in retrying:
                    with attempt:
                        self.usage.retries += attempt.retry_state.attempt_number > 1
                        try:
                            answer = await self._admitted(content, self._headers(), expected, tried)
                        except _Transient as error:
                            last = str(error)
                            raise
        except (_Transient, TimeoutError):
            model = self.config.model
            why = f"no answer in {tried.seconds:.3g} s" if tried.seconds else last
            raise PolicyError(f"{self._shown_url} failed: {why}; check that the server runs there and serves {model!r}") from None
        usage = answer.usage
        cost_usd = self.prices.cost_usd(usage.prompt_tokens, usage.cached_tokens, usage.completion_tokens)
        add_usage(self.usage, usage, cost_usd)
        self.ledger.append(session, self.config.model, usage, cost_usd)
        return answer

    async def close(self) -> None:
        """Close the connections; it cannot be used afterwards."""
        await self._client.aclose()
        self.ledger.close()

    @cached_property
    def prices(self) -> TokenPrices:
        config = self.config
        return TokenPrices(config.usd_per_million_prompt, config.usd_per_million_cached, config.usd_per_million_completion)

    @cached_property
    def limiter(self) -> RequestLimiter:
        return RequestLimiter(self.config.requests_per_minute / self.share, self.config.tokens_per_minute / self.share)

    @cached_property
    def _client(self) -> httpx.AsyncClient:
        limits = httpx.Limits(max_connections=self.config.max_connections)
        return httpx.AsyncClient(timeout=httpx.Timeout(self.config.request_timeout_s, pool=None), limits=limits)

    @property
    def _url(self) -> str:
        return f"{self.config.base_url.rstrip('/')}/chat/completions"

    @property
    def _shown_url(self) -> str:
        """The URL without a user or password that may stand in it."""
        return re.sub(r"//[^/@]*@", "//", self._url)

    def _headers(self) -> dict[str, str]:
        headers = {"Content-Type": "application/json"}
        if name := self.config.api_key_env:
            key = os.environ.get(name, "").strip()
            if not key:
                raise PolicyError(f"the environment variable {name} is not set: it should hold the key of {self._shown_url}")
            headers["Authorization"] = f"Bearer {key}"
        return headers

    async def _admitted(self, content: bytes, headers: dict[str, str], expected: int, tried: TryTime) -> ChatAnswer:
        """One try when the limiter lets it go; what it really took replaces the reservation."""
        admission = await self.limiter.admit(expected)
        taken = 0
        try:
            with tried.running():
                answer = self._answer(await self._post(content, headers))
            taken = (answer.usage.prompt_tokens + answer.usage.completion_tokens) or expected
        finally:
            self.limiter.settle(admission, taken)
        return answer

    async def _post(self, content: bytes, headers: dict[str, str]) -> dict[str, Any]:
        """One try. Raises _Transient, and PolicyError for what another try would not change."""
        try:
            response = await self._client.post(self._url, content=content, headers=headers)
        except (httpx.InvalidURL, httpx.UnsupportedProtocol):
            raise PolicyError(f"{self._shown_url} is no http(s) address; base_url should look like http://host:8000/v1") from None
        except httpx.TimeoutException as error:
            raise _Transient(f"no answer in {self.config.request_timeout_s:g} s ({type(error).__name__})") from None
        except httpx.HTTPError as error:
            raise _Transient(f"{type(error).__name__}: {' '.join(str(error).split()) or 'connection broke'}") from None
        if response.status_code in _RETRIED_STATUS:
            self.limiter.silence(_retry_after_s(response))
            raise _Transient(f"HTTP {response.status_code} {self._excerpt(response)}")
        if response.status_code != 200:
            raise PolicyError(f"{self._shown_url} refused the request: HTTP {response.status_code} {self._excerpt(response)}")
        try:
            answer = orjson.loads(response.content)
        except orjson.JSONDecodeError:
            raise PolicyError(f"{self._shown_url} answered no JSON: {self._excerpt(response)}") from None
        return answer if isinstance(answer, dict) else {}

    def _answer(self, answer: dict[str, Any]) -> ChatAnswer:
        try:
            choice = answer["choices"][0]
            message = choice["message"]
            calls = [call["function"] for call in message.get("tool_calls") or () if call.get("type", "function") == "function"]
            return ChatAnswer(
                text=_text(message.get("content")),
                reasoning=_text(message.get("reasoning_content") or message.get("reasoning")),
                calls=tuple(AnsweredCall(_text(call["name"]), _text(call.get("arguments"))) for call in calls),
                finish_reason="length" if choice.get("finish_reason") == "length" else "stop",
                usage=AnswerUsage.of_answer(answer.get("usage")),
            )
        except (KeyError, IndexError, TypeError, ValueError, AttributeError):
            raise PolicyError(
                f"{self._shown_url} answered without choices[0].message: is it a chat completions endpoint?"
            ) from None

    def _excerpt(self, response: httpx.Response) -> str:
        """The start of an error body in one line; some endpoints repeat the key in it."""
        text = " ".join(response.text[:2000].split())
        key = os.environ.get(self.config.api_key_env, "").strip() if self.config.api_key_env else ""
        return (text.replace(key, "***") if key else text)[:300]


def _text(value: Any) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        raise TypeError
    return value


def _clean(value: Any) -> Any:
    """JSON without lone surrogates, which it cannot carry."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, Mapping):
        return {name: _clean(inner) for name, inner in value.items()}
    return [_clean(inner) for inner in value] if isinstance(value, list | tuple) else value


def _wait(state: RetryCallState) -> float:
    """Exponential with jitter; what the endpoint itself asked for, the limiter waits."""
    return float(_BACKOFF(state))


def _retry_after_s(response: httpx.Response) -> float:
    """Seconds or a date; 0 without the header or with another value in it."""
    value = response.headers.get("retry-after", "0")
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(value).timestamp() - time.time()
        except (ValueError, TypeError, OverflowError):
            return 0.0
    return min(max(seconds, 0.0), MAX_RETRY_AFTER_S) if seconds == seconds else 0.0
