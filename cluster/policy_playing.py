"""Episodes of a policy of this run, for evaluation and calibration: really executed, and stored ones are taken again where
nothing has changed."""

import asyncio
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from cluster.episode_playing import play_tasks
from cluster.evaluation_stamp import put_aside_others
from cluster.stage import StageContext
from cluster.weights_fingerprint import weights_fingerprint
from envpool.task import Task
from verifier.reward import Group


async def play_policy(
    context: StageContext, stage: str, policy: str, tasks: Sequence[Task], num_samples: int, max_turns: int = 0
) -> list[Group]:
    """`play_tasks` by the policy (base, sft, grpo) that the engines serve, at tts.temperature.

    Groups that an earlier try stored are kept if the same weights played them with the same settings; else they are put
    aside, and all tasks are played anew.
    """
    stamp = await policy_stamp(context, policy, num_samples, max_turns)
    if said := put_aside_others(context.folder.root / "trajectories" / stage, stamp):
        context.progress.say(said)
    temperature = context.config.tts.temperature
    return await play_tasks(context, stage, tasks, ("engine",), num_samples, temperature, max_turns=max_turns, real=True)


async def policy_stamp(context: StageContext, policy: str, num_samples: int, max_turns: int = 0) -> dict[str, Any]:
    """All that decides how a task's episodes come out and how they are graded."""
    config = context.config
    episode, verifier = asdict(config.rollout.episode), config.verifier
    own_turns = episode.pop("max_turns")
    return {
        "weights": await asyncio.to_thread(weights_fingerprint, context.fleet.model_folder(policy)),
        "seed": config.seed,
        "temperature": config.tts.temperature,
        "samples": num_samples,
        "max_turns": max_turns or own_turns,
        "episode": episode,
        "model": {"dtype": config.model.dtype, "max_model_len": config.engine.max_model_len},
        "sandbox": config.sandbox.real_backend,
        "grading": {
            "timeout_s": verifier.grading_timeout_s,
            "protect_test_setup": verifier.protect_test_setup,
            "collect_context": verifier.collect_context,
            "collect_executions": verifier.collect_executions,
        },
    }
