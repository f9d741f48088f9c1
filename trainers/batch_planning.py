"""Which samples share a micro-batch, and which rank computes it: bin packing by length. No torch: the driver plans with it.

Micro-batches are packed, not padded, so nothing is lost inside one. What can be lost is waiting: the ranks compute their i-th
micro-batches side by side (ZeRO-3 gathers every layer for all of them), so the largest of a round sets its time.
"""

import heapq
from collections.abc import Sequence

Plan = list[list[list[int]]]
"""By rank, by micro-batch: indices of samples."""
EVEN_TRIES = 4
"""Numbers of micro-batches tried until an even filling keeps within the budget."""


def plan_micro_batches(lengths: Sequence[int], num_ranks: int, tokens_per_micro_batch: int) -> Plan:
    """Every index once, in micro-batches of at most `tokens_per_micro_batch` tokens; a longer sample gets one of its own.

    Starts from the fewest micro-batches that best fit finds, and tries a few larger multiples of the ranks filled evenly
    (longest sample first, always to the emptiest); the plan that wastes the least waiting wins. Micro-batches of similar size
    meet in a round.

    >>> plan_micro_batches([5, 9, 4, 8], num_ranks=2, tokens_per_micro_batch=14)
    [[[1, 2]], [[3, 0]]]
    """
    longest_first = sorted(range(len(lengths)), key=lambda index: (-lengths[index], index))
    fitted = _best_fit(longest_first, lengths, tokens_per_micro_batch)
    limit = max([tokens_per_micro_batch, *lengths])
    candidates = [fitted]
    fewest = -(-len(fitted) // num_ranks) * num_ranks
    for count in range(fewest, fewest + EVEN_TRIES * num_ranks, num_ranks):
        even = _emptiest_first(longest_first, lengths, min(count, len(lengths)))
        if all(_load(one, lengths) <= limit for one in even):
            candidates.append(even)
            break
    plans = [_to_ranks(bins, lengths, num_ranks) for bins in candidates]
    return max(plans, key=lambda plan: plan_fill(plan, lengths))


def plan_fill(plan: Plan, lengths: Sequence[int]) -> float:
    """Tokens over token slots when every round takes as long as its largest micro-batch; 1 is perfect.

    >>> plan_fill([[[0], [2]], [[1]]], [10, 6, 4])
    0.7142857142857143
    """
    rounds = max((len(rank) for rank in plan), default=0)
    slots = sum(max(_load(rank[index], lengths) for rank in plan if index < len(rank)) for index in range(rounds)) * len(plan)
    return sum(_load(one, lengths) for rank in plan for one in rank) / slots if slots else 1.0


def _to_ranks(bins: list[list[int]], lengths: Sequence[int], num_ranks: int) -> Plan:
    """Largest bins first, a round of neighbours at a time, each round's largest to the rank with the least so far."""
    bins = sorted(bins, key=lambda one: (-_load(one, lengths), one))
    plan: Plan = [[] for _ in range(num_ranks)]
    for start in range(0, len(bins), num_ranks):
        emptiest = sorted(range(num_ranks), key=lambda rank: (sum(_load(one, lengths) for one in plan[rank]), rank))
        for rank, one in zip(emptiest, bins[start : start + num_ranks], strict=False):
            plan[rank].append(one)
    return plan


def _load(indices: Sequence[int], lengths: Sequence[int]) -> int:
    return sum(lengths[index] for index in indices)


def _best_fit(order: Sequence[int], lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Each sample goes where it leaves the least room, or into a new bin."""
    bins: list[list[int]] = []
    room: list[int] = []
    for index in order:
        fits = [place for place, left in enumerate(room) if left >= lengths[index]]
        if fits:
            best = min(fits, key=lambda place: room[place])
            bins[best].append(index)
            room[best] -= lengths[index]
        else:
            bins.append([index])
            room.append(budget - lengths[index])
    return bins


def _emptiest_first(order: Sequence[int], lengths: Sequence[int], count: int) -> list[list[int]]:
    bins: list[list[int]] = [[] for _ in range(count)]
    loads = [(0, place) for place in range(count)]
    for index in order:
        load, place = heapq.heappop(loads)
        bins[place].append(index)
        heapq.heappush(loads, (load + lengths[index], place))
    return bins
