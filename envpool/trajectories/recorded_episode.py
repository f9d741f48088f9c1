"""An episode as other tools record it: texts, calls and times. What our own `Trajectory` is exported to, and theirs are read as.

A format that knows a field nobody else has keeps it under `extra`, so that reading a file and writing it again in its own
format changes nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from envpool.action_format import ToolCall, parse_action, render_action
from envpool.action_formats import ACTION_FORMATS
from envpool.chat.chat_sample import ChatSample, SampleCall, SampleMessage, assistant_message, tool_message
from envpool.trajectory import Trajectory, Turn

Json = Mapping[str, Any]


class TrajectoryFormatError(ValueError):
    """A document that is no trajectory of its format; one line that says where and what."""


@dataclass(frozen=True)
class RecordedStep:
    """One turn. `thought` is what the model said apart from the call, `action` the call as it was written ("" for none).

    Token ids and log-probs (natural) are of the completion; both empty where they were not recorded.
    """

    thought: str
    action: str
    observation: str
    generate_s: float = 0.0
    tool_s: float = 0.0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    completion_ids: tuple[int, ...] = ()
    logprobs: tuple[float, ...] = ()
    extra: Json = field(default_factory=dict)

    @property
    def call(self) -> ToolCall | None:
        """The action as a tool call, None when there is none to be read."""
        parsed = parse_action(self.action)
        return None if parsed is None else parsed[1]


@dataclass(frozen=True)
class RecordedEpisode:
    """`stop_reason` is the source's own word; `reward` is 0 where none was recorded (`graded` False)."""

    instance_id: str
    model: str
    system: str
    prompt: str
    steps: tuple[RecordedStep, ...]
    patch: str
    stop_reason: str
    reward: float = 0.0
    graded: bool = False
    tools: tuple[Json, ...] = ()
    extra: Json = field(default_factory=dict)


def record_trajectory(trajectory: Trajectory, reward: float, tools: Sequence[Json] = ()) -> RecordedEpisode:
    """Our own trajectory, tokens and log-probs included; summaries of the history, which act on nothing, are no steps."""
    steps, context = [], 0
    for turn in trajectory.turns:
        shown = len(turn.context_ids) + (0 if turn.restart else context)
        context = shown + len(turn.completion_ids)
        if turn.summary:
            continue
        steps.append(
            RecordedStep(
                thought=thought_of(turn),
                action=turn.action,
                observation=turn.observation,
                generate_s=turn.generate_s,
                tool_s=turn.tool_s,
                prompt_tokens=shown,
                completion_tokens=len(turn.completion_ids),
                completion_ids=tuple(turn.completion_ids.tolist()),
                logprobs=tuple(turn.rollout_logprobs.tolist()),
            )
        )
    return RecordedEpisode(
        instance_id=trajectory.instance_id,
        model=trajectory.policy_name,
        system="",
        prompt=trajectory.prompt,
        steps=tuple(steps),
        patch=trajectory.patch.diff,
        stop_reason=trajectory.stop_reason.value,
        reward=reward,
        graded=True,
        tools=tuple(tools),
    )


def thought_of(turn: Turn) -> str:
    """What a turn said before its call, in whatever form it called; all of it when there is no call."""
    for form in ACTION_FORMATS.values() if turn.action else ():
        parsed = form.parse(turn.text)
        if parsed is not None and render_action(parsed[1]) == turn.action:
            return parsed[0]
    return turn.text


def sample_of_episode(episode: RecordedEpisode) -> ChatSample:
    """The episode as a conversation to imitate (Hugging Face's `messages` and `tools`)."""
    schemas = {spec["function"]["name"]: spec["function"].get("parameters") or {} for spec in episode.tools}
    messages = [SampleMessage("system", episode.system)] if episode.system else []
    messages.append(SampleMessage("user", episode.prompt))
    for index, step in enumerate(episode.steps):
        message, call = assistant_message(f"{step.thought}{step.action}", f"call_{index + 1}", schemas)
        messages.append(message)
        last = index == len(episode.steps) - 1
        if not (last and (step.observation == "" or (call is not None and call.name == "submit"))):
            messages.append(tool_message(step.observation, call))
    return ChatSample(episode.instance_id, tuple(messages), tuple(episode.tools), {"policy_name": episode.model})


def sample_call(step: RecordedStep, index: int) -> SampleCall | None:
    """The step's call with the identifier that formats with call ids give it."""
    call = step.call
    return None if call is None else SampleCall(call.name, dict(call.arguments), f"call_{index + 1}")


def want(document: Json, name: str, kind: type | tuple[type, ...], where: str, default: Any = None) -> Any:
    """A field of the wanted JSON type; missing or null gives `default`, or TrajectoryFormatError without one."""
    value = document.get(name)
    if value is None:
        if default is None:
            raise TrajectoryFormatError(f"{where}: {name} is missing")
        return default
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise TrajectoryFormatError(f"{where}: {name} is {type(value).__name__}")
    return value


def tools_of(specs: Sequence[Any], where: str) -> tuple[Json, ...]:
    """Tool definitions in OpenAI's shape, or TrajectoryFormatError."""
    for spec in specs:
        function = spec.get("function") if isinstance(spec, dict) else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise TrajectoryFormatError(f"{where}: a tool has no function with a name")
        parameters = want(function, "parameters", dict, where, {})
        properties = want(parameters, "properties", dict, where, {})
        if not all(isinstance(schema, dict) for schema in properties.values()):
            raise TrajectoryFormatError(f"{where}: a parameter of tool {function['name'][:40]!r} has no schema")
    return tuple(specs)


def rest_of(document: Json, *known: str) -> dict[str, Any]:
    """The fields that are not `known`."""
    return {name: value for name, value in document.items() if name not in known}
