"""Combinations of an episode's settings that could not act, or would act otherwise than they say."""

from configs.rollout_config import EpisodeConfig
from configs.run_config import RunConfig

CONTEXT_POLICIES = ("full", "summary", "fold")
"""Names of envpool.agent.context_policies.CONTEXT_POLICIES; a test holds them equal."""


def episode_problems(config: RunConfig) -> list[str]:
    """One line for everything that cannot be run as written; empty when all is well."""
    return [*_limit_problems(config.rollout.episode), *_context_problems(config)]


def _limit_problems(episode: EpisodeConfig) -> list[str]:
    counts = ("grace_turns", "max_context_tokens", "max_prompt_tokens", "max_missing_calls", "max_command_timeouts")
    negative = [name for name in counts if getattr(episode, name) < 0]
    garbled = episode.garbled
    checks = [
        (bool(negative), f"rollout.episode: {', '.join(negative)} must not be negative"),
        (episode.max_turns < 1 or episode.max_tokens < 1, "rollout.episode: max_turns and max_tokens must be at least 1"),
        (
            episode.max_context_tokens > episode.max_tokens,
            f"rollout.episode.max_context_tokens={episode.max_context_tokens} is above max_tokens={episode.max_tokens} and would "
            "never act",
        ),
        (
            episode.max_prompt_tokens >= episode.context_tokens,
            f"rollout.episode.max_prompt_tokens={episode.max_prompt_tokens} must leave room in {episode.context_tokens} tokens",
        ),
        (
            not (0 < garbled.symbol_share < 1 and 0 < garbled.control_share < 1 and 0 < garbled.system_share < 1),
            "rollout.episode.garbled: shares must lie between 0 and 1",
        ),
        (
            garbled.writing_systems < 2 or garbled.replacement_chars < 1,
            "rollout.episode.garbled: writing_systems must be at least 2 and replacement_chars at least 1",
        ),
    ]
    return [message for wrong, message in checks if wrong]


def _context_problems(config: RunConfig) -> list[str]:
    episode, grpo = config.rollout.episode, config.grpo
    context = episode.context
    cuts = context.policy != "full"
    checks = [
        (
            context.policy not in CONTEXT_POLICIES,
            f"rollout.episode.context.policy={context.policy} is not known; one of {', '.join(CONTEXT_POLICIES)}",
        ),
        (context.interval < 1 or context.recent < 1, "rollout.episode.context: interval and recent must be at least 1"),
        (
            context.policy == "summary" and not 0 < context.summary_tokens < episode.context_tokens,
            f"rollout.episode.context.summary_tokens={context.summary_tokens} must lie between 0 and {episode.context_tokens}",
        ),
        (
            context.policy == "summary" and not 0 < context.summary_timeout_s < episode.episode_timeout_s,
            f"rollout.episode.context.summary_timeout_s={context.summary_timeout_s:g} must be below "
            f"rollout.episode.episode_timeout_s={episode.episode_timeout_s:g}",
        ),
        (
            context.train_summary and context.policy != "summary",
            f"rollout.episode.context.train_summary has no effect with policy={context.policy}: nothing is summed up",
        ),
        (
            cuts and grpo.loss == "gspo",
            f"grpo.loss=gspo takes one ratio over a trajectory, and context.policy={context.policy} cuts it into several samples",
        ),
        (
            cuts and grpo.importance_weight == "sequence_truncated",
            f"grpo.importance_weight=sequence_truncated is over a trajectory, and context.policy={context.policy} cuts it",
        ),
    ]
    return [message for wrong, message in checks if wrong]
