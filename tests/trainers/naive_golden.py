"""A golden file made in plain Python, loop by loop, with gradients worked out on paper: nothing of the product is used.

Same format as the file peers' functions computed, so that the comparison is tested where that file is absent.
"""

import math
import random
from typing import Any

LOW, HIGH, GSPO_CLIP = 0.2, 0.28, (0.0003, 0.0004)


def golden_file(seed: int = 0, num_cases: int = 3) -> dict[str, Any]:
    clip = {"low": LOW, "high": HIGH, "gspo": list(GSPO_CLIP)}
    return {"about": "naive", "clip": clip, "cases": [make_case(seed + index) for index in range(num_cases)]}


def make_case(seed: int) -> dict[str, Any]:
    rng = random.Random(seed)
    size, width = rng.choice([2, 4, 5]), rng.choice([6, 9])
    rows = size * 2
    lengths = [rng.randint(3, width) for _ in range(rows)]
    mask = [[float(t < n and (t == 0 or rng.random() < 0.8)) for t in range(width)] for n in lengths]
    policy = [[-3 * rng.random() for _ in range(width)] for _ in range(rows)]
    old = [[p + rng.gauss(0, 0.3) for p in row] for row in policy]
    rollout = [[o + rng.gauss(0, 0.2) for o in row] for row in old]
    rewards = [rng.choice([0.0, 0.5, 1.0]) for _ in range(rows)]
    valid = [float(rng.random() < 0.8) for _ in range(rows)]
    case: dict[str, Any] = {"seed": seed, "group_size": size, "rewards": rewards, "valid": valid, "loss_mask": mask}
    case |= {"policy_logprobs": policy, "old_logprobs": old, "rollout_logprobs": rollout}
    case["advantages"] = advantages(rewards, valid, size)
    loo = case["advantages"]["leave_one_out"]
    case["losses_with_leave_one_out"] = {
        f"{loss}/{how}": aggregate(token_terms(loss, policy, old, loo, mask), mask, how)
        for loss, hows in (
            ("clip_higher", ("token-mean", "seq-mean-token-mean", "seq-mean-token-sum", "seq-mean-token-sum-norm")),
            ("gspo", ("seq-mean-token-mean",)),
            ("cispo", ("token-mean",)),
        )
        for how in hows
    }
    case["weights_old_over_rollout"] = weights(old, rollout, mask)
    case["k3"] = [
        [m * (math.exp(o - p) - 1 - (o - p)) for m, p, o in zip(*three, strict=True)]
        for three in zip(mask, policy, old, strict=True)
    ]
    return case


def advantages(rewards: list[float], valid: list[float], size: int) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {
        name: [] for name in ("leave_one_out", "group_mean", "group_mean_std", "leave_one_out_baseline_valid_only")
    }
    for start in range(0, len(rewards), size):
        group, ok = rewards[start : start + size], valid[start : start + size]
        mean = sum(group) / size
        std = math.sqrt(sum((r - mean) ** 2 for r in group) / (size - 1))
        for member, reward in enumerate(group):
            others = [r for index, r in enumerate(group) if index != member]
            found["leave_one_out"].append(reward - sum(others) / len(others))
            found["group_mean"].append(reward - mean)
            found["group_mean_std"].append((reward - mean) / (std + 1e-6))
            kept = [r for index, r in enumerate(group) if index != member and ok[index]]
            baseline = sum(kept) / (sum(ok) - 1) if sum(ok) > 1 else reward
            found["leave_one_out_baseline_valid_only"].append(baseline)
    return found


def token_terms(
    loss: str, policy: list[list[float]], old: list[list[float]], row_advantages: list[float], mask: list[list[float]]
) -> list[list[tuple[float, float]]]:
    """(loss, derivative with respect to the log-prob) of each token."""
    return [
        [
            one_term(loss, p, p - o, sequence_level(policy_row, old_row, mask_row), advantage)
            for p, o in zip(policy_row, old_row, strict=True)
        ]
        for policy_row, old_row, advantage, mask_row in zip(policy, old, row_advantages, mask, strict=True)
    ]


def sequence_level(policy: list[float], old: list[float], mask: list[float]) -> float:
    return sum((p - o) * m for p, o, m in zip(policy, old, mask, strict=True)) / sum(mask)


def one_term(loss: str, logprob: float, log_ratio: float, level: float, advantage: float) -> tuple[float, float]:
    if loss == "cispo":
        weight = min(max(math.exp(log_ratio), 1 - LOW), 1 + HIGH)
        return -advantage * weight * logprob, -advantage * weight
    low, high = GSPO_CLIP if loss == "gspo" else (LOW, HIGH)
    ratio = math.exp(level if loss == "gspo" else log_ratio)
    clipped = min(max(ratio, 1 - low), 1 + high)
    if -advantage * clipped > -advantage * ratio:
        return -advantage * clipped, 0.0  # the clip is flat
    return -advantage * ratio, -advantage * ratio


def aggregate(terms: list[list[tuple[float, float]]], mask: list[list[float]], how: str) -> dict[str, Any]:
    rows, width, trained = len(mask), len(mask[0]), sum(map(sum, mask))
    scale = {
        "token-mean": [1 / trained] * rows,
        "seq-mean-token-mean": [1 / sum(row) / rows for row in mask],
        "seq-mean-token-sum": [1 / rows] * rows,
        "seq-mean-token-sum-norm": [1 / width / rows] * rows,
    }[how]
    both = [
        [(m * s * term[0], m * s * term[1]) for m, term in zip(*two, strict=True)]
        for s, *two in zip(scale, mask, terms, strict=True)
    ]
    return {"loss": sum(pair[0] for row in both for pair in row), "grad": [[pair[1] for pair in row] for row in both]}


def weights(old: list[list[float]], rollout: list[list[float]], mask: list[list[float]]) -> dict[str, list[list[float]]]:
    found: dict[str, list[list[float]]] = {"tis_token_2": [], "tis_sequence_2": [], "icepop_0.8_1.25": []}
    for row in zip(old, rollout, mask, strict=True):
        each = [math.exp(o - r) for o, r, _ in zip(*row, strict=True)]
        product = math.exp(sum((o - r) * m for o, r, m in zip(*row, strict=True)))
        found["tis_token_2"].append([m * min(w, 2.0) for w, m in zip(each, row[2], strict=True)])
        found["tis_sequence_2"].append([m * min(product, 2.0) for m in row[2]])
        found["icepop_0.8_1.25"].append([m * w if 0.8 <= w <= 1.25 else 0.0 for w, m in zip(each, row[2], strict=True)])
    return found
