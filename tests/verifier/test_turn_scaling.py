"""Sequential scaling from finished episodes."""

from verifier.turn_scaling import Attempt, default_budgets, mean_turns_within, solved_within

TASKS = [[Attempt(2, True), Attempt(5, True), Attempt(8, False)], [Attempt(4, True)], []]


def test_what_went_on_beyond_the_budget_counts_as_unsolved() -> None:
    table = {budget: solved_within(TASKS, budget).tolist() for budget in (1, 2, 4, 5, 8)}
    assert table == {1: [0, 0], 2: [1 / 3, 0], 4: [1 / 3, 1], 5: [2 / 3, 1], 8: [2 / 3, 1]}
    assert mean_turns_within(TASKS, 4) == (2 + 4 + 4 + 4) / 4


def test_budgets_end_at_the_limit() -> None:
    assert default_budgets(8) == (1, 3, 4, 5, 7, 8)
    assert default_budgets(1) == (1,)
