"""Does a plan fit on the cluster there is? Pure arithmetic over the nodes' resources, and the text that `--plan` prints."""

from collections import Counter
from collections.abc import Sequence

from cluster.placement import Plan, Resources, describe

SLACK = 1e-6
"""Sums of fractions of a CPU are not exact."""


def unplaced(plan: Plan, nodes: Sequence[Resources]) -> tuple[tuple[str, Resources], ...]:
    """(group, bundle) of every bundle that finds no node when all are empty: the most demanding first, first fit.

    >>> from cluster.placement import GroupPlan
    >>> plan = Plan((GroupPlan("engines", "PACK", ({"GPU": 4.0},) * 3),), ())
    >>> unplaced(plan, [{"GPU": 8.0}])
    (('engines', {'GPU': 4.0}),)
    """
    free = [dict(node) for node in nodes]
    left = []
    bundles = [(group.name, bundle) for group in plan.groups for bundle in group.bundles]
    for name, bundle in sorted(bundles, key=lambda item: (-item[1].get("GPU", 0.0), -len(item[1]))):
        home = next((node for node in free if _holds(node, bundle)), None)
        if home is None:
            left.append((name, bundle))
            continue
        for resource, amount in bundle.items():
            home[resource] -= amount
    return tuple(left)


def fit_text(plan: Plan, nodes: Sequence[Resources]) -> str:
    """What of the plan is missing on a cluster of these nodes, and what to start."""
    total = describe(_sum(nodes))
    left = unplaced(plan, nodes)
    if not left:
        return f"this cluster ({len(nodes)} nodes: {total}) holds the plan"
    missing = Counter((name, describe(bundle)) for name, bundle in left)
    lines = [f"this cluster ({len(nodes)} nodes: {total}) lacks room for:"]
    lines += [f"  {count} x {name} ({each})" for (name, each), count in missing.items()]
    roles = sorted({role for _, bundle in left for role in ("engine", "learner", "sandbox") if role in bundle})
    if roles:
        start = ", ".join(f'"{role}": 1' for role in roles)
        lines.append(f"start nodes that offer their role (ray start ... --resources='{{{start}}}'), or set cluster.roles=ignored")
    return "\n".join(lines)


def _holds(node: Resources, bundle: Resources) -> bool:
    return all(node.get(resource, 0.0) + SLACK >= amount for resource, amount in bundle.items())


def _sum(nodes: Sequence[Resources]) -> Resources:
    """CPUs, GPUs and roles of all nodes; Ray's own entries (memory, node addresses) left out."""
    wanted = ("CPU", "GPU", "driver", "engine", "learner", "sandbox")
    total = {name: sum(node.get(name, 0.0) for node in nodes) for name in wanted}
    return {name: amount for name, amount in total.items() if amount}
