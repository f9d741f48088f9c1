"""R2E-Gym's and SWE-Master's trajectories (JSONL): a step has thought, action (XML), observation, token counts and times.

Reading and writing again gives the same document: fields we have no name for are kept. Token ids are not in this format.
"""

from collections.abc import Mapping
from typing import Any

from envpool.trajectories.recorded_episode import RecordedEpisode, RecordedStep, TrajectoryFormatError, rest_of, want

_STEP = ("thought", "action", "observation", "llm_exec_time", "env_exec_time", "token_usage_prompt", "token_usage_completion")
_EPISODE = ("trajectory_steps", "output_patch", "exit_reason", "reward")


def from_document(document: Mapping[str, Any]) -> RecordedEpisode:
    """One line of the file. Raises TrajectoryFormatError."""
    row = want(document, "ds", dict, "r2e_gym", {})
    where = f"r2e_gym {row.get('instance_id') or document.get('docker_image') or '?'}"
    agent = want(document, "agent_args", dict, where, {})
    reward = want(document, "reward", (int, float), where, 0.0)
    return RecordedEpisode(
        instance_id=str(row.get("instance_id") or row.get("commit_hash") or "?"),
        model=str(agent.get("llm_name") or document.get("exp_name") or "?"),
        system=want(agent, "system_prompt", str, where, ""),
        prompt=_prompt(document, agent, where),
        steps=tuple(_step(step, f"{where} step {i}") for i, step in enumerate(want(document, "trajectory_steps", list, where))),
        patch=want(document, "output_patch", str, where, ""),
        stop_reason=want(document, "exit_reason", str, where, ""),
        reward=float(reward),
        graded=document.get("reward") is not None,
        extra=rest_of(document, *_EPISODE) | ({"_absent": absent} if (absent := _absent(document, _EPISODE)) else {}),
    )


def to_document(episode: RecordedEpisode) -> dict[str, Any]:
    """The document again; of an episode from elsewhere, one with the fields that R2E-Gym's own tools read."""
    steps = [_step_document(step, index) for index, step in enumerate(episode.steps)]
    values = {
        "trajectory_steps": steps,
        "output_patch": episode.patch,
        "exit_reason": episode.stop_reason,
        "reward": episode.reward,
    }
    if "ds" in episode.extra or "agent_args" in episode.extra:
        return _merged(episode.extra, values)
    return {
        "problem_statement": episode.prompt,
        "ds": {"instance_id": episode.instance_id},
        "agent_args": {"system_prompt": episode.system, "llm_name": episode.model},
        **values,
    }


def _prompt(document: Mapping[str, Any], agent: Mapping[str, Any], where: str) -> str:
    statement: str = want(document, "problem_statement", str, where, "")
    template: str = want(agent, "instance_prompt", str, where, "")
    return template.replace("{problem_statement}", statement) if "{problem_statement}" in template else statement


def _step(step: Any, where: str) -> RecordedStep:
    if not isinstance(step, dict):
        raise TrajectoryFormatError(f"{where} is {type(step).__name__}, not an object")
    absent = _absent(step, _STEP)
    return RecordedStep(
        thought=want(step, "thought", str, where, ""),
        action=want(step, "action", str, where, ""),
        observation=want(step, "observation", str, where, ""),
        generate_s=want(step, "llm_exec_time", (int, float), where, 0.0),
        tool_s=want(step, "env_exec_time", (int, float), where, 0.0),
        prompt_tokens=want(step, "token_usage_prompt", int, where, 0),
        completion_tokens=want(step, "token_usage_completion", int, where, 0),
        extra=rest_of(step, *_STEP) | ({"_absent": absent} if absent else {}),
    )


def _step_document(step: RecordedStep, index: int) -> dict[str, Any]:
    values = {
        "thought": step.thought,
        "action": step.action,
        "observation": step.observation,
        "llm_exec_time": step.generate_s,
        "env_exec_time": step.tool_s,
        "token_usage_prompt": step.prompt_tokens,
        "token_usage_completion": step.completion_tokens,
    }
    return _merged(step.extra, values) if "step_idx" in step.extra else {"step_idx": index, **values, "done": False, "info": {}}


def _absent(document: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    """Known fields that are null or missing, to be written so again."""
    return {name: name in document for name in names if document.get(name) is None}


def _merged(extra: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    absent = extra.get("_absent", {})
    kept = {name: value for name, value in values.items() if name not in absent}
    return {**rest_of(extra, "_absent"), **kept, **{name: None for name, was_null in absent.items() if was_null}}
