"""Scripted teachers of different quality for the micro tasks: they read what the agent reads and never the oracle.

A teacher is a Markov chain over the conversation: view the module, quote the function that the issue names and change its
operator, perhaps run the visible test, perhaps retry with another operator, submit. Its knobs are probabilities, its dice
depend on the request's session and seed only. To add one: a line in `TEACHERS`.
"""

import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from envpool.action_format import ToolCall
from envpool.action_formats import ACTION_FORMATS, ActionFormat
from envpool.micro.micro_names import OPERATOR_INFIX, OPERATOR_NOUNS, OPERATORS
from envpool.policy import Completion, GenerateRequest, IntArray, Message

_MODULE = re.compile(r"([a-z]+)\.py")
_FUNCTION = re.compile(r"[a-z]+_[a-z]+")
_EDITED = "edited"
_SUBMIT = ToolCall("submit", {})
_XML = ACTION_FORMATS["xml"]


@dataclass(frozen=True)
class ScriptedTeacher:
    """Quality knobs, all probabilities."""

    p_right_guess: float
    """Takes the operator that an explicit issue names; otherwise, and for vague issues, any that was not tried."""
    p_verify: float
    """Runs the visible test after the first edit; otherwise submits at once."""
    p_retry: float
    """Edits again after a failed test; otherwise submits."""
    p_verify_again: float = 1.0
    """Runs it after every later edit too."""
    p_remember: float = 1.0
    """A retry leaves out the operators that were tried; otherwise only the current one."""
    p_slip: float = 0.0
    """Misquotes the line in an edit, so that it is not found."""
    p_format_error: float = 0.0
    """Talks without calling a tool."""

    def next_text(self, messages: Sequence[Message], rng: random.Random, action: ActionFormat = _XML) -> str:
        """What the teacher says next, its call written as `action`. Raises ValueError when the issue is no micro task's."""
        if rng.random() < self.p_format_error:
            return "let me look"
        state = read_conversation(messages, action)
        call = self._next_call(state, rng)
        first_edit = "old_str" in call.arguments and len(state.operators) == 1
        return (state.definition + "\n" if first_edit else "") + action.render(call)

    def _next_call(self, state: "Conversation", rng: random.Random) -> ToolCall:
        path = f"{state.module}.py"
        if state.arguments is None:
            return ToolCall("str_replace_editor", {"command": "view", "path": path})
        last = state.last_observation
        fresh_edit = last == _EDITED
        first_edit = len(state.operators) == 2
        if fresh_edit and rng.random() < (self.p_verify if first_edit else self.p_verify_again):
            return ToolCall("execute_bash", {"command": f"python3 test_{path}"})
        failed = last.startswith("failed") or "exit " in last
        if fresh_edit or last == "passed" or (failed and rng.random() >= self.p_retry):
            return _SUBMIT
        current, chosen = state.operators[-1], self._choose_operator(state, rng)
        a, b = state.arguments
        quoted = f"{b} {current} {a}" if rng.random() < self.p_slip else f"{a} {current} {b}"
        return ToolCall(
            "str_replace_editor", {"command": "str_replace", "path": path, "old_str": quoted, "new_str": f"{a} {chosen} {b}"}
        )

    def _choose_operator(self, state: "Conversation", rng: random.Random) -> str:
        if state.named_operator not in (None, *state.operators) and rng.random() < self.p_right_guess:
            return str(state.named_operator)
        excluded = state.operators if rng.random() < self.p_remember else state.operators[-1:]
        return rng.choice([operator for operator in OPERATORS if operator not in excluded] or list(OPERATORS))


@dataclass(frozen=True)
class Conversation:
    """What a teacher knows: `operators` are the file's first and then every one it put in; `arguments` None before the view."""

    module: str
    function: str
    named_operator: str | None
    arguments: tuple[str, str] | None
    operators: tuple[str, ...]
    last_observation: str

    @property
    def definition(self) -> str:
        """The function as the file first showed it: what a teacher quotes before its first edit."""
        a, b = self.arguments or ("", "")
        return f"def {self.function}({a}, {b}):\n    return {a} {self.operators[0]} {b}"


def read_conversation(messages: Sequence[Message], action: ActionFormat = _XML) -> Conversation:
    """Reads issue, own calls and observations. Raises ValueError when the issue names no module or function."""
    first = next(index for index, message in enumerate(messages) if message.role == "user")
    issue = messages[first].content
    module, function = _MODULE.search(issue), _FUNCTION.search(issue)
    if module is None or function is None:
        raise ValueError(f"the scripted teachers play micro tasks only; no module or function in the issue {issue[:80]!r}")
    words = set(re.findall(r"[a-z]+", issue))
    names = [operator for operator in OPERATORS if {OPERATOR_NOUNS[operator], OPERATOR_INFIX[operator]} & words]
    definition = re.compile(rf"def {function[0]}\((\w+), (\w+)\):\s+return \w+ (\S+) \w+")
    arguments: tuple[str, str] | None = None
    operators: tuple[str, ...] = ()
    call: ToolCall | None = None
    observation = ""
    for message in messages[first + 1 :]:
        if message.role == "assistant":
            call = message.tool_calls[0] if message.tool_calls else _call_in(message.content, action)
            continue
        observation = message.content
        found = definition.search(observation)
        if found and arguments is None:
            arguments, operators = (found[1], found[2]), (found[3],)
        elif observation == _EDITED and call is not None:
            operators += tuple(call.arguments.get("new_str", "").split()[1:2])
    return Conversation(module[1], function[0], names[0] if names else None, arguments, operators, observation)


def _call_in(text: str, action: ActionFormat) -> ToolCall | None:
    parsed = action.parse(text)
    return parsed[1] if parsed else None


@dataclass(frozen=True)
class ScriptedPolicy:
    """A teacher as a policy (envpool.policy.Generate). `completion_ids` turns a finished text into ids with the end of turn
    (`ChatFormat.completion_ids`); `action` is the episode's form of calls. Log-probs are NaN, the policy version is 0."""

    teacher: ScriptedTeacher
    completion_ids: Callable[[str], IntArray] = field(hash=False, compare=False)
    action: ActionFormat = _XML

    async def __call__(self, request: GenerateRequest) -> Completion:
        rng = random.Random(f"{request.session_id}/{request.seed}/{len(request.messages)}")
        ids = self.completion_ids(self.teacher.next_text(request.messages, rng, self.action))
        cut = ids[: request.max_tokens]
        return Completion(
            token_ids=cut,
            rollout_logprobs=np.full(len(cut), np.nan, dtype=np.float32),
            policy_versions=np.zeros(len(cut), dtype=np.int32),
            finish_reason="stop" if len(cut) == len(ids) else "length",
        )


TEACHERS: dict[str, ScriptedTeacher] = {
    "careful": ScriptedTeacher(p_right_guess=0.9, p_verify=0.9, p_retry=1.0),
    "hasty": ScriptedTeacher(p_right_guess=0.7, p_verify=0.15, p_retry=0.95),
    "sloppy": ScriptedTeacher(p_right_guess=0.4, p_verify=0.25, p_retry=0.9, p_remember=0.8, p_slip=0.03, p_format_error=0.01),
}
