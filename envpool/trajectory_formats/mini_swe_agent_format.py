"""mini-swe-agent's `.traj.json`: OpenAI messages with `extra` (the command, its return code), and `info`.

Carries the conversation, the patch and the exit status; times and token ids are left out.
"""

from collections.abc import Mapping
from typing import Any

from envpool.trajectories.recorded_episode import RecordedEpisode, TrajectoryFormatError, rest_of, sample_of_episode, want
from envpool.trajectory_formats import openai_format

FORMAT = "mini-swe-agent-1.1"


def to_document(episode: RecordedEpisode) -> dict[str, Any]:
    """One `.traj.json` file."""
    plain = openai_format.to_document(episode)
    commands = [message.calls[0].arguments if message.calls else {} for message in sample_of_episode(episode).messages]
    for message, arguments in zip(plain["messages"], commands, strict=True):
        actions = [{"command": arguments["command"]}] if "command" in arguments else []
        message["extra"] = {"actions": actions} if message["role"] == "assistant" else {}
    info = {
        "model_stats": {"instance_cost": 0.0, "api_calls": len(episode.steps)},
        "config": {"model": {"model_name": episode.model}},
        **want(episode.extra, "info", dict, "mini_swe_agent", {}),
        "exit_status": episode.stop_reason,
        "submission": episode.patch,
    }
    head = {"instance_id": episode.instance_id, **rest_of(episode.extra, "info")}
    return {**head, "info": info, "messages": plain["messages"], "trajectory_format": FORMAT}


def from_document(document: Mapping[str, Any]) -> RecordedEpisode:
    """One `.traj.json` file of any version whose messages are OpenAI's. Raises TrajectoryFormatError."""
    if not str(document.get("trajectory_format", "")).startswith("mini-swe-agent-1"):
        raise TrajectoryFormatError(f"mini_swe_agent: trajectory_format is {str(document.get('trajectory_format'))[:30]!r}")
    info = want(document, "info", dict, "mini_swe_agent")
    config = want(info, "config", dict, "mini_swe_agent", {})
    model = want(config, "model", dict, "mini_swe_agent", {})
    metadata = {
        "instance_id": str(document.get("instance_id") or "?"),
        "model": str(model.get("model_name") or "?"),
        "patch": want(info, "submission", str, "mini_swe_agent", ""),
        "stop_reason": want(info, "exit_status", str, "mini_swe_agent", ""),
    }
    extra = rest_of(document, "info", "messages", "trajectory_format", "instance_id")
    plain = {"messages": _conversation(want(document, "messages", list, "mini_swe_agent")), "metadata": metadata, **extra}
    episode = openai_format.from_document(plain)
    return RecordedEpisode(**{**episode.__dict__, "extra": {**extra, "info": rest_of(info, "submission", "exit_status")}})


def _conversation(messages: list[Any]) -> list[Any]:
    """Without the closing `exit` message (`info` says the same), and with the answers that mini rejected: it keeps those only in
    `extra.response` of the user message that says what was wrong with them."""
    found = []
    for message in messages:
        if not isinstance(message, dict) or message.get("role") != "exit":
            rejected = _rejected_answer(message)
            found += [message] if rejected is None else [rejected, message]
    return found


def _rejected_answer(message: Any) -> dict[str, Any] | None:
    """The answer without its calls: they were not carried out."""
    extra = message.get("extra") if isinstance(message, dict) and message.get("role") == "user" else None
    response = extra.get("response") if isinstance(extra, dict) else None
    choices = response.get("choices") if isinstance(response, dict) else None
    first = choices[0] if isinstance(choices, list) and choices else None
    said = first.get("message") if isinstance(first, dict) else None
    return {"role": "assistant", "content": said.get("content")} if isinstance(said, dict) else None
