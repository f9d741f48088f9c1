"""Plans are literals: what a laptop and a GPU cluster are asked for, and which configurations are refused."""

import subprocess
import sys

import pytest

from cluster.placement import NodePlan, PlacementError, plan_placement, render_plan
from configs.run_config import RunConfig
from configs.stage_loading import load_config

GPU_CLUSTER = [
    "engine.num_engines=3",
    "engine.tensor_parallel=4",
    "cluster.engine_gpus=4",
    "cluster.learner_gpus=1",
    "grpo.learner.num_ranks=2",
    "cluster.num_rollout_workers=2",
]


def test_everything_fits_on_a_laptop_with_two_cpus() -> None:
    plan = plan_placement(RunConfig())
    assert plan.nodes == (NodePlan("head", ("engines", "learner", "rollout"), {"CPU": 0.75}),)
    assert [(group.name, group.strategy, group.bundles) for group in plan.groups] == [
        ("engines", "PACK", ({"CPU": 0.25},)),
        ("learner", "PACK", ({"CPU": 0.25},)),
        ("rollout", "SPREAD", ({"CPU": 0.25},)),
    ]


def test_gpu_bundles_fill_gpu_nodes_and_workers_get_their_own() -> None:
    plan = plan_placement(load_config(None, GPU_CLUSTER))
    assert plan.group("engines").bundles == ({"CPU": 1.0, "GPU": 4.0},) * 3
    assert plan.group("learner").total == {"CPU": 2.0, "GPU": 2.0}
    assert plan.nodes == (
        NodePlan("gpu", ("engines", "engines"), {"CPU": 2.0, "GPU": 8.0}),
        NodePlan("gpu", ("engines", "learner", "learner"), {"CPU": 3.0, "GPU": 6.0}),
        NodePlan("sandbox", ("rollout",), {"CPU": 0.25}),
        NodePlan("sandbox", ("rollout",), {"CPU": 0.25}),
    )


def test_the_learner_group_holds_the_stage_with_the_most_ranks() -> None:
    plan = plan_placement(load_config(None, ["sft.learner.num_ranks=3", "world_model.learner.num_ranks=2"]))
    assert len(plan.group("learner").bundles) == 3


def test_a_cpu_learner_beside_gpu_engines_goes_to_the_head() -> None:
    plan = plan_placement(load_config(None, ["cluster.engine_gpus=1"]))
    assert [(node.kind, node.actors) for node in plan.nodes] == [
        ("gpu", ("engines",)),
        ("head", ("learner",)),
        ("sandbox", ("rollout",)),
    ]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["engine.tensor_parallel=2"], "engine.tensor_parallel=2 needs cluster.engine_gpus=2, it is 0"),
        (["cluster.engine_gpus=16"], "a bundle of engines wants 16 GPU, cluster.gpus_per_node is 8"),
        (["engine.num_engines=0"], "a run needs at least one bundle of engines; the configuration asks for none"),
    ],
)
def test_impossible_placements_are_refused(overrides: list[str], message: str) -> None:
    with pytest.raises(PlacementError) as error:
        plan_placement(load_config(None, overrides))
    assert str(error.value) == message


def test_the_table() -> None:
    assert render_plan(plan_placement(load_config(None, GPU_CLUSTER))) == (
        "placement group  strategy  bundles  each          together\n"
        "engines          PACK      3        1 CPU, 4 GPU  3 CPU, 12 GPU\n"
        "learner          PACK      2        1 CPU, 1 GPU  2 CPU, 2 GPU\n"
        "rollout          SPREAD    2        0.25 CPU      0.5 CPU\n"
        "\n"
        "node     actors                needs\n"
        "gpu      2 engines             2 CPU, 8 GPU\n"
        "gpu      1 engines, 2 learner  3 CPU, 6 GPU\n"
        "sandbox  1 rollout             0.25 CPU\n"
        "sandbox  1 rollout             0.25 CPU"
    )


def test_planning_imports_no_ray() -> None:
    code = "import sys, cluster.placement; sys.exit('ray' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0
