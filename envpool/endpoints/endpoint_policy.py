"""A policy behind any OpenAI-compatible `/v1/chat/completions` endpoint: teachers, hosted models, one's own server."""

from dataclasses import dataclass, field

import numpy as np

from envpool.action_formats import ACTION_FORMATS, ActionFormat
from envpool.chat.chat_format import ChatFormat
from envpool.endpoints.chat_endpoint import ChatEndpoint
from envpool.endpoints.endpoint_messages import answer_text, native_messages, text_messages, with_one_thought
from envpool.policy import Completion, GenerateRequest


@dataclass(frozen=True)
class EndpointPolicy:
    """Asks `endpoint` for completions: with tools and native calls when the request has tools, else with calls as text. `form` is
    the episode's action format. `simulates`: it is asked as a world model, whose answers hold one thought.

    Completions carry the ids of `chat`'s tokenizer and NaN log-probs. Raises PolicyError with one line.
    """

    endpoint: ChatEndpoint
    chat: ChatFormat = field(repr=False)
    form: ActionFormat = ACTION_FORMATS["xml"]
    simulates: bool = False

    async def __call__(self, request: GenerateRequest) -> Completion:
        answer = await self.endpoint.ask(
            native_messages(request.messages) if request.tools else text_messages(request.messages),
            request.max_tokens,
            request.temperature,
            request.seed,
            tools=request.tools,
            session=request.session_id,
            prompt_tokens=len(request.prompt_ids),
        )
        if self.simulates:
            answer = with_one_thought(answer)
        ids = self.chat.completion_ids(answer_text(answer, self.form))
        if answer.finish_reason == "length":
            ids = ids[:-1]  # the model did not end its turn
        return Completion(ids, np.full(len(ids), np.nan, np.float32), np.zeros(len(ids), np.int32), answer.finish_reason)

    async def close(self) -> None:
        """Close the connections; the policy cannot be used afterwards."""
        await self.endpoint.close()
