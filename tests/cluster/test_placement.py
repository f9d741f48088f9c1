"""Plans are literals: what a laptop and a GPU cluster are asked for, and which configurations are refused."""

import subprocess
import sys

import pytest

from cluster.cluster_fit import fit_text
from cluster.placement import GroupPlan, NodePlan, PlacementError, Plan, fitting_plan, plan_placement, render_plan
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
    roles = {"engine": 1.0, "learner": 1.0, "sandbox": 1.0}
    assert plan.nodes == (NodePlan("head", ("engines", "learner", "rollout"), {"CPU": 0.75, **roles}),)
    assert [(group.name, group.strategy, group.bundles) for group in plan.groups] == [
        ("engines", "PACK", ({"CPU": 0.25, "engine": 1.0},)),
        ("learner", "PACK", ({"CPU": 0.25, "learner": 1.0},)),
        ("rollout", "SPREAD", ({"CPU": 0.25, "sandbox": 1.0},)),
    ]


def test_colocated_engines_share_their_bundles_with_learner_ranks() -> None:
    overrides = ["cluster.placement=colocated", "grpo.max_staleness=0", "cluster.roles=ignored"]
    plan = plan_placement(load_config(None, overrides))
    assert [(group.name, group.bundles) for group in plan.groups] == [
        ("engines+learner", ({"CPU": 0.5},)),
        ("rollout", ({"CPU": 0.25},)),
    ]
    overrides += ["cluster.engine_gpus=0.5", "cluster.learner_gpus=0.5"]
    overrides += [f"{stage}.learner.optimizer_offload=true" for stage in ("sft", "grpo", "world_model")]
    plan = plan_placement(load_config(None, [*overrides, "engine.num_engines=2", "grpo.learner.num_ranks=2"]))
    assert plan.group("engines+learner").bundles == ({"CPU": 2.0, "GPU": 1.0},) * 2
    assert [(node.kind, node.actors) for node in plan.nodes] == [("gpu", ("engines+learner",) * 2), ("sandbox", ("rollout",))]


def test_roles_act_where_a_node_offers_one() -> None:
    plan = plan_placement(RunConfig())
    assert fitting_plan(plan, "auto", {"CPU": 2.0, "driver": 1.0}) == plan
    assert fitting_plan(plan, "required", {"CPU": 2.0}) == plan
    plain = fitting_plan(plan, "auto", {"CPU": 2.0})
    assert [group.bundles for group in plain.groups] == [({"CPU": 0.25},)] * 3
    assert plain.nodes == (NodePlan("head", ("engines", "learner", "rollout"), {"CPU": 0.75}),)
    assert plan_placement(load_config(None, ["cluster.roles=ignored"])) == plain


def test_gpu_bundles_fill_gpu_nodes_and_workers_get_their_own() -> None:
    plan = plan_placement(load_config(None, [*GPU_CLUSTER, "cluster.roles=ignored"]))
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
        (["cluster.roles=maybe"], "cluster.roles='maybe': use one of auto, required, ignored"),
        (["engine.num_engines=0"], "a run needs at least one bundle of engines; the configuration asks for none"),
    ],
)
def test_impossible_placements_are_refused(overrides: list[str], message: str) -> None:
    with pytest.raises(PlacementError) as error:
        plan_placement(load_config(None, overrides))
    assert str(error.value) == message


def test_the_table() -> None:
    assert render_plan(plan_placement(load_config(None, GPU_CLUSTER))) == (
        "placement group  strategy  bundles  each                     together\n"
        "engines          PACK      3        1 CPU, 4 GPU, 1 engine   3 CPU, 12 GPU, 3 engine\n"
        "learner          PACK      2        1 CPU, 1 GPU, 1 learner  2 CPU, 2 GPU, 2 learner\n"
        "rollout          SPREAD    2        0.25 CPU, 1 sandbox      0.5 CPU, 2 sandbox\n"
        "\n"
        "node     actors                needs\n"
        "gpu      2 engines             2 CPU, 8 GPU, 2 engine\n"
        "gpu      1 engines, 2 learner  3 CPU, 6 GPU, 1 engine, 2 learner\n"
        "sandbox  1 rollout             0.25 CPU, 1 sandbox\n"
        "sandbox  1 rollout             0.25 CPU, 1 sandbox"
    )


FIT = Plan(
    (
        GroupPlan("engines", "PACK", ({"CPU": 1.0, "GPU": 2.0, "engine": 1.0},) * 2),
        GroupPlan("rollout", "SPREAD", ({"CPU": 0.25, "sandbox": 1.0},)),
    ),
    (),
)


def test_a_cluster_that_holds_the_plan() -> None:
    nodes = [{"CPU": 8.0, "GPU": 4.0, "engine": 2.0, "memory": 1e9}, {"CPU": 4.0, "sandbox": 1.0}]
    assert fit_text(FIT, nodes) == "this cluster (2 nodes: 12 CPU, 4 GPU, 2 engine, 1 sandbox) holds the plan"


def test_what_a_cluster_lacks_is_named() -> None:
    nodes = [{"CPU": 8.0, "GPU": 2.0, "engine": 2.0}, {"CPU": 8.0, "GPU": 2.0}]
    assert fit_text(FIT, nodes) == (
        "this cluster (2 nodes: 16 CPU, 4 GPU, 2 engine) lacks room for:\n"
        "  1 x engines (1 CPU, 2 GPU, 1 engine)\n"
        "  1 x rollout (0.25 CPU, 1 sandbox)\n"
        'start nodes that offer their role (ray start ... --resources=\'{"engine": 1, "sandbox": 1}\'), '
        "or set cluster.roles=ignored"
    )


def test_planning_imports_no_ray() -> None:
    code = "import sys, cluster.placement; sys.exit('ray' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0
