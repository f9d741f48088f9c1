"""The seam between episode and model: one call, messages and token ids in, token ids out."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from envpool.action_format import ToolCall

IntArray = npt.NDArray[np.int32]
FloatArray = npt.NDArray[np.float32]
FinishReason = Literal["stop", "length", "abort"]


@dataclass(frozen=True)
class Message:
    """One chat message; `role` is system, user, assistant or tool. `tool_calls` of an assistant stand apart from its content
    (native calls; XML calls are part of the content); `tool_call_id` names the call that a tool message answers."""

    role: str
    content: str
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str = ""


@dataclass(frozen=True)
class GenerateRequest:
    """What a policy is shown. `messages` and `prompt_ids` say the same; engines read the ids, scripted policies and
    endpoints the messages. `session_id` is constant over an episode (engine affinity); `max_tokens` bounds the completion;
    `tools` are the definitions (OpenAI's shape) of native calls, empty when the system message documents the tools."""

    session_id: str
    messages: tuple[Message, ...]
    prompt_ids: IntArray
    max_tokens: int
    temperature: float
    seed: int
    tools: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True)
class Completion:
    """What the policy sampled: `token_ids`, `rollout_logprobs`, `policy_versions` have equal lengths.

    The end-of-turn token, when sampled, is the last id. Log-probs are natural, of the sampling distribution; NaN where the
    source reports none (scripted policies, endpoints). `model_s`: seconds the model itself worked on it (see TimedGenerate); None
    where nobody measured, then all of the request's.
    """

    token_ids: IntArray
    rollout_logprobs: FloatArray
    policy_versions: IntArray
    finish_reason: FinishReason
    model_s: float | None = None


class Generate(Protocol):
    """A policy. Raises `PolicyError` when the engine or endpoint broke (never the model's fault)."""

    async def __call__(self, request: GenerateRequest) -> Completion: ...


@runtime_checkable
class TimedGenerate(Generate, Protocol):
    """A policy that can tell which seconds of a request are the model's: not those of failed tries, of a queue, of a hang."""

    async def model_s(self, request: GenerateRequest) -> float:
        """Seconds the model has worked so far on a request under way (that very object); 0 when it has not begun."""


class PolicyError(RuntimeError):
    """The engine or endpoint behind a policy failed; the episode is retried, then left out of its group."""


def check_completion(completion: Completion, where: str) -> None:
    """Raise PolicyError for what no working engine returns."""
    ids, logprobs, versions = completion.token_ids, completion.rollout_logprobs, completion.policy_versions
    shapes = {np.shape(ids), np.shape(logprobs), np.shape(versions)}
    if len(shapes) != 1 or np.ndim(ids) != 1:
        lengths = tuple(array.size for array in map(np.asarray, (ids, logprobs, versions)))
        raise PolicyError(f"ids, log-probs and versions of a completion have different lengths {lengths}: {where}")
    if completion.finish_reason == "abort":
        raise PolicyError(f"the engine aborted {where}")
    if len(ids) and int(ids.min()) < 0:
        raise PolicyError(f"the engine returned token {int(ids.min())}: {where}")
