"""Token lengths of trajectories as SWE-Master reports them, for packing and planning benchmarks.

Turns follow the published mean turns at budgets of 25 to 150 turns (25, 49, 69, 82, 91, 94): their differences are the shares of
trajectories that reach each budget. A turn is about 265 model tokens and 500 to 600 observation tokens; the first prompt is
taken as 5,000 to 8,000 tokens.
"""

import numpy as np

BUDGETS = (0, 25, 50, 75, 100, 125, 150)
MEAN_TURNS = (0, 25, 49, 69, 82, 91, 94)


def trajectory_lengths(count: int, rng: np.random.Generator, max_tokens: int) -> list[int]:
    """Lengths of `count` trajectories in tokens, cut at `max_tokens`."""
    alive = np.diff(MEAN_TURNS) / np.diff(BUDGETS)  # share of trajectories still running in the middle of each stretch
    middles = (np.array(BUDGETS[1:]) + np.array(BUDGETS[:-1])) / 2
    ends = np.interp(rng.random(count), 1 - np.concatenate([[1.0], alive, [0.0]]), np.concatenate([[0.0], middles, [150.0]]))
    turns = np.maximum(np.ceil(ends), 5)
    tokens = rng.integers(5_000, 8_000, count) + turns * (265 + rng.uniform(500, 600, count)) * rng.lognormal(0.0, 0.15, count)
    return [int(length) for length in np.minimum(tokens, max_tokens)]


if __name__ == "__main__":
    from trainers.batch_planning import plan_fill, plan_micro_batches

    print("ranks  budget   micro-batches  full (against the slowest rank of each round)  full (against the budget)")
    for budget in (81_920, 163_840):
        for num_groups in (1, 2, 8, 16):
            fills, against, batches = [], [], 0
            for seed in range(10):
                lengths = trajectory_lengths(256, np.random.default_rng(seed), 81_920)
                plan = plan_micro_batches(lengths, num_groups, budget)
                batches = sum(len(rank) for rank in plan)
                fills.append(plan_fill(plan, lengths))
                against.append(sum(lengths) / (batches * budget))
            print(f"{num_groups:5d} {budget:8,d} {batches:8d} {min(fills):28.2%} {min(against):41.2%}")
    lengths = trajectory_lengths(12_567, np.random.default_rng(0), 81_920)
    print(f"12,567 trajectories: mean {np.mean(lengths):,.0f} tokens, {np.mean(np.array(lengths) == 81_920):.0%} cut at 81,920")
