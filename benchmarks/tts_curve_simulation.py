"""The expected TTS@K curve from released per-issue pass rates and a scorer's operating point, beside SWE-Master's own curve.

    python -m benchmarks.tts_curve_simulation --json --svg docs/images/tts_curve_simulation.svg

Pass rates: SWE-Master's difficulty statistics (mean reward of a teacher's attempts per issue; --data FOLDER). They are of
training issues and of stronger teachers, so two populations are shown: as released, and one that keeps the distribution of the
issues with mixed results but has the shares of never and always solved issues that give the paper's Pass@1 and Pass@8. The
scorer has precision .776, recall .714, accuracy .716 and casts three votes. Where the votes on a candidate all say the same (for
the same reason), three are worth one and the curve is lower: both ends are shown, and the agreement that fits the paper best.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np

from cluster.svg_charts import Series, line_chart, standalone_svg
from envpool.curation.difficulty import MIXED_HIGH, MIXED_LOW, DifficultyError, read_reward_means
from verifier.selection_model import (
    Floats,
    OperatingPoint,
    expected_pass,
    expected_tts,
    mixture_weights,
    operating_point,
    resolved_share,
    root_mean_square,
)

DATA = Path("../shared/data/swe_master/difficulty")
PRECISION, RECALL, ACCURACY, NUM_VOTES = 0.776, 0.714, 0.716, 3
PAPER_TTS = (61.4, 64.6, 67.4, 68.6, 69.8, 70.2, 70.6, 70.8)
PAPER_PASS = (61.4, 67.6, 71.6, 73.0, 73.2, 74.6, 75.4, 76.2)
KS = range(1, 9)


def pass_rates(folder: Path) -> Floats:
    """The mean reward of every issue in the folder's JSONL files."""
    means = []
    for path in sorted(folder.glob("*.jsonl")):
        for mean in read_reward_means(path):
            if isinstance(mean, DifficultyError):
                raise mean
            means.append(mean)
    return np.array(means, np.float64)


def weighted_curve(
    rates: Floats, weights: Floats, point: OperatingPoint | None, num_votes: int, agreement: float = 0.0
) -> list[float]:
    """TTS@K (Pass@K without a scorer) in percent for K = 1..8; `weights` sum to 1."""
    values = [expected_pass(rates, k) if point is None else expected_tts(rates, k, point, num_votes, agreement) for k in KS]
    return [round(100 * float(weights @ value), 2) for value in values]


def population(rates: Floats) -> dict[str, tuple[Floats, Floats]]:
    """(pass rates, weights) as released, and fitted to the paper's Pass@1 and Pass@8."""
    mixed = rates[(rates > MIXED_LOW) & (rates < MIXED_HIGH)]
    never, sometimes, always = mixture_weights(mixed, PAPER_PASS[0] / 100, PAPER_PASS[-1] / 100, KS[-1])
    fitted = np.concatenate([[0.0, 1.0], mixed])
    weights = np.concatenate([[never, always], np.full(len(mixed), sometimes / len(mixed))])
    return {
        "released": (rates, np.full(len(rates), 1 / len(rates))),
        "fitted": (fitted, weights),
    }


def simulate(folder: Path) -> dict[str, object]:
    """Every curve and how far it is from the paper's."""
    rates = pass_rates(folder)
    point = operating_point(PRECISION, RECALL, ACCURACY)
    curves: dict[str, dict[str, list[float]]] = {}
    for name, (values, weights) in population(rates).items():
        curves[name] = {
            "pass": weighted_curve(values, weights, None, 0),
            "tts_independent_votes": weighted_curve(values, weights, point, NUM_VOTES),
            "tts_one_vote": weighted_curve(values, weights, point, 1),
        }
    values, weights = population(rates)["fitted"]
    by_agreement = {
        share: weighted_curve(values, weights, point, NUM_VOTES, share) for share in np.linspace(0, 1, 51).round(2).tolist()
    }
    best = min(by_agreement, key=lambda share: distance_to_paper(by_agreement[share]))
    fitted = curves["fitted"]
    fitted["tts_best_agreement"] = by_agreement[best]
    closed = {
        name: (fitted[name][-1] - fitted["pass"][0]) / (fitted["pass"][-1] - fitted["pass"][0])
        for name in ("tts_independent_votes", "tts_one_vote", "tts_best_agreement")
    }
    return {
        "issues": len(rates),
        "never": round(float((rates <= MIXED_LOW).mean()), 4),
        "always": round(float((rates >= MIXED_HIGH).mean()), 4),
        "operating_point": {
            "recall": point.recall,
            "false_positive_rate": round(point.false_positive_rate, 4),
            "resolved_share": round(resolved_share(PRECISION, RECALL, ACCURACY), 4),
            "votes": NUM_VOTES,
        },
        "paper": {"pass": list(PAPER_PASS), "tts": list(PAPER_TTS)},
        "curves": curves,
        "best_agreement": best,
        "closed_share": {**closed, "paper": (PAPER_TTS[-1] - PAPER_TTS[0]) / (PAPER_PASS[-1] - PAPER_PASS[0])},
        "rms_difference_to_paper": {
            f"{name}/{kind}": round(distance_to_paper(curve), 2)
            for name, of_population in curves.items()
            for kind, curve in of_population.items()
            if kind != "pass"
        },
    }


def distance_to_paper(curve: list[float]) -> float:
    """Root mean square over K, in percentage points."""
    return root_mean_square([ours - paper for ours, paper in zip(curve, PAPER_TTS, strict=True)])


def chart(result: dict[str, object]) -> str:
    """The fitted population's curves and the paper's."""
    curves = result["curves"]["fitted"]  # type: ignore[index]
    lines = {
        "Pass@K, paper": PAPER_PASS,
        "TTS, paper": PAPER_TTS,
        "3 free votes": curves["tts_independent_votes"],
        "1 vote": curves["tts_one_vote"],
        "best fit": curves["tts_best_agreement"],
    }
    series = {name: Series(list(zip(KS, values, strict=True))) for name, values in lines.items()}
    return line_chart("Expected TTS@K and SWE-Master's", series, "K candidates", "resolved, %", (55, 80))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA, help="folder of difficulty statistics")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--svg", type=Path, help="write the chart here")
    options = parser.parse_args()
    if not list(options.data.glob("*.jsonl")):
        print(f"skipped: no difficulty statistics in {options.data} (--data FOLDER)")
        return
    try:
        result = simulate(options.data)
    except (DifficultyError, ValueError) as error:
        sys.exit(f"error: {error}")
    if options.svg is not None:
        options.svg.write_text(standalone_svg(chart(result)), encoding="utf-8")
    if options.json:
        print(json.dumps(result))
        return
    for name, curve in {"paper Pass@K": PAPER_PASS, "paper TTS@K": PAPER_TTS}.items():
        print(f"{name:40s}", *(f"{value:6.1f}" for value in curve))
    for name, of_population in result["curves"].items():  # type: ignore[attr-defined]
        for kind, values in of_population.items():
            print(f"{name + ' ' + kind:40s}", *(f"{value:6.1f}" for value in values))
    shown = ("operating_point", "best_agreement", "closed_share", "rms_difference_to_paper")
    print(json.dumps({key: result[key] for key in shown}, indent=1))


if __name__ == "__main__":
    main()
