"""What `--plan` prints: placement groups and nodes, the learner's memory and time, and what this cluster lacks."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from cluster.placement import PlacementError, fitting_plan, plan_placement, render_plan
from configs.run_config import RunConfig
from configs.simulation_check import endpoint_advice


def print_plan(verb: str, config: RunConfig, fail: Callable[[str], NoReturn], resume: Path | None = None) -> None:
    """Print the plan of a verb; without a cluster address nothing is started or joined. In a run folder (`resume`) also check
    that it has what the verb needs. Calls `fail` with one line."""
    from cluster.training_plans import sft_plan_text
    from trainers.memory_plan import PlanError

    try:
        plan = plan_placement(config)
        print(render_plan(plan))
        if verb == "sft":
            print(f"\n{sft_plan_text(config)}")
        for line in endpoint_advice(config):
            print(f"\n{line}")
    except (PlacementError, PlanError) as error:
        fail(str(error))
    print(f"\n{run_text(verb, config, resume, fail) if resume is not None else new_folder_text(verb, config)}")
    if config.cluster.address or os.environ.get("RAY_ADDRESS"):
        from cluster.cluster_fit import fit_text
        from cluster.ray_session import ClusterError, cluster_nodes

        try:
            nodes = cluster_nodes(config.cluster) or []
        except ClusterError as error:
            fail(str(error))
        offered = {name: 1.0 for node in nodes for name, amount in node.items() if amount}
        print(f"\n{fit_text(fitting_plan(plan, config.cluster.roles, offered), nodes)}")


def new_folder_text(verb: str, config: RunConfig) -> str:
    """What a verb's first stage would lack in a run folder of its own, in one line."""
    from cluster.stage_running import stages_of
    from cluster.stages import STAGES

    refusal = STAGES[stages_of(verb, config, {})[0]].refusal(verb, config, {}, "RUN")
    return f"run folder: a new one{f', in which {refusal}' if refusal else ''}"


def run_text(verb: str, config: RunConfig, root: Path, fail: Callable[[str], NoReturn]) -> str:
    """What the run folder has for this verb's stages, in one line. Calls `fail` when something they need is missing."""
    from cluster.run_folder import RunFolder, RunFolderError
    from cluster.stage import StageError
    from cluster.stage_running import stages_of
    from cluster.stages import STAGES
    from cluster.task_selection import playable_tasks

    try:
        folder = RunFolder.open(root)
        records = folder.stage_records()
        stages = [STAGES[name] for name in stages_of(verb, config, records)]
        if len(stages) > 1:
            return f"run folder: {', '.join(records) or 'no stage'} finished"
        if refusal := stages[0].refusal(verb, config, records, folder.root):
            fail(refusal)
        counts = {split: len(playable_tasks(config, folder, split)) for split in played_splits(stages[0].name, config)}
    except (RunFolderError, StageError) as error:
        fail(str(error))
    tasks = "".join(f", {count} {split} tasks can be played" for split, count in counts.items())
    return f"run folder: {stages[0].name} can start{tasks}"


def played_splits(stage: str, config: RunConfig) -> tuple[str, ...]:
    """The splits whose tasks a stage plays."""
    if stage == "grpo":
        return ("train", "heldout") if config.grpo.eval_every else ("train",)
    if stage.startswith("eval-"):
        return ("heldout",)
    return ("train",) if stage == "rollout" else ()
