import pytest

from configs.stage_loading import ConfigError, load_config

SUMMARY = "rollout.episode.context.policy=summary"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["rollout.episode.context.policy=short"], "context.policy=short is not known; one of full, summary, fold"),
        ([SUMMARY, "rollout.episode.context.interval=0"], "interval and recent must be at least 1"),
        ([SUMMARY, "rollout.episode.context.summary_tokens=9999"], "summary_tokens=9999 must lie between 0 and 1024"),
        ([SUMMARY, "rollout.episode.context.summary_timeout_s=500"], "must be below rollout.episode.episode_timeout_s=120"),
        (["rollout.episode.context.train_summary=true"], "train_summary has no effect with policy=full"),
        (["rollout.episode.max_context_tokens=2000"], "max_context_tokens=2000 is above max_tokens=1024"),
        (["rollout.episode.max_prompt_tokens=1024"], "max_prompt_tokens=1024 must leave room in 1024 tokens"),
        (["rollout.episode.grace_turns=-1"], "grace_turns must not be negative"),
        (["rollout.episode.max_turns=0"], "max_turns and max_tokens must be at least 1"),
        (["rollout.episode.garbled.symbol_share=1.5"], "shares must lie between 0 and 1"),
        (["rollout.episode.garbled.writing_systems=1"], "writing_systems must be at least 2"),
        (
            [
                "rollout.episode.context.policy=fold", "grpo.loss=gspo", "grpo.aggregation=seq-mean-token-mean",
                "grpo.clip_low=0.0003", "grpo.clip_high=0.0004",
            ],
            "grpo.loss=gspo takes one ratio over a trajectory",
        ),
        (
            ["rollout.episode.context.policy=fold", "grpo.ratio_to=learner", "grpo.importance_weight=sequence_truncated"],
            "grpo.importance_weight=sequence_truncated is over a trajectory",
        ),
    ],
)  # fmt: skip
def test_settings_that_could_not_act_are_refused(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message.replace("(", r"\(")):
        load_config(None, overrides)


def test_the_context_policies_are_accepted() -> None:
    for policy in ("full", "fold"):
        assert load_config(None, [f"rollout.episode.context.policy={policy}"]).rollout.episode.context.policy == policy
    assert load_config(None, [SUMMARY]).rollout.episode.context.interval == 10
