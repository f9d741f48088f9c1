"""The record of one episode, token by token."""

from dataclasses import dataclass
from enum import Enum

from envpool.patch import Patch
from envpool.policy import FloatArray, IntArray


class StopReason(Enum):
    """Why an episode ended; each is the agent's doing and is graded or not as the reward table says."""

    SUBMITTED = "submitted"  # the agent called submit
    MAX_TURNS = "max_turns"  # the turn budget was used up; the work tree is graded as it is (forced submission)
    MAX_TOKENS = "max_tokens"  # the token budget was used up; graded as it is
    DEADLINE = "deadline"  # the episode's time was used up; graded as it is


@dataclass(frozen=True)
class Turn:
    """One completion and what was appended to the context before it.

    The model saw the concatenation of all earlier turns' `context_ids` and `completion_ids`, then this `context_ids`.
    `action` is the parsed tool call as canonical XML ("" when none was found); `observation` is what the tool said
    ("" after submit).
    """

    context_ids: IntArray
    completion_ids: IntArray
    rollout_logprobs: FloatArray
    policy_versions: IntArray
    text: str
    action: str
    observation: str
    generate_s: float
    tool_s: float


@dataclass(frozen=True)
class Trajectory:
    """One finished episode of one problem. `sample_index` tells the members of a group apart."""

    instance_id: str
    sample_index: int
    policy_name: str
    prompt: str
    turns: tuple[Turn, ...]
    patch: Patch
    stop_reason: StopReason
    seconds: float

    @property
    def num_tokens(self) -> int:
        return sum(len(turn.context_ids) + len(turn.completion_ids) for turn in self.turns)
