"""What `--plan` prints: placement groups and nodes, the learner's memory and time, and what this cluster lacks."""

import os
from collections.abc import Callable
from typing import NoReturn

from cluster.placement import PlacementError, fitting_plan, plan_placement, render_plan
from configs.run_config import RunConfig


def print_plan(verb: str, config: RunConfig, fail: Callable[[str], NoReturn]) -> None:
    """Print the plan of a verb; without a cluster address nothing is started or joined. Calls `fail` with one line."""
    from cluster.training_plans import sft_plan_text
    from trainers.memory_plan import PlanError

    try:
        plan = plan_placement(config)
        print(render_plan(plan))
        if verb == "sft":
            print(f"\n{sft_plan_text(config)}")
    except (PlacementError, PlanError) as error:
        fail(str(error))
    if config.cluster.address or os.environ.get("RAY_ADDRESS"):
        from cluster.cluster_fit import fit_text
        from cluster.ray_session import ClusterError, cluster_nodes

        try:
            nodes = cluster_nodes(config.cluster) or []
        except ClusterError as error:
            fail(str(error))
        offered = {name: 1.0 for node in nodes for name, amount in node.items() if amount}
        print(f"\n{fit_text(fitting_plan(plan, config.cluster.roles, offered), nodes)}")
