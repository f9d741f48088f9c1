"""World-model settings that cannot act are refused, and the configuration of 32B scale is planned."""

from pathlib import Path

import pytest

from cluster.placement import plan_placement
from configs.simulation_check import endpoint_advice
from configs.stage_loading import ConfigError, load_config

YAML = Path("configs/yaml")
SIMULATED = ["sandbox.backend=simulated", "verifier.grader=hybrid", "world_model.roles=[reward,transition]"]
SERVED = ["world_model.endpoint.base_url=http://localhost:1/v1", "world_model.endpoint.model=m"]


def test_simulated_rollouts_have_engines_for_the_world_model() -> None:
    plan = plan_placement(load_config(None, SIMULATED))
    assert [group.name for group in plan.groups] == ["engines", "learner", "rollout", "world-model"]
    assert [group.name for group in plan_placement(load_config(None, [])).groups] == ["engines", "learner", "rollout"]
    served = [*SIMULATED, "world_model.endpoint.base_url=http://localhost:1/v1"]
    assert len(plan_placement(load_config(None, served)).groups) == 3


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        (["sandbox.backend=simulated", "world_model.roles=[reward,transition]"], "verifier.grader=hybrid"),
        (["sandbox.backend=simulated", "verifier.grader=hybrid"], "needs transition in world_model.roles"),
        (["verifier.grader=hybrid", "world_model.roles=[transition]"], "needs reward in world_model.roles"),
        (["world_model.roles=[judge]"], "world_model.roles="),
        (["world_model.roles=[]"], "world_model.roles="),
        (["world_model.context=oracle"], "world_model.context=oracle is not known"),
        (["world_model.calibration=magic"], "world_model.calibration=magic is not known"),
        (["world_model.calibration_share=0"], "needs world_model.calibration_share above 0"),
        (["world_model.reasoner=endpoint"], "needs world_model.teacher.base_url"),
        (["verifier.audit_share=0"], "verifier.audit_share must be in"),
        (["tts.turn_budgets=[0,25]"], "tts.turn_budgets must be 1 or more"),
        ([*SERVED, "world_model.max_model_len=-1"], "world_model.max_model_len must be 0"),
        (["world_model.max_model_len=4096"], "world_model.max_model_len is the limit of world_model.endpoint"),
        (["world_model.max_report_tokens=1024"], "max_report_tokens=1024 leaves no token of engine.max_model_len=1024"),
        (
            [*SERVED, "world_model.max_report_tokens=16384"],
            "engine.max_model_len=1024 for a prompt: lower the first, or raise the second "
            r"\(world_model.max_model_len is the endpoint's own limit\)",
        ),
        (
            [*SERVED, "world_model.max_model_len=4096", "world_model.roles=[transition]", "world_model.max_run_tokens=4096"],
            "max_run_tokens=4096 leaves no token of world_model.max_model_len=4096",
        ),
        (["tts.turn_budget_samples=0"], "tts.turn_budget_samples must be 1 or more"),
    ],
)
def test_what_cannot_act_is_refused(settings: list[str], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint.replace("[", r"\[")):
        load_config(None, settings)


def test_an_endpoints_window_is_its_own() -> None:
    own = ["world_model.max_model_len=32768", "world_model.max_report_tokens=16384"]
    config = load_config(None, [*SIMULATED, *SERVED, *own])
    assert (config.world_model.max_model_len, config.engine.max_model_len) == (32768, 1024)
    load_config(None, ["world_model.roles=[reward]", "world_model.max_run_tokens=1024"])  # no command is ever simulated


@pytest.mark.parametrize(
    ("settings", "advice"),
    [
        ([], ["engine.max_model_len=1024", "form=compact"]),
        (["world_model.max_model_len=4096"], ["form=compact"]),
        (["world_model.max_model_len=4096", "world_model.form=full"], ["max_report_tokens=96"]),
        (["world_model.max_model_len=4096", "world_model.form=full", "world_model.max_report_tokens=1024"], []),
        (
            ["world_model.max_model_len=4096", "world_model.form=full", "world_model.roles=[reward,transition]"],
            ["max_report_tokens=96", "max_run_tokens=128"],
        ),
    ],
)
def test_defaults_of_a_tiny_model_are_named_with_an_endpoint(settings: list[str], advice: list[str]) -> None:
    found = endpoint_advice(load_config(None, [*SERVED, *settings]))
    assert [word in line for word, line in zip(advice, found, strict=True)] == [True] * len(advice)
    assert endpoint_advice(load_config(None, [])) == []


def test_an_endpoint_that_may_outlast_an_episode_is_named_where_it_plays_in_one() -> None:
    words = [*SERVED, "world_model.max_model_len=4096", "world_model.form=full", "world_model.max_report_tokens=1024"]
    words += ["world_model.max_run_tokens=1024"]
    (line,) = endpoint_advice(load_config(None, [*words, *SIMULATED]))
    assert line.startswith("world_model.endpoint.request_timeout_s=120 is not below rollout.episode.episode_timeout_s=120:")
    assert endpoint_advice(load_config(None, [*words, *SIMULATED, "world_model.endpoint.request_timeout_s=119"])) == []
    assert endpoint_advice(load_config(None, words)) == []


@pytest.mark.parametrize("name", ["swe_world_32b", "swe_world_32b_grpo"])
def test_the_32b_configurations_can_be_placed(name: str) -> None:
    config = load_config(YAML / f"{name}.yaml", [])
    plan = plan_placement(config)
    assert plan.group("learner").total["GPU"] > 0
    assert config.world_model.form == "full"
