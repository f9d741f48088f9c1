"""Where engines and learner are placed, how weights travel between them, and the combinations that cannot work."""

from configs.run_config import RunConfig

PLACEMENTS = ("split", "colocated")
TRANSFERS = ("auto", "shm", "nccl", "ipc")


def weight_transfer_of(config: RunConfig) -> str:
    """`engine.weight_transfer` with auto resolved: shm without GPUs on both sides, ipc on shared ones, nccl between others.

    >>> weight_transfer_of(RunConfig())
    'shm'
    """
    cluster, chosen = config.cluster, config.engine.weight_transfer
    if chosen != "auto":
        return chosen
    if not cluster.engine_gpus or not cluster.learner_gpus:
        return "shm"
    return "ipc" if cluster.placement == "colocated" else "nccl"


def engine_problems(config: RunConfig) -> list[str]:
    """One line for everything that cannot be run as written; empty when all is well."""
    cluster, engine, learner = config.cluster, config.engine, config.grpo.learner
    if cluster.placement not in PLACEMENTS:
        return [f"cluster.placement={cluster.placement} is not known; one of {', '.join(PLACEMENTS)}"]
    if engine.weight_transfer not in TRANSFERS:
        return [f"engine.weight_transfer={engine.weight_transfer} is not known; one of {', '.join(TRANSFERS)}"]
    colocated, transfer = cluster.placement == "colocated", weight_transfer_of(config)
    both_on_gpus = bool(cluster.engine_gpus and cluster.learner_gpus)
    checks = [
        (
            transfer in ("nccl", "ipc") and not both_on_gpus,
            f"engine.weight_transfer={transfer} needs GPUs on both sides: cluster.engine_gpus={cluster.engine_gpus:g}, "
            f"cluster.learner_gpus={cluster.learner_gpus:g}",
        ),
        (
            transfer == "ipc" and not colocated,
            "engine.weight_transfer=ipc shares memory of one GPU: set cluster.placement=colocated, or nccl",
        ),
        (
            transfer == "nccl" and colocated,
            "engine.weight_transfer=nccl does not work between processes on one GPU: use ipc with cluster.placement=colocated",
        ),
    ]
    if colocated:
        sections = {name.replace("-", "_"): stage.learner for name, stage in config.training_stages.items()}
        on_gpu = [f"{name}.learner.optimizer_offload=true" for name, ranks in sections.items() if not ranks.optimizer_offload]
        checks += [
            (
                config.grpo.max_staleness > 0,
                f"cluster.placement=colocated: engines sleep while the learner trains, so rollouts cannot run ahead; "
                f"grpo.max_staleness={config.grpo.max_staleness} must be 0",
            ),
            (
                engine.num_engines > learner.num_ranks,
                f"cluster.placement=colocated puts one engine beside a learner rank: engine.num_engines={engine.num_engines} "
                f"is more than grpo.learner.num_ranks={learner.num_ranks}",
            ),
            (engine.tensor_parallel > 1, "cluster.placement=colocated needs engine.tensor_parallel=1"),
            (
                bool(cluster.engine_gpus) != bool(cluster.learner_gpus),
                "cluster.placement=colocated shares GPUs: set both cluster.engine_gpus and cluster.learner_gpus, or neither",
            ),
            (
                both_on_gpus and cluster.engine_gpus + cluster.learner_gpus > 1,
                f"cluster.placement=colocated: cluster.engine_gpus={cluster.engine_gpus:g} and "
                f"cluster.learner_gpus={cluster.learner_gpus:g} are shares of one GPU, together at most 1",
            ),
            (
                both_on_gpus and bool(on_gpu),
                "cluster.placement=colocated: the GPU has no room for the optimizer's state beside the engine that plays after "
                f"a step or a stage; set {' '.join(on_gpu)}",
            ),
            (engine.sleep_level not in (1, 2), f"engine.sleep_level={engine.sleep_level} must be 1 or 2"),
        ]
    return [message for wrong, message in checks if wrong]
