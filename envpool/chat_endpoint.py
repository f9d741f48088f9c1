"""A client of any OpenAI-compatible `/v1/chat/completions` endpoint: messages in, text out."""

import asyncio
import os
import re
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import httpx
import orjson
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from envpool.policy import FinishReason, Message, PolicyError

_BACKOFF = wait_random_exponential(multiplier=0.5, max=20.0)
_RETRIED_STATUS = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})


@dataclass
class TokenUsage:
    """What an endpoint was asked for so far, in its own tokens (as it reports them)."""

    requests: int = 0
    retries: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0


class _Transient(Exception):
    """A failure that may pass; `retry_after_s` is the endpoint's own wish."""

    def __init__(self, message: str, retry_after_s: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


@dataclass(frozen=True)
class ChatEndpoint:
    """Asks `base_url` (it ends in /v1) for chat completions of `model`.

    The key is read from the environment variable named `api_key_env` at each call ("" sends none) and is kept nowhere.
    Connection errors, rate limits and server errors are retried until `deadline_s`. The endpoint's own token counts add up in
    `usage`. Use it in one event loop. Raises PolicyError with one line.
    """

    base_url: str
    model: str
    api_key_env: str = ""
    request_timeout_s: float = 120.0
    deadline_s: float = 300.0
    max_attempts: int = 6
    usage: TokenUsage = field(default_factory=TokenUsage, compare=False)

    async def ask(
        self, messages: tuple[Message, ...], max_tokens: int, temperature: float, seed: int
    ) -> tuple[str, FinishReason]:
        """The answer's text, and whether the model ended it itself."""
        self.usage.requests += 1
        body = {
            "model": self.model,
            "messages": [_as_chat(message) for message in messages],
            "max_tokens": max_tokens,
            "temperature": temperature,
            "seed": seed,
        }
        headers = self._headers()
        retrying = AsyncRetrying(
            stop=stop_after_attempt(self.max_attempts), wait=_wait, retry=retry_if_exception_type(_Transient), reraise=True
        )
        last = "it gave no answer"
        try:
            async with asyncio.timeout(self.deadline_s):
                async for attempt in retrying:
                    with attempt:
                        self.usage.retries += attempt.retry_state.attempt_number > 1
                        try:
                            answer = await self._post(body, headers)
                        except _Transient as error:
                            last = str(error)
                            raise
        except (_Transient, TimeoutError):
            raise PolicyError(
                f"{self._shown_url} failed: {last}; check that the server runs there and serves {self.model!r}"
            ) from None
        return self._text(answer)

    async def close(self) -> None:
        """Close the connections; it cannot be used afterwards."""
        await self._client.aclose()

    @cached_property
    def _client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(timeout=self.request_timeout_s, limits=httpx.Limits(max_connections=256))

    @property
    def _url(self) -> str:
        return f"{self.base_url.rstrip('/')}/chat/completions"

    @property
    def _shown_url(self) -> str:
        """The URL without a user or password that may stand in it."""
        return re.sub(r"//[^/@]*@", "//", self._url)

    def _headers(self) -> dict[str, str]:
        headers = {"Content-Type": "application/json"}
        if self.api_key_env:
            key = os.environ.get(self.api_key_env, "").strip()
            if not key:
                raise PolicyError(
                    f"the environment variable {self.api_key_env} is not set: it should hold the key of {self._shown_url}"
                )
            headers["Authorization"] = f"Bearer {key}"
        return headers

    async def _post(self, body: dict[str, Any], headers: dict[str, str]) -> dict[str, Any]:
        """One try. Raises _Transient, and PolicyError for what another try would not change."""
        try:
            response = await self._client.post(self._url, content=orjson.dumps(_clean(body)), headers=headers)
        except (httpx.InvalidURL, httpx.UnsupportedProtocol):
            raise PolicyError(f"{self._shown_url} is no http(s) address; base_url should look like http://host:8000/v1") from None
        except httpx.TimeoutException as error:
            raise _Transient(f"no answer in {self.request_timeout_s:g} s ({type(error).__name__})") from None
        except httpx.HTTPError as error:
            raise _Transient(f"{type(error).__name__}: {' '.join(str(error).split()) or 'connection broke'}") from None
        if response.status_code in _RETRIED_STATUS:
            raise _Transient(f"HTTP {response.status_code} {self._excerpt(response)}", _retry_after_s(response))
        if response.status_code != 200:
            raise PolicyError(f"{self._shown_url} refused the request: HTTP {response.status_code} {self._excerpt(response)}")
        try:
            answer = orjson.loads(response.content)
        except orjson.JSONDecodeError:
            raise PolicyError(f"{self._shown_url} answered no JSON: {self._excerpt(response)}") from None
        return answer if isinstance(answer, dict) else {}

    def _text(self, answer: dict[str, Any]) -> tuple[str, FinishReason]:
        try:
            choice = answer["choices"][0]
            text = choice["message"]["content"] or ""
            if not isinstance(text, str):
                raise TypeError
            usage = answer.get("usage") or {}
            self.usage.prompt_tokens += int(usage.get("prompt_tokens") or 0)
            self.usage.completion_tokens += int(usage.get("completion_tokens") or 0)
        except (KeyError, IndexError, TypeError, ValueError, AttributeError):
            raise PolicyError(
                f"{self._shown_url} answered without choices[0].message: is it a chat completions endpoint?"
            ) from None
        return text, "length" if choice.get("finish_reason") == "length" else "stop"

    def _excerpt(self, response: httpx.Response) -> str:
        """The start of an error body in one line; some endpoints repeat the key in it."""
        text = " ".join(response.text[:2000].split())
        key = os.environ.get(self.api_key_env, "").strip() if self.api_key_env else ""
        return (text.replace(key, "***") if key else text)[:300]


def _as_chat(message: Message) -> dict[str, str]:
    """Tool answers go as user messages: calls are plain text here, so the endpoint knows of no tool role."""
    if message.role == "tool":
        return {"role": "user", "content": f"<tool_response>\n{message.content}\n</tool_response>"}
    return {"role": message.role, "content": message.content}


def _clean(body: dict[str, Any]) -> dict[str, Any]:
    """The body without lone surrogates, which JSON cannot carry."""
    messages = [
        {name: text.encode("utf-8", "replace").decode() for name, text in message.items()} for message in body["messages"]
    ]
    return {**body, "messages": messages}


def _wait(state: RetryCallState) -> float:
    """Exponential with jitter, or as long as the endpoint asked for."""
    error = state.outcome.exception() if state.outcome is not None else None
    asked = error.retry_after_s if isinstance(error, _Transient) else 0.0
    return max(_BACKOFF(state), asked)


def _retry_after_s(response: httpx.Response) -> float:
    try:
        return min(max(float(response.headers.get("retry-after", 0)), 0.0), 120.0)
    except ValueError:  # the date form
        return 0.0
