"""Best of K: votes, ties, duplicates, and TTS@K against exhaustive enumeration."""

from itertools import combinations

import pytest

from verifier.selection import Candidate, JudgedCandidate, SelectionRule, score, select, tts_at_k_per_task

APART = SelectionRule(share_duplicates=False)


def diff(line: str, at: int = 1) -> str:
    return f"diff --git a/m.py b/m.py\n--- a/m.py\n+++ b/m.py\n@@ -{at} +{at} @@\n-old\n+{line}\n"


@pytest.mark.parametrize(
    ("votes", "value"),
    [((1.0, 1.0, 0.0), 2 / 3), ((1.0, None, 1.0), 1.0), ((None, None), 0.0), ((), 0.0), ((0.2, 0.4), 0.3)],
)
def test_a_score_is_the_mean_of_the_valid_votes(votes: tuple[float | None, ...], value: float) -> None:
    assert score(Candidate(diff("a"), votes)) == pytest.approx(value)


def test_an_empty_patch_scores_nothing_and_loses_ties() -> None:
    empty = Candidate("", (1.0, 1.0))
    assert score(empty) == 0.0
    assert {select([empty, Candidate(diff("a"), (0.0,))], seed) for seed in range(20)} == {1}


def test_the_best_score_wins() -> None:
    assert select([Candidate(diff("a"), (0.0,)), Candidate(diff("b"), (1.0,)), Candidate(diff("c"), (0.5,))], seed=0) == 1


def test_ties_depend_on_the_seed_alone_and_favour_no_position() -> None:
    tied = [Candidate(diff("a"), (1.0, 1.0, 0.0)), Candidate(diff("b"), (1.0, 0.0, 1.0))]
    chosen = [select(tied, seed) for seed in range(200)]
    assert chosen == [select(tied, seed) for seed in range(200)]
    assert 60 < sum(chosen) < 140


def test_equal_edits_share_their_votes() -> None:
    longer = diff("a").replace("@@ -1 +1 @@\n", "@@ -1,2 +7,2 @@\n") + " same\n"
    candidates = [Candidate(diff("a"), (1.0,)), Candidate(longer, (0.0,)), Candidate(diff("b"), (0.6,))]
    assert select(candidates, 0, SelectionRule(share_duplicates=True)) == 2
    assert select(candidates, 0, APART) == 0


def test_the_same_change_in_another_place_shares_no_votes() -> None:
    candidates = [Candidate(diff("a"), (1.0,)), Candidate(diff("a", at=9), (0.0,)), Candidate(diff("b"), (0.6,))]
    assert select(candidates, 0, SelectionRule(share_duplicates=True)) == 0


def test_agreement_decides_when_asked() -> None:
    candidates = [Candidate(diff("a"), (1.0,)), Candidate(diff("b"), (1.0,)), Candidate(diff("b"), (1.0,))]
    rule = SelectionRule(agreement_weight=0.1)
    assert {select(candidates, seed, rule) for seed in range(20)} == {1, 2}


def judged(votes: list[float], outcomes: list[bool]) -> list[JudgedCandidate]:
    pairs = zip(votes, outcomes, strict=True)
    return [JudgedCandidate(Candidate(diff(str(index)), (vote,)), outcome) for index, (vote, outcome) in enumerate(pairs)]


def test_tts_of_one_is_the_mean_outcome_and_of_all_is_exact() -> None:
    task = judged([0.9, 0.1, 0.9, 0.5], [True, False, False, True])
    assert tts_at_k_per_task([task], 1) == [0.5]
    assert tts_at_k_per_task([task], 4) == [0.5]  # two tied for the first place, one of them right
    assert tts_at_k_per_task([judged([0.9, 0.1], [True, False])], 2) == [1.0]


def test_tts_in_between_is_close_to_the_mean_over_all_subsets() -> None:
    task = judged([0.9, 0.1, 0.7, 0.5, 0.3, 0.2], [False, True, True, False, True, False])
    for k in (2, 3, 4):
        best = [max(draw, key=lambda one: one.candidate.votes) for draw in combinations(task, k)]
        exact = sum(one.resolved for one in best) / len(best)
        assert tts_at_k_per_task([task], k, num_orders=4000) == [pytest.approx(exact, abs=0.03)]
        assert tts_at_k_per_task([task], k, seed=3) == tts_at_k_per_task([task], k, seed=3)


def test_a_perfect_scorer_reaches_pass_at_k_and_a_blind_one_pass_at_1() -> None:
    outcomes = [False, True, False, False]
    perfect = judged([float(outcome) for outcome in outcomes], outcomes)
    assert tts_at_k_per_task([perfect], 4) == [1.0]
    assert tts_at_k_per_task([judged([0.5] * 4, outcomes)], 4) == [0.25]


def test_tasks_with_too_few_candidates_are_left_out() -> None:
    assert tts_at_k_per_task([judged([1.0], [True]), judged([1.0, 0.0], [False, True])], 2) == [0.0]
    assert tts_at_k_per_task([judged([1.0], [True])], 3) == []
