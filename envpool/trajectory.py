"""The record of one episode, token by token."""

import itertools
from dataclasses import dataclass
from enum import Enum

from envpool.patch import Patch
from envpool.policy import FloatArray, IntArray


class StopReason(Enum):
    """Why an episode ended, with a sentence each. All are what agent, model or task did; what broke around them is an exception.

    The work tree of every episode becomes its patch (forced submission); what that is worth is the reward table's to say.

    >>> StopReason("max_turns").sentence
    'All turns were used up without submit.'
    """

    SUBMITTED = "submitted", "The agent called submit."
    SUBMITTED_LAST_TURN = "submitted_last_turn", "The agent called submit in the last turn it was told of."
    SUBMITTED_LATE = "submitted_late", "The agent called submit in a grace turn, after the turns it was told of."
    SUBMITTED_LAST_TOKENS = "submitted_last_tokens", "The agent called submit in the completion that used up the token budget."
    MAX_TURNS = "max_turns", "All turns were used up without submit."
    MAX_TOKENS = "max_tokens", "The token budget of the episode was used up."
    CONTEXT_FULL = "context_full", "What the model would have to be shown next exceeds the context, with token budget left."
    DEADLINE = "deadline", "The time of the episode was used up."
    COMMAND_TIMEOUTS = "command_timeouts", "So many calls in a row ran into the time limit of one call."
    NO_CALL = "no_call", "So many completions in a row held no tool call."
    GARBLED = "garbled", "A completion was not text that anybody would write."
    PROMPT_TOO_LONG = "prompt_too_long", "The task's first prompt alone exceeds its limit; no turn was played."
    ENCODE_ERROR = "encode_error", "The tokenizer cannot encode what a tool said."

    sentence: str

    def __new__(cls, value: str, sentence: str = "") -> "StopReason":
        member = object.__new__(cls)
        member._value_ = value
        member.sentence = sentence
        return member

    @property
    def is_submit(self) -> bool:
        """The agent itself ended the episode."""
        return str(self.value).startswith("submitted")


@dataclass(frozen=True)
class Turn:
    """One completion and what was appended to the context before it.

    The model saw the `context_ids` and `completion_ids` of all turns from the last `restart` on, then this `context_ids`; at a
    restart the history was rewritten, and `context_ids` is the whole prompt. `action` is the parsed tool call as canonical XML
    ("" when none was found); `observation` is what the tool said ("" after submit). `summary`: the completion sums up old
    turns for the model itself and acts on nothing. `train` False: no loss on the completion.
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
    restart: bool = False
    summary: bool = False
    train: bool = True

    @property
    def num_tokens(self) -> int:
        """What was appended and what was sampled."""
        return len(self.context_ids) + len(self.completion_ids)


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
    def num_turns(self) -> int:
        """Turns that acted; summaries are not counted."""
        return sum(not turn.summary for turn in self.turns)

    @property
    def samples(self) -> tuple[tuple[Turn, ...], ...]:
        """The turns that the model saw as one sequence: cut before every restart."""
        starts = [0, *(index for index, turn in enumerate(self.turns) if turn.restart and index), len(self.turns)]
        return tuple(self.turns[start:end] for start, end in itertools.pairwise(starts))

    @property
    def num_tokens(self) -> int:
        """Tokens of all samples together; what was shown again after a restart counts again."""
        return sum(turn.num_tokens for turn in self.turns)

    @property
    def longest_sample(self) -> int:
        """Tokens of the longest sample: what training must have room for."""
        return max(sum(turn.num_tokens for turn in turns) for turns in self.samples)
