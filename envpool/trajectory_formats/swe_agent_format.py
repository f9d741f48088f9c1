"""SWE-agent's `.traj`: `trajectory` (action, observation, response, thought, execution_time), `history`, `info`.

Carries texts, the patch (`info.submission`) and times of commands; token ids and the reward are left out.
"""

from collections.abc import Mapping
from typing import Any

from envpool.trajectories.recorded_episode import RecordedEpisode, RecordedStep, TrajectoryFormatError, rest_of, want
from envpool.trajectory_formats.openai_format import text_of

_STEP = ("action", "observation", "thought", "execution_time")


def to_document(episode: RecordedEpisode) -> dict[str, Any]:
    """One `.traj` file."""
    history = (
        [{"role": "system", "content": episode.system, "agent": "main", "message_type": "system_prompt"}]
        if episode.system
        else []
    )
    history.append({"role": "user", "content": episode.prompt, "agent": "main", "message_type": "observation"})
    for step in episode.steps:
        written = {"role": "assistant", "content": f"{step.thought}{step.action}", "thought": step.thought, "action": step.action}
        history.append(written | {"agent": "main", "message_type": "action"})
        history.append({"role": "user", "content": step.observation, "agent": "main", "message_type": "observation"})
    steps = [
        {
            "response": f"{step.thought}{step.action}",
            "state": {},
            "query": [],
            "extra_info": {},
            **step.extra,
            "action": step.action,
            "observation": step.observation,
            "thought": step.thought,
            "execution_time": step.tool_s,
        }
        for step in episode.steps
    ]
    info = {
        "model_stats": {
            "tokens_sent": sum(step.prompt_tokens for step in episode.steps),
            "tokens_received": sum(step.completion_tokens for step in episode.steps),
            "api_calls": len(episode.steps),
        },
        **want(episode.extra, "info", dict, "swe_agent", {}),
        "exit_status": episode.stop_reason,
        "submission": episode.patch,
    }
    plain = {"environment": episode.instance_id, "replay_config": None, "history": history}
    return {**plain, **rest_of(episode.extra, "info"), "trajectory": steps, "info": info}


def from_document(document: Mapping[str, Any]) -> RecordedEpisode:
    """One `.traj` file. Raises TrajectoryFormatError."""
    where = f"swe_agent {document.get('environment') or '?'}"
    info = want(document, "info", dict, where)
    history = want(document, "history", list, where, [])
    texts = {"system": "", "user": ""}
    for message in history:
        if not isinstance(message, dict) or message.get("role") not in ("system", "user"):
            break
        texts[message["role"]] += text_of(message, where)
    stats = want(info, "model_stats", dict, where, {})
    return RecordedEpisode(
        instance_id=str(document.get("environment") or "?"),
        model=str(stats.get("model_name") or "?"),
        system=texts["system"],
        prompt=texts["user"],
        steps=tuple(_step(step, where) for step in want(document, "trajectory", list, where)),
        patch=want(info, "submission", str, where, ""),
        stop_reason=want(info, "exit_status", str, where, ""),
        extra=rest_of(document, "trajectory", "info") | {"info": rest_of(info, "submission", "exit_status")},
    )


def _step(step: Any, where: str) -> RecordedStep:
    if not isinstance(step, dict):
        raise TrajectoryFormatError(f"{where}: a step is {type(step).__name__}, not an object")
    return RecordedStep(
        thought=want(step, "thought", str, where, ""),
        action=want(step, "action", str, where, ""),
        observation=want(step, "observation", str, where, ""),
        tool_s=float(want(step, "execution_time", (int, float), where, 0.0)),
        extra=rest_of(step, *_STEP),
    )
