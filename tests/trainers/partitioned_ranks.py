"""One of two ranks that load a model for ZeRO-3: prints by how much its peak memory grew and what it holds, as one JSON line."""

import json
import sys
from pathlib import Path

from configs.optimizer_config import LearnerConfig, OptimizerConfig
from trainers.deepspeed_engine import engine_settings, join_process_group
from trainers.pretrained_lm import load_pretrained_lm


def peak_mib() -> float:
    """The most this process has held (unlike getrusage's, not what its parent held before)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024


def main() -> None:
    small, folder, rank, port = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    learner = LearnerConfig(num_ranks=2, zero_stage=3, num_threads=1, step_timeout_s=300)
    join_process_group(rank, 2, "127.0.0.1", port, learner)
    import deepspeed

    settings = engine_settings("float32", OptimizerConfig(), learner)
    load_pretrained_lm(small, "float32", settings)  # imports and caches are paid for
    before = peak_mib()
    model = load_pretrained_lm(folder, "float32", settings)
    grown = peak_mib() - before
    parameters = list(model.parameters())
    sums = []
    for parameter in parameters:
        with deepspeed.zero.GatheredParameters(parameter):
            sums.append(float(parameter.double().sum()))
    print(json.dumps({"grown_mib": grown, "sums": sums, "held": sum(parameter.ds_tensor.numel() for parameter in parameters)}))


if __name__ == "__main__":
    main()
