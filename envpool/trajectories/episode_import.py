"""A recorded episode of any tool as our own trajectory: rendered turn by turn with one tokenizer, so that it can be stored and
trained on like one that was played here."""

import numpy as np

from envpool.action_format import render_action
from envpool.action_formats import ActionFormat
from envpool.chat.chat_format import ChatFormat
from envpool.patch import Patch
from envpool.policy import FloatArray, IntArray, Message
from envpool.trajectories.recorded_episode import RecordedEpisode, RecordedStep
from envpool.trajectory import StopReason, Trajectory, Turn

FINISHING = ("submit", "finish")
_ENDINGS = {
    "agent": StopReason.SUBMITTED,  # R2E-Gym's word
    "limitsexceeded": StopReason.MAX_TURNS,  # mini-swe-agent's
    "exit_cost": StopReason.MAX_TURNS,  # SWE-agent's, with a patch taken all the same
}


def trajectory_of_record(episode: RecordedEpisode, chat: ChatFormat, form: ActionFormat, sample_index: int = 0) -> Trajectory:
    """Calls are written as `form` writes them; a step keeps its recorded ids and log-probs where they are of this very text,
    others get NaN log-probs. Policy versions are 0. Raises ValueError for a call whose name or parameter `form` cannot write."""
    tools = form.template_tools(episode.tools)
    system = (Message("system", episode.system),) if episode.system else ()
    context = chat.prompt_ids((*system, Message("user", episode.prompt)), tools)
    turns = []
    for step in episode.steps:
        text = step_text(step, form)
        ids, logprobs = _completion(step, text, chat)
        turns.append(
            Turn(
                context_ids=context,
                completion_ids=ids,
                rollout_logprobs=logprobs,
                policy_versions=np.zeros(len(ids), np.int32),
                text=text,
                action="" if step.call is None else render_action(step.call),
                observation=step.observation,
                generate_s=step.generate_s,
                tool_s=step.tool_s,
            )
        )
        context = chat.observation_ids(step.observation)
        if not len(ids) or ids[-1] != chat.end_of_turn_id:
            context = np.concatenate([np.array([chat.end_of_turn_id], np.int32), context])
    prompt = "\n\n".join(part for part in (episode.system, episode.prompt) if part)
    return Trajectory(
        instance_id=episode.instance_id,
        sample_index=sample_index,
        policy_name=episode.model,
        prompt=prompt,
        turns=tuple(turns),
        patch=Patch(episode.patch),
        stop_reason=stop_reason_of(episode),
        seconds=sum(step.generate_s + step.tool_s for step in episode.steps),
    )


def step_text(step: RecordedStep, form: ActionFormat) -> str:
    """What the model said, its call as `form` writes it. A thought keeps the white space before its call."""
    call = step.call
    if call is None:
        return f"{step.thought}{step.action}"
    written = form.render(call)
    if form.parse(f"{step.thought}{written}") is None or not step.thought:
        return written
    return f"{step.thought}{written}"


def stop_reason_of(episode: RecordedEpisode) -> StopReason:
    """Ours by its own word or a known one of theirs; else what the last call says."""
    word = episode.stop_reason.lower()
    if word in {reason.value for reason in StopReason}:
        return StopReason(word)
    if word in _ENDINGS:
        return _ENDINGS[word]
    last = episode.steps[-1].call if episode.steps else None
    if word.startswith("submit") or (last is not None and last.name in FINISHING):
        return StopReason.SUBMITTED
    if "token" in word or "context" in word:
        return StopReason.MAX_TOKENS
    return StopReason.DEADLINE if "time" in word else StopReason.MAX_TURNS


def _completion(step: RecordedStep, text: str, chat: ChatFormat) -> tuple[IntArray, FloatArray]:
    recorded = np.array(step.completion_ids, np.int32)
    if len(recorded) and recorded.min() >= 0 and chat.decode(recorded) == text:
        logprobs = np.array(step.logprobs, np.float32)
        return recorded, logprobs if len(logprobs) == len(recorded) else np.full(len(recorded), np.nan, np.float32)
    ids = chat.completion_ids(text)
    return ids, np.full(len(ids), np.nan, np.float32)
