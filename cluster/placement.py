"""Which Ray actors a run needs and where they go: a pure function of the configuration, printed by `--plan` without Ray."""

from collections import Counter
from dataclasses import dataclass, replace

from configs.run_config import RunConfig
from configs.simulation_check import uses_world_model

Resources = dict[str, float]

ROLES = {"engines": "engine", "world-model": "engine", "learner": "learner", "rollout": "sandbox"}
"""The custom resource that marks the nodes of each group; the head of a cluster offers `driver`, for the job itself."""
ROLE_CHOICES = ("auto", "required", "ignored")
COLOCATED = "engines+learner"
"""The group whose bundles hold an engine and a learner rank each (cluster.placement=colocated)."""


class PlacementError(ValueError):
    """The configuration asks for a placement that cannot be; one line that names the keys."""


@dataclass(frozen=True)
class GroupPlan:
    """One placement group: an actor per bundle. `strategy` is Ray's: PACK on few nodes, SPREAD over many."""

    name: str
    strategy: str
    bundles: tuple[Resources, ...]

    @property
    def total(self) -> Resources:
        return add_up(self.bundles)


@dataclass(frozen=True)
class NodePlan:
    """A machine the run needs: what runs on it and what that takes."""

    kind: str
    actors: tuple[str, ...]
    resources: Resources


@dataclass(frozen=True)
class Plan:
    """Placement groups `engines`, `learner`, `rollout` and, where a world model is served beside the policy,
    `world-model`; and the machines that can hold them. With cluster.placement=colocated the first two are one."""

    groups: tuple[GroupPlan, ...]
    nodes: tuple[NodePlan, ...]

    def group(self, name: str) -> GroupPlan:
        return next(group for group in self.groups if group.name == name)


def plan_placement(config: RunConfig) -> Plan:
    """The placement of a run. Engines and learner ranks with GPUs go to GPU nodes, rollout workers one to a CPU node;
    without any GPU everything shares the head. Raises PlacementError.

    >>> [node.kind for node in plan_placement(RunConfig()).nodes]
    ['head']
    """
    cluster = config.cluster
    if config.engine.tensor_parallel > 1 and cluster.engine_gpus < config.engine.tensor_parallel:
        raise PlacementError(
            f"engine.tensor_parallel={config.engine.tensor_parallel} needs cluster.engine_gpus={config.engine.tensor_parallel}, "
            f"it is {cluster.engine_gpus:g}"
        )
    if cluster.roles not in ROLE_CHOICES:
        raise PlacementError(f"cluster.roles={cluster.roles!r}: use one of {', '.join(ROLE_CHOICES)}")
    engine = _bundle(cluster.engine_gpus, cluster.cpus_per_actor, "engines")
    rank = _bundle(cluster.learner_gpus, cluster.cpus_per_actor, "learner")
    worker = _bundle(0.0, cluster.cpus_per_actor, "rollout")
    most_ranks = max(stage.learner.num_ranks for stage in config.training_stages.values())
    groups: tuple[GroupPlan, ...] = (
        GroupPlan("engines", "PACK", (engine,) * config.engine.num_engines),
        GroupPlan("learner", "PACK", (rank,) * most_ranks),
    )
    if cluster.placement == "colocated":
        shared = add_up((engine, rank)) if config.engine.num_engines else {}
        groups = (GroupPlan(COLOCATED, "PACK", (shared,) * max(most_ranks, config.engine.num_engines)),)
    groups += (GroupPlan("rollout", "SPREAD", (worker,) * cluster.num_rollout_workers),)
    if uses_world_model(config) and not config.world_model.endpoint.base_url:
        groups = (*groups, GroupPlan("world-model", "PACK", (engine,) * config.world_model.num_engines))
    for group in groups:
        if not group.bundles:
            raise PlacementError(f"a run needs at least one bundle of {group.name}; the configuration asks for none")
    plan = Plan(groups, _nodes(groups, cluster.gpus_per_node))
    return without_roles(plan) if cluster.roles == "ignored" else plan


def without_roles(plan: Plan) -> Plan:
    """The same plan for a cluster whose nodes have no roles: CPUs and GPUs alone decide."""
    groups = tuple(replace(group, bundles=tuple(map(_plain, group.bundles))) for group in plan.groups)
    return Plan(groups, tuple(replace(node, resources=_plain(node.resources)) for node in plan.nodes))


def fitting_plan(plan: Plan, roles: str, cluster: Resources) -> Plan:
    """The plan for a cluster that offers `cluster` in sum. With roles=auto nodes have roles when any node offers one."""
    offered = {*ROLES.values(), "driver"} & {name for name, amount in cluster.items() if amount}
    return without_roles(plan) if roles == "auto" and not offered else plan


def render_plan(plan: Plan) -> str:
    """The plan as a text table."""
    rows: list[tuple[str, ...]] = [("placement group", "strategy", "bundles", "each", "together")]
    for group in plan.groups:
        rows.append((group.name, group.strategy, str(len(group.bundles)), describe(group.bundles[0]), describe(group.total)))
    lines = _table(rows)
    lines += [
        "",
        *_table([("node", "actors", "needs"), *((n.kind, _counted(n.actors), describe(n.resources)) for n in plan.nodes)]),
    ]
    return "\n".join(lines)


def describe(resources: Resources) -> str:
    """
    >>> describe({"CPU": 1.0, "GPU": 4.0})
    '1 CPU, 4 GPU'
    """
    return ", ".join(f"{amount:g} {name}" for name, amount in resources.items() if amount) or "nothing"


def add_up(bundles: tuple[Resources, ...]) -> Resources:
    """Sum per resource."""
    total: Counter[str] = Counter()
    for bundle in bundles:
        total.update(bundle)
    return dict(total)


def _bundle(gpus: float, cpus: float, group: str) -> Resources:
    amounts = {"CPU": 1.0, "GPU": gpus} if gpus else {"CPU": cpus}
    return {**amounts, ROLES[group]: 1.0}


def _plain(resources: Resources) -> Resources:
    return {name: amount for name, amount in resources.items() if name not in ROLES.values()}


def _nodes(groups: tuple[GroupPlan, ...], gpus_per_node: int) -> tuple[NodePlan, ...]:
    """First fit of the bundles with GPUs into GPU nodes; one CPU node for each rollout worker; the rest on the head."""
    placed = [(group.name, bundle) for group in groups for bundle in group.bundles]
    if not any("GPU" in bundle for _, bundle in placed):
        return (NodePlan("head", tuple(name for name, _ in placed), add_up(tuple(bundle for _, bundle in placed))),)
    gpu_nodes: list[list[tuple[str, Resources]]] = []
    nodes: list[NodePlan] = []
    head: list[tuple[str, Resources]] = []
    for name, bundle in sorted(placed, key=lambda item: -item[1].get("GPU", 0.0)):
        if "GPU" in bundle:
            if bundle["GPU"] > gpus_per_node:
                raise PlacementError(f"a bundle of {name} wants {bundle['GPU']:g} GPU, cluster.gpus_per_node is {gpus_per_node}")
            free = (node for node in gpu_nodes if sum(b["GPU"] for _, b in node) + bundle["GPU"] <= gpus_per_node)
            home = next(free, None)
            if home is None:
                gpu_nodes.append([(name, bundle)])
            else:
                home.append((name, bundle))
        elif name == "rollout":
            nodes.append(NodePlan("sandbox", (name,), bundle))
        else:
            head.append((name, bundle))
    parts = [("gpu", node) for node in gpu_nodes] + ([("head", head)] if head else [])
    packed = [NodePlan(kind, tuple(name for name, _ in part), add_up(tuple(b for _, b in part))) for kind, part in parts]
    return (*packed, *nodes)


def _counted(names: tuple[str, ...]) -> str:
    return ", ".join(f"{count} {name}" for name, count in Counter(names).items())


def _table(rows: list[tuple[str, ...]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
