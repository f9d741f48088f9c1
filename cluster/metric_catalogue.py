"""Every metric of a run: name, unit, meaning, and which way is better. docs/metrics.md is printed from here:

python -m cluster.metric_catalogue > docs/metrics.md
"""

import re
import sys
from dataclasses import dataclass
from functools import cache
from itertools import groupby

from cluster.metric_tables import TABLES

BETTER = {"+": "up", "-": "down", "": "none"}
FLAT = "train"
"""Group of the names without a slash: what the learner reports of an optimizer step."""

HEAD = """# Metrics

Written by `python -m cluster.metric_catalogue`; a test keeps this page up to date, and a name that is not here fails the tests.

Every run writes `metrics.jsonl`, one line per stage and step; trackers get the same numbers as `<stage>/<name>`.

| to see | do |
|---|---|
| the newest rows | `tail -f runs/RUN/metrics.jsonl` |
| one metric, step by step | `jq -c 'select(.stage=="grpo") \\| [.step, ."reward/mean"]' runs/RUN/metrics.jsonl` |
| curves in the browser, no tracker | `swe-master view runs/RUN`, or `report.html` after each stage |
| TensorBoard | run with `trackers=[tensorboard]`, then `tensorboard --logdir runs/RUN/logs/tensorboard` |
| W&B | run with `trackers=[wandb]` and `WANDB_API_KEY` set; without a key, or without a network, it writes offline |
| W&B, written offline | `wandb sync runs/RUN/wandb/offline-run-*` |
| Prometheus | join a cluster (`cluster.address`) and run with `trackers=[prometheus]`: gauges `ray_swe_master_<group>_<name>` |
| Grafana | import `cluster/grafana/dashboard.json` and choose the Prometheus that scrapes Ray |

A private Ray head exports no metrics, since it opens no port: `trackers=[prometheus]` is refused there.
A tracker that fails during a run is dropped with one line; the run goes on and `metrics.jsonl` has everything.

The stage `grpo-seconds` says for every GRPO step where its seconds went (`seconds/...`, group *Where a step's seconds go*),
`grpo-eval` is the evaluation beside the training, `eval-base`, `eval-sft` and `eval-grpo` are those of whole policies (step 0).
Names without a slash are the learner's.

The driver's time is booked in spans that do not overlap; what is left of the step is `seconds/other`, so the labels always sum
to `seconds/wall`. While the driver waits for rollouts, many episodes run at once: that wait is divided in the proportion in which
the episodes that the step trains on spent their own seconds (`episode/...`), and of the generating part the share
`engine/queue_share` counts as `seconds/queue`. A wait inside vLLM's scheduler, once a request was let in, counts as generating.
"""


@dataclass(frozen=True)
class Metric:
    """`name` may hold one `<part>` that stands for a word. `better`: up, down or none."""

    name: str
    unit: str
    meaning: str
    better: str

    @property
    def group(self) -> str:
        """What stands before the slash.

        >>> Metric("stop/<reason>", "share", "", "none").group, Metric("loss", "nats", "", "down").group
        ('stop', 'train')
        """
        return self.name.partition("/")[0] if "/" in self.name else FLAT

    @property
    def is_pattern(self) -> bool:
        return "<" in self.name

    def fits(self, name: str) -> bool:
        """Whether this entry describes a metric called `name`."""
        return re.fullmatch(re.sub(r"<\w+>", r"[a-z0-9_]+", self.name), name) is not None


@cache
def sections() -> tuple[tuple[str, tuple[Metric, ...]], ...]:
    """(title, entries) in the order of the page. Raises ValueError for a line that is not an entry."""
    return tuple((title, tuple(map(_entry, lines.strip().splitlines()))) for title, lines in TABLES)


def catalogue() -> tuple[Metric, ...]:
    """All entries."""
    return tuple(metric for _, metrics in sections() for metric in metrics)


def _entry(line: str) -> Metric:
    cells = [cell.strip() for cell in line.split("|")]
    if len(cells) != 4 or cells[2] not in BETTER:
        raise ValueError(f"not a metric (name | unit | + or - or nothing | meaning): {line}")
    return Metric(cells[0], cells[1], cells[3], BETTER[cells[2]])


@cache
def metric_named(name: str) -> Metric | None:
    """The entry that describes a metric, None for one that is not in the list.

    >>> metric_named("stop/max_turns").name, metric_named("reward/men")
    ('stop/<reason>', None)
    """
    return next((metric for metric in catalogue() if metric.fits(name)), None)


def prometheus_name(name: str) -> str:
    """What a metric is called there (Ray puts `ray_` before it).

    >>> prometheus_name("reward/mean"), prometheus_name("loss")
    ('swe_master_reward_mean', 'swe_master_train_loss')
    """
    group, _, rest = name.rpartition("/")
    return f"swe_master_{group or FLAT}_{re.sub('[^a-zA-Z0-9_]', '_', rest)}"


def metrics_page() -> str:
    """docs/metrics.md."""
    parts = [HEAD]
    for title, rows in sections():
        parts.append(f"\n## {title}\n\n| name | unit | better | meaning |\n|---|---|---|---|\n")
        parts += [f"| `{row.name}` | {row.unit} | {row.better} | {row.meaning} |\n" for row in rows]
    return "".join(parts)


def repeated_names() -> list[str]:
    """Names that stand in the list twice."""
    names = sorted(metric.name for metric in catalogue())
    return [name for name, same in groupby(names) if len(list(same)) > 1]


if __name__ == "__main__":
    sys.stdout.write(metrics_page())
