"""The objective as text, the combinations that are refused, and the configurations that are shipped."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from cluster.cli import app
from cluster.placement import plan_placement
from configs.objective_check import CHOICES, SCHEDULES, STOP_REASONS, TABLES, objective_problems
from configs.run_config import RunConfig
from configs.stage_loading import ConfigError, load_config
from envpool.trajectory import StopReason
from trainers.advantages import ADVANTAGES
from trainers.group_filter import POLICIES
from trainers.importance_weights import IMPORTANCE_WEIGHTS
from trainers.loss_aggregation import AGGREGATIONS
from trainers.loss_spec import POLICY_LOSSES
from trainers.objective_text import AGGREGATION_TEXT, LOSS_TEXT, objective_notes, objective_text
from trainers.window_state import LATE_GROUPS
from verifier.rewards import REWARDS
from verifier.truncation_credit import TRUNCATION_CREDITS

YAML = Path(__file__).parents[2] / "configs" / "yaml"


def test_names_are_those_of_the_registries() -> None:
    assert set(CHOICES["advantage"]) == set(ADVANTAGES)
    assert set(CHOICES["loss"]) == set(POLICY_LOSSES) == set(LOSS_TEXT)
    assert set(CHOICES["aggregation"]) == set(AGGREGATIONS) == set(AGGREGATION_TEXT)
    assert set(CHOICES["importance_weight"]) == set(IMPORTANCE_WEIGHTS)
    assert set(CHOICES["zero_spread_groups"]) == set(POLICIES)
    assert set(CHOICES["late_groups"]) == set(LATE_GROUPS)
    assert set(SCHEDULES) == set(TRUNCATION_CREDITS)
    assert set(TABLES) == set(REWARDS)
    assert set(STOP_REASONS) == {reason.value for reason in StopReason}


def test_defaults_are_fine() -> None:
    assert objective_problems(RunConfig()) == []


@pytest.mark.parametrize(
    ("overrides", "reason"),
    [
        (["grpo.initial_policy=rollout"], "grpo.initial_policy=rollout is not known; one of sft, base"),
        (["grpo.loss=ppo"], "grpo.loss=ppo is not known; one of clip_higher, gspo, cispo"),
        (["verifier.reward=best"], "verifier.reward=best is not known"),
        (["grpo.loss=gspo", "grpo.aggregation=seq-mean-token-mean"], "would never act"),
        (["grpo.loss=gspo", "grpo.clip_low=3e-4", "grpo.clip_high=4e-4"], "use seq-mean-token-mean"),
        (["grpo.clip_low=1.5"], "clip_low must be in"),
        (["grpo.temperature=0"], "grpo.temperature=0 must be at least 0.01"),
        (["grpo.importance_weight=band_pass"], "corrects the same difference twice"),
        (["grpo.ratio_to=learner", "grpo.importance_weight=band_pass", "grpo.importance_band=[1.1,2]"], "must hold 1"),
        (["grpo.importance_cap=0.5"], "below 1"),
        (["grpo.kl_coefficient=0.1"], "set grpo.ratio_to=learner"),
        (["grpo.kl_coefficient=0.1", "grpo.ratio_to=learner", "grpo.updates_per_batch=2"], "exact only where the ratio is 1"),
        (["grpo.kl_coefficient=0.1", "grpo.ratio_to=learner", "grpo.learner.zero_stage=3"], "whole on every rank"),
        (["grpo.group_size=1"], "a group of one has advantage 0"),
        (["grpo.updates_per_batch=99"], "between 1 and grpo.groups_per_step=16"),
        (["grpo.solve_rate_band=[0.9,0.1]"], "two rising shares"),
        (["grpo.zero_spread_groups=replace", "grpo.max_replacement_rounds=0"], "at least 1"),
        (["grpo.max_staleness=-1"], "must not be negative"),
        (["grpo.late_groups=mask"], "which grpo.max_staleness=0 forbids"),
        (["grpo.late_groups=wait"], "one of cut, mask, drop"),
        (["grpo.patience=2"], "set grpo.eval_every"),
        (["grpo.eval_every=2", "grpo.eval_tasks=0"], "must be positive"),
        (["verifier.reward=deepswe", "verifier.truncated_schedule=linear"], "has no effect"),
        (["verifier.truncated_factor=1.5"], "within"),
        (["verifier.reward_rules={crashed: {graded: false}}"], "no stop reason crashed"),
        (["verifier.reward_rules={deadline: {factor: half}}"], "neither a number nor alpha"),
    ],
)
def test_what_cannot_act_is_refused_with_the_reason(overrides: list[str], reason: str) -> None:
    with pytest.raises(ConfigError) as refused:
        load_config(None, overrides)
    assert str(refused.value).count(reason) == 1
    assert "\n" not in str(refused.value)


def test_the_demos_objective() -> None:
    text = objective_text(load_config(YAML / "demo.yaml", []))
    for part in (
        "L = 1/N sum_i 1/256 sum_t l_it",
        "max(-A_t r_t, -A_t clip(r_t, 0.8, 1.28))",
        "G/(G-1) (R_i - mean R) with G = 8; not divided by the std",
        "max_turns   R = alpha x outcome",
        "alpha = 0.5",
        "16 tasks x 8 episodes = 128 trajectories",
        "kept: no gradient, counted in the mean",
        "updates with a norm of 100000 or more left out",
    ):
        assert part in text
    assert "KL           none" in text


def test_other_numbers_give_another_formula() -> None:
    overrides = ["grpo.loss=cispo", "grpo.aggregation=token-mean", "grpo.clip_high=4", "grpo.ratio_to=learner"]
    overrides += ["grpo.importance_weight=band_pass", "grpo.importance_band=[0.8,1.25]", "grpo.kl_coefficient=0.01"]
    overrides += ["grpo.advantage=group_mean_std", "verifier.reward=deepswe", "grpo.zero_spread_groups=replace"]
    config = load_config(None, [*overrides, "grpo.temperature=0.7"])
    text = objective_text(config)
    for part in (
        "are of softmax(logits / 0.7), which the engine samples from",
        "L = 1/M sum_i sum_t l_it",
        "stop_gradient(clip(r_t, 0.8, 5))",
        "A_i w_t where 0.8 <= w_t <= 1.25, else 0",
        "+ 0.01 k3(pi | first policy)",
        "(std R + 1e-6)",
        "max_turns   masked: in neither baseline nor loss",
        "3 rounds at most",
    ):
        assert part in text
    assert any("the clip does not act" in note for note in objective_notes(config.grpo))


def test_an_ending_that_costs_says_so() -> None:
    text = objective_text(load_config(None, ["verifier.reward=swe_world"]))
    assert "garbled     R = -0.5" in text
    assert "max_turns   R = 0\n" in text


def test_explain_answers_and_refuses() -> None:
    shown = CliRunner().invoke(app, ["explain", str(YAML / "demo.yaml"), "grpo.clip_high=0.3"])
    assert shown.exit_code == 0
    assert "clip(r_t, 0.8, 1.3)" in shown.output
    refused = CliRunner().invoke(app, ["explain", "grpo.group_size=1"])
    assert refused.exit_code == 2
    assert "a group of one" in refused.output


@pytest.mark.parametrize(
    ("name", "updates", "l_max", "deadline_s"), [("swe_master_32b", 4, 102_400, 5400), ("swe_master_4b", 2, 122_880, 3600)]
)
def test_swe_masters_settings(name: str, updates: int, l_max: int, deadline_s: int) -> None:
    config = load_config(YAML / f"{name}.yaml", [])
    grpo = config.grpo
    assert (grpo.groups_per_step, grpo.group_size, grpo.updates_per_batch, grpo.max_response_tokens) == (32, 4, updates, l_max)
    assert (grpo.clip_low, grpo.clip_high, grpo.kl_coefficient, grpo.ratio_to) == (0.2, 0.28, 0.0, "learner")
    assert (grpo.optimizer.learning_rate, grpo.optimizer.weight_decay, grpo.optimizer.warmup_steps) == (1e-6, 0.01, 0)
    assert (config.rollout.episode.max_turns, config.rollout.episode.episode_timeout_s) == (150, deadline_s)
    assert (config.rollout.episode.max_prompt_tokens, config.rollout.episode.max_command_timeouts) == (8192, 3)
    assert grpo.optimizer.skip_grad_norm == 1e5
    assert config.rollout.episode.max_tokens == 8192 + l_max == config.engine.max_model_len
    plan = plan_placement(config)
    gpus = plan.group("engines").total["GPU"] + plan.group("learner").total["GPU"]
    assert gpus == {"swe_master_32b": 64, "swe_master_4b": 16}[name]
    assert f"1/{l_max:,}" in objective_text(config)
