"""ATIF 1.8, the Agent Trajectory Interchange Format of Harbor and others: steps, tool calls, token ids and log-probs.

Carries everything of a RecordedEpisode; log-probs that are not numbers (scripted policies report none) are left out.
"""

import math
from collections.abc import Mapping
from typing import Any

from envpool.action_format import ToolCall, render_action
from envpool.trajectories.recorded_episode import (
    RecordedEpisode,
    RecordedStep,
    TrajectoryFormatError,
    sample_call,
    tools_of,
    want,
)
from envpool.trajectory_formats.openai_format import text_of

VERSION = "ATIF-v1.8"
AGENT = {"name": "swe-master-ray", "version": "1"}
_OURS = "swe_master"


def to_document(episode: RecordedEpisode) -> dict[str, Any]:
    """A `trajectory.json`."""
    steps: list[dict[str, Any]] = [{"source": "system", "message": episode.system}] if episode.system else []
    steps.append({"source": "user", "message": episode.prompt})
    steps += [_agent_step(step, index) for index, step in enumerate(episode.steps)]
    outcome = {"patch": episode.patch, "stop_reason": episode.stop_reason, "instance_id": episode.instance_id}
    agent: dict[str, Any] = {**AGENT, "model_name": episode.model}
    return {
        "schema_version": VERSION,
        "session_id": episode.instance_id,
        "agent": agent | ({"tool_definitions": list(episode.tools)} if episode.tools else {}),
        "steps": [{"step_id": number, **step} for number, step in enumerate(steps, start=1)],
        "final_metrics": {
            "total_prompt_tokens": sum(step.prompt_tokens for step in episode.steps),
            "total_completion_tokens": sum(step.completion_tokens for step in episode.steps),
            "total_steps": len(steps),
        },
        "extra": {**episode.extra, _OURS: outcome | ({"reward": episode.reward} if episode.graded else {})},
    }


def from_document(document: Mapping[str, Any]) -> RecordedEpisode:
    """An ATIF document of any 1.x version. Raises TrajectoryFormatError."""
    where = f"atif {document.get('session_id') or '?'}"
    if not str(document.get("schema_version", "")).startswith("ATIF-v1."):
        raise TrajectoryFormatError(f"{where}: schema_version is {str(document.get('schema_version'))[:20]!r}, not ATIF-v1.x")
    agent = want(document, "agent", dict, where)
    extra = dict(want(document, "extra", dict, where, {}))
    ours = want(extra, _OURS, dict, where, {})
    extra.pop(_OURS, None)
    texts: dict[str, list[str]] = {"system": [], "user": []}
    steps: list[RecordedStep] = []
    for step in want(document, "steps", list, where):
        source = step.get("source") if isinstance(step, dict) else None
        if source == "agent":
            steps.append(_recorded_step(step, where))
        elif source not in ("system", "user"):
            raise TrajectoryFormatError(f"{where}: a step of source {str(source)[:20]!r}")
        elif steps:  # feedback in the middle belongs to the turn before it
            last = steps[-1]
            joined = "\n".join(part for part in (last.observation, _message(step, where)) if part)
            steps[-1] = RecordedStep(**{**last.__dict__, "observation": joined})
        else:
            texts[source].append(_message(step, where))
    return RecordedEpisode(
        instance_id=str(ours.get("instance_id") or document.get("session_id") or "?"),
        model=str(agent.get("model_name") or agent.get("name") or "?"),
        system="\n\n".join(texts["system"]),
        prompt="\n\n".join(texts["user"]),
        steps=tuple(steps),
        patch=want(ours, "patch", str, where, ""),
        stop_reason=want(ours, "stop_reason", str, where, ""),
        reward=float(want(ours, "reward", (int, float), where, 0.0)),
        graded="reward" in ours,
        tools=tools_of(want(agent, "tool_definitions", list, where, []), where),
        extra=extra,
    )


def _agent_step(step: RecordedStep, index: int) -> dict[str, Any]:
    call = sample_call(step, index)
    written: dict[str, Any] = {"source": "agent", "message": step.thought if call is not None else f"{step.thought}{step.action}"}
    answer: dict[str, Any] = {"content": step.observation}
    if call is not None:
        written["tool_calls"] = [{"tool_call_id": call.call_id, "function_name": call.name, "arguments": dict(call.arguments)}]
        answer["source_call_id"] = call.call_id
    if step.observation:
        written["observation"] = {"results": [answer]}
    metrics: dict[str, Any] = {"prompt_tokens": step.prompt_tokens, "completion_tokens": step.completion_tokens}
    if step.completion_ids:
        metrics["completion_token_ids"] = list(step.completion_ids)
    if step.logprobs and all(map(math.isfinite, step.logprobs)):
        metrics["logprobs"] = list(step.logprobs)
    seconds = {"generate_s": step.generate_s, "tool_s": step.tool_s, "action": step.action}
    return {**written, "metrics": metrics, "llm_call_count": 1, "extra": {**step.extra, _OURS: seconds}}


def _recorded_step(step: Mapping[str, Any], where: str) -> RecordedStep:
    metrics = want(step, "metrics", dict, where, {})
    extra = dict(want(step, "extra", dict, where, {}))
    ours = want(extra, _OURS, dict, where, {})
    extra.pop(_OURS, None)
    results = want(want(step, "observation", dict, where, {}), "results", list, where, [])
    thought = "".join(part for part in (want(step, "reasoning_content", str, where, ""), _message(step, where)) if part)
    action = ours.get("action") if isinstance(ours.get("action"), str) else _action(step, where)
    if action and not step.get("tool_calls"):
        thought = thought.removesuffix(action)
    try:
        ids = tuple(int(token) for token in want(metrics, "completion_token_ids", list, where, []))
        logprobs = tuple(float(value) for value in want(metrics, "logprobs", list, where, []))
    except (TypeError, ValueError) as error:
        raise TrajectoryFormatError(f"{where}: token ids or log-probs are no numbers") from error
    return RecordedStep(
        thought=thought,
        action=action or "",
        observation="\n".join(text_of(result, where) for result in results if isinstance(result, dict)),
        generate_s=float(want(ours, "generate_s", (int, float), where, 0.0)),
        tool_s=float(want(ours, "tool_s", (int, float), where, 0.0)),
        prompt_tokens=want(metrics, "prompt_tokens", int, where, 0),
        completion_tokens=want(metrics, "completion_tokens", int, where, 0),
        completion_ids=ids,
        logprobs=logprobs,
        extra=extra,
    )


def _message(step: Mapping[str, Any], where: str) -> str:
    return text_of({"content": step.get("message")}, where)


def _action(step: Mapping[str, Any], where: str) -> str:
    calls = want(step, "tool_calls", list, where, [])
    if not calls:
        return ""
    call = calls[0] if isinstance(calls[0], dict) else {}
    arguments = want(call, "arguments", dict, where, {})
    try:
        return render_action(ToolCall(want(call, "function_name", str, where), {str(k): str(v) for k, v in arguments.items()}))
    except ValueError as error:
        raise TrajectoryFormatError(f"{where}: {error}") from error
