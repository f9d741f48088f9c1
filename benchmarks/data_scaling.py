"""What more data and the difficulty filter are worth: the experiment of configs/yaml/experiments/data_scaling.yaml, with curves.

    python -m benchmarks.data_scaling                                    # all arms and seeds, about 25 minutes on two cores
    python -m benchmarks.data_scaling --resume RUN                       # go on, or draw again
    python -m benchmarks.data_scaling seeds=[0] run.sft.num_steps=10 run.tasks.micro.num_train=24 run.tasks.micro.num_heldout=8

Prints a table and the difference that the filter makes, and writes two curves (SVG) to --to.
"""

import argparse
import asyncio
import json
from pathlib import Path

from cluster.experiment_curves import MEASURES, curve_charts, difference, markdown_table, summarise
from cluster.progress_view import ProgressView
from cluster.run_folder import RunFolder
from cluster.sft_experiment import run_experiment
from cluster.stage_running import log_to
from cluster.svg_charts import standalone_svg
from configs.experiment_config import load_experiment

EXPERIMENT = Path(__file__).parents[1] / "configs" / "yaml" / "experiments" / "data_scaling.yaml"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("overrides", nargs="*", help="key=value of the experiment's file")
    parser.add_argument("--experiment", type=Path, default=EXPERIMENT)
    parser.add_argument("--resume", type=Path, default=None, help="root folder of an earlier run; give the same overrides")
    parser.add_argument("--to", type=Path, default=None, help="folder for the curves; default: the run's root")
    parser.add_argument("--json", action="store_true", help="the summaries as one JSON object at the end")
    arguments = parser.parse_args()
    experiment = load_experiment(arguments.experiment, arguments.overrides)
    root = RunFolder.open(arguments.resume) if arguments.resume else RunFolder.create(experiment.run)
    progress = ProgressView()
    progress.say(f"root folder: {root.root}")
    log_to(root)
    summaries = summarise(asyncio.run(run_experiment(experiment, root, progress)))
    print(markdown_table(summaries))
    whole = {arm.arm: arm for arm in summaries if arm.share == 1.0}
    if len(whole) == 2:
        first, second = whole.values()
        for measure, name in MEASURES.items():
            gap = difference(second, first, measure)
            print(f"{name}: {first.arm} less {second.arm}: {gap.mean:+.4f} [{gap.low:+.4f}, {gap.high:+.4f}]")
    folder = arguments.to or root.root
    for measure, chart in curve_charts(summaries).items():
        (folder / f"data_scaling_{measure.split('_')[0]}.svg").write_text(standalone_svg(chart))
    if arguments.json:
        print(json.dumps([{"arm": arm.arm, "samples": arm.samples, "by_seed": arm.by_seed} for arm in summaries]))


if __name__ == "__main__":
    main()
