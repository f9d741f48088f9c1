"""World-model settings that cannot act are refused, and the configuration of 32B scale is planned."""

from pathlib import Path

import pytest

from cluster.placement import plan_placement
from configs.stage_loading import ConfigError, load_config

YAML = Path("configs/yaml")
SIMULATED = ["sandbox.backend=simulated", "verifier.grader=hybrid", "world_model.roles=[reward,transition]"]


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
        (["tts.turn_budget_samples=0"], "tts.turn_budget_samples must be 1 or more"),
    ],
)
def test_what_cannot_act_is_refused(settings: list[str], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint.replace("[", r"\[")):
        load_config(None, settings)


@pytest.mark.parametrize("name", ["swe_world_32b", "swe_world_32b_grpo"])
def test_the_32b_configurations_can_be_placed(name: str) -> None:
    config = load_config(YAML / f"{name}.yaml", [])
    plan = plan_placement(config)
    assert plan.group("learner").total["GPU"] > 0
    assert config.world_model.form == "full"
