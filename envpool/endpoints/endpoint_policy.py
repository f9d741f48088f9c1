"""A policy behind any OpenAI-compatible `/v1/chat/completions` endpoint: teachers, hosted models, one's own server."""

from dataclasses import dataclass, field

import numpy as np

from envpool.action_formats import ACTION_FORMATS, ActionFormat
from envpool.chat.chat_format import ChatFormat
from envpool.endpoints.chat_endpoint import ChatEndpoint, TryTime
from envpool.endpoints.endpoint_messages import answer_text, native_messages, text_messages, with_one_thought
from envpool.policy import Completion, GenerateRequest


@dataclass(frozen=True)
class EndpointPolicy:
    """Asks `endpoint` for completions: with tools and native calls when the request has tools, else with calls as text. `form` is
    the episode's action format. `simulates`: it is asked as a world model, whose answers hold one thought.

    Completions carry the ids of `chat`'s tokenizer and NaN log-probs. The seconds of the try that is answered count as the
    model's. Raises PolicyError with one line.
    """

    endpoint: ChatEndpoint
    chat: ChatFormat = field(repr=False)
    form: ActionFormat = ACTION_FORMATS["xml"]
    simulates: bool = False
    _tried: dict[int, TryTime] = field(default_factory=dict, init=False, repr=False, compare=False)  # by `id` of the request

    async def __call__(self, request: GenerateRequest) -> Completion:
        tried = self._tried[id(request)] = TryTime()
        try:
            answer = await self.endpoint.ask(
                native_messages(request.messages) if request.tools else text_messages(request.messages),
                request.max_tokens,
                request.temperature,
                request.seed,
                tools=request.tools,
                session=request.session_id,
                prompt_tokens=len(request.prompt_ids),
                tried=tried,
            )
        finally:
            self._tried.pop(id(request), None)
        if self.simulates:
            answer = with_one_thought(answer)
        ids = self.chat.completion_ids(answer_text(answer, self.form))
        if answer.finish_reason == "length":
            ids = ids[:-1]  # the model did not end its turn
        logprobs, versions = np.full(len(ids), np.nan, np.float32), np.zeros(len(ids), np.int32)
        return Completion(ids, logprobs, versions, answer.finish_reason, tried.seconds)

    async def model_s(self, request: GenerateRequest) -> float:
        """See envpool.policy.TimedGenerate. An endpoint tells nobody whether it works: a try under way counts in full."""
        tried = self._tried.get(id(request))
        return 0.0 if tried is None else tried.seconds

    async def close(self) -> None:
        """Close the connections; the policy cannot be used afterwards."""
        await self.endpoint.close()
