"""A policy behind any OpenAI-compatible `/v1/chat/completions` endpoint: teachers, hosted models, one's own server."""

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from envpool.chat_endpoint import ChatEndpoint, TokenUsage
from envpool.chat_format import ChatFormat
from envpool.policy import Completion, GenerateRequest

__all__ = ["EndpointPolicy", "TokenUsage"]


@dataclass(frozen=True)
class EndpointPolicy:
    """Asks a `ChatEndpoint` (its fields are described there) for completions, tool calls as XML text.

    Completions carry the ids of `chat`'s tokenizer and NaN log-probs. Raises PolicyError with one line.
    """

    base_url: str
    model: str
    chat: ChatFormat = field(repr=False)
    api_key_env: str = ""
    request_timeout_s: float = 120.0
    deadline_s: float = 300.0
    max_attempts: int = 6
    usage: TokenUsage = field(default_factory=TokenUsage, compare=False)

    async def __call__(self, request: GenerateRequest) -> Completion:
        text, finish = await self._endpoint.ask(request.messages, request.max_tokens, request.temperature, request.seed)
        ids = self.chat.completion_ids(text)
        if finish == "length":
            ids = ids[:-1]  # the model did not end its turn
        return Completion(ids, np.full(len(ids), np.nan, np.float32), np.zeros(len(ids), np.int32), finish)

    async def close(self) -> None:
        """Close the connections; the policy cannot be used afterwards."""
        await self._endpoint.close()

    @cached_property
    def _endpoint(self) -> ChatEndpoint:
        return ChatEndpoint(
            self.base_url,
            self.model,
            self.api_key_env,
            self.request_timeout_s,
            self.deadline_s,
            self.max_attempts,
            self.usage,
        )
