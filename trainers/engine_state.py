"""DeepSpeed's part of a checkpoint: every rank writes its own shard, and any number of ranks reads them back.

The same number of ranks loads its own shards. Another number goes through DeepSpeed's universal format, made once beside the
checkpoint: each parameter and its moments whole, cut anew for the ranks that read it.
"""

import json
import shutil
from argparse import Namespace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from trainers.checkpoint import CheckpointError, clear_folder, partial_folder, publish_folder

LEARNER_STATE = "learner_state"
TAG = "deepspeed"
"""DeepSpeed's own folder inside a checkpoint."""
UNIVERSAL = "universal"
STAGE_FILE = "zero_stage.json"
RNG_FILE = "rng_rank_{}.pt"
BYTES_PER_PARAMETER = 12
"""Float32 weight and two moments of AdamW."""


def state_bytes(module: nn.Module, weights_only: bool = False) -> int:
    """About what all ranks together write."""
    sizes = [(getattr(p, "ds_numel", p.numel()), p.element_size(), p.requires_grad) for p in module.parameters()]
    weights = sum(count * size for count, size, _ in sizes)
    return weights if weights_only else weights + sum(count * BYTES_PER_PARAMETER for count, _, trained in sizes if trained)


def save_engine_state(engine: Any, folder: Path, state: dict[str, Any], rank: int, zero_stage: int) -> None:
    """This rank's shards, the learner's own numbers and the random state. A collective."""
    if rank == 0:
        (folder / STAGE_FILE).write_text(json.dumps({"zero_stage": zero_stage}))
    engine.save_checkpoint(str(folder), tag=TAG, client_state={LEARNER_STATE: state}, save_latest=False)
    random_state = {"torch": torch.get_rng_state()}
    if torch.cuda.is_available():
        random_state["cuda"] = torch.cuda.get_rng_state()
    torch.save(random_state, folder / RNG_FILE.format(rank))


def ranks_of_checkpoint(folder: Path) -> int:
    """How many ranks wrote it. Raises CheckpointError when it is none."""
    count = len(list(folder.glob(RNG_FILE.format("*"))))
    if not count or not (folder / TAG).is_dir():
        raise CheckpointError(f"{folder} is no checkpoint: it has no {RNG_FILE.format(0)} or no {TAG} folder")
    return count


def load_engine_state(
    engine: Any, module: nn.Module, folder: Path, rank: int, world_size: int, zero_stage: int
) -> dict[str, Any]:
    """Weights, optimizer and, with the same number of ranks, the random state; returns the learner's own numbers."""
    written_by = ranks_of_checkpoint(folder)
    stage = json.loads((folder / STAGE_FILE).read_text())["zero_stage"]
    if stage != zero_stage:
        raise CheckpointError(f"{folder} was written with learner.zero_stage={stage}, this run has {zero_stage}: set it back")
    if written_by == world_size:
        loaded, state = engine.load_checkpoint(str(folder), tag=TAG, load_lr_scheduler_states=False)
        random_state = torch.load(folder / RNG_FILE.format(rank), weights_only=True)
        torch.set_rng_state(random_state["torch"])
        if "cuda" in random_state and torch.cuda.is_available():
            torch.cuda.set_rng_state(random_state["cuda"])
    else:
        if rank == 0:
            make_universal(folder)
        if world_size > 1:
            torch.distributed.barrier()
        loaded, state = _load_universal(engine, folder)
    if loaded is None:
        raise CheckpointError(f"cannot load the checkpoint in {folder}")
    numbers: dict[str, Any] = state[LEARNER_STATE]
    return numbers


def make_universal(folder: Path) -> Path:
    """The checkpoint in DeepSpeed's universal format, in `folder/universal`; made once."""
    target = folder / UNIVERSAL
    if target.is_dir():
        return target
    from deepspeed.checkpoint.ds_to_universal import main as convert

    partial = partial_folder(target)
    clear_folder(partial)
    convert(
        Namespace(
            input_folder=str(folder / TAG),
            output_folder=str(partial),
            num_extract_workers=1,
            num_merge_workers=1,
            keep_temp_folder=False,
            strict=True,
            inject_missing_state=True,
        )
    )
    publish_folder(partial, target)
    shutil.rmtree(partial, ignore_errors=True)
    return target


def _load_universal(engine: Any, folder: Path) -> tuple[Any, dict[str, Any]]:
    before = engine._config.load_universal_checkpoint
    engine._config.load_universal_checkpoint = True
    try:
        loaded, state = engine.load_checkpoint(str(folder), tag=UNIVERSAL, load_lr_scheduler_states=False)
    finally:
        engine._config.load_universal_checkpoint = before
    return loaded, state
