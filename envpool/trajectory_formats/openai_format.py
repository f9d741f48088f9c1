"""OpenAI's chat messages: `messages` with tool calls (`arguments` as JSON text) and `tools`.

Carries the conversation; times and token ids are left out, the patch and the outcome go into `metadata`.
"""

import json
from collections.abc import Mapping
from typing import Any

from envpool.action_format import ToolCall, render_action
from envpool.trajectories.recorded_episode import (
    RecordedEpisode,
    RecordedStep,
    TrajectoryFormatError,
    rest_of,
    sample_of_episode,
    tools_of,
    want,
)


def to_document(episode: RecordedEpisode) -> dict[str, Any]:
    """One JSON object."""
    sample = sample_of_episode(episode)
    messages = []
    for message in sample.messages:
        written: dict[str, Any] = {"role": message.role, "content": message.content}
        if message.calls:
            written["tool_calls"] = [
                {
                    "id": call.call_id,
                    "type": "function",
                    "function": {"name": call.name, "arguments": json.dumps(dict(call.arguments))},
                }
                for call in message.calls
            ]
        if message.call_id:
            written["tool_call_id"] = message.call_id
        messages.append(written)
    metadata = {
        "instance_id": episode.instance_id,
        "model": episode.model,
        "patch": episode.patch,
        "stop_reason": episode.stop_reason,
        "reward": episode.reward if episode.graded else None,
    }
    return {**rest_of(episode.extra, "metadata"), "messages": messages, "tools": list(episode.tools), "metadata": metadata}


def from_document(document: Mapping[str, Any]) -> RecordedEpisode:
    """A conversation that starts with an optional system message and a user message. Raises TrajectoryFormatError."""
    metadata = want(document, "metadata", dict, "openai", {})
    where = f"openai {metadata.get('instance_id', '?')}"
    messages = want(document, "messages", list, where)
    if not all(isinstance(message, dict) for message in messages):
        raise TrajectoryFormatError(f"{where}: a message is no object")
    system = ""
    if messages and messages[0].get("role") == "system":
        system, messages = text_of(messages[0], where), messages[1:]
    if not messages or messages[0].get("role") != "user":
        raise TrajectoryFormatError(f"{where}: no user message begins the conversation")
    reward = want(metadata, "reward", (int, float), where, 0.0)
    return RecordedEpisode(
        instance_id=want(metadata, "instance_id", str, where, "?"),
        model=want(metadata, "model", str, where, "?"),
        system=system,
        prompt=text_of(messages[0], where),
        steps=steps_of(messages[1:], where),
        patch=want(metadata, "patch", str, where, ""),
        stop_reason=want(metadata, "stop_reason", str, where, ""),
        reward=float(reward),
        graded=metadata.get("reward") is not None,
        tools=tools_of(want(document, "tools", list, where, []), where),
        extra=rest_of(document, "messages", "tools", "metadata"),
    )


def steps_of(messages: list[dict[str, Any]], where: str) -> tuple[RecordedStep, ...]:
    """Assistant messages, each with the answers that follow it (joined when there are several)."""
    steps: list[RecordedStep] = []
    answers: list[str] = []
    pending: tuple[str, str] | None = None
    for message in [*messages, {"role": "assistant", "content": ""}]:
        role = message.get("role")
        if role == "assistant":
            if pending is not None:
                steps.append(RecordedStep(*pending, "\n".join(answers)))
            pending, answers = (text_of(message, where), action_of(message, where)), []
        elif role in ("tool", "user") and pending is not None:
            answers.append(text_of(message, where))
        else:
            raise TrajectoryFormatError(f"{where}: a message of role {str(role)[:20]} in the middle of the conversation")
    return tuple(steps)


def text_of(message: Mapping[str, Any], where: str) -> str:
    """A message's text; of content in parts, the text parts."""
    content = message.get("content")
    if content is None:
        return ""
    if isinstance(content, list):
        return "".join(part.get("text") or "" for part in content if isinstance(part, dict) and isinstance(part.get("text"), str))
    if not isinstance(content, str):
        raise TrajectoryFormatError(f"{where}: a message's content is {type(content).__name__}")
    return content


def action_of(message: Mapping[str, Any], where: str) -> str:
    """The message's first tool call as canonical XML, "" without one. Values that are no text become JSON text."""
    calls = want(message, "tool_calls", list, where, [])
    if not calls:
        return ""
    function = want(calls[0] if isinstance(calls[0], dict) else {}, "function", dict, where)
    arguments = function.get("arguments") or {}
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments)
        except (ValueError, RecursionError) as error:
            raise TrajectoryFormatError(f"{where}: the arguments of a tool call are not JSON") from error
    if not isinstance(arguments, dict):
        raise TrajectoryFormatError(f"{where}: the arguments of a tool call are {type(arguments).__name__}")
    values = {str(name): value if isinstance(value, str) else json.dumps(value) for name, value in arguments.items()}
    try:
        return render_action(ToolCall(want(function, "name", str, where), values))
    except ValueError as error:
        raise TrajectoryFormatError(f"{where}: {error}") from error
