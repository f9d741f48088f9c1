"""Filtering groups and the figures of a step."""

import pytest

from tests.trainers.training_doubles import make_group, with_version
from trainers.group_filter import (
    NoLearningSignalError,
    filter_groups,
    flat_groups_in_a_row,
    has_spread,
    num_to_replace,
    require_signal,
)
from trainers.rollout_metrics import newest_version, rollout_metrics, staleness_metrics


def test_spread_is_over_members_that_train() -> None:
    assert has_spread(make_group([1, 0]))
    assert not has_spread(make_group([1, 1]))
    assert not has_spread(make_group([1, 0], train=[True, False]))
    assert not has_spread(make_group([]))


def test_filter_keeps_or_drops() -> None:
    groups = [make_group([1, 1]), make_group([1, 0]), make_group([0, 0])]
    assert filter_groups(groups, "keep") == groups
    assert filter_groups(groups, "drop") == filter_groups(groups, "replace") == [groups[1]]
    with pytest.raises(ValueError, match="keep, drop, replace"):
        filter_groups(groups, "resample")


def test_groups_to_replace() -> None:
    groups = [make_group([1, 1]), make_group([1, 0])]
    assert [num_to_replace(groups, 3, policy) for policy in ("keep", "drop", "replace")] == [0, 0, 2]
    assert num_to_replace(groups, 1, "replace") == 0


def test_flat_groups_are_counted_since_the_last_one_with_spread() -> None:
    flat, spread = make_group([1, 1]), make_group([1, 0])
    assert flat_groups_in_a_row([spread, flat, flat], 7) == 2
    assert flat_groups_in_a_row([flat, flat], 7) == 9
    assert flat_groups_in_a_row([flat, spread], 7) == 0
    assert flat_groups_in_a_row([], 7) == 7


def test_a_run_without_signal_says_why() -> None:
    groups = [make_group([0, 0]), make_group([0, 1], train=[True, False], lost=2)]
    require_signal(9, groups, 10)
    require_signal(9, groups, 0)
    with pytest.raises(NoLearningSignalError, match=r"last 10 groups .*rewards 0 to 0, mean 0, 1 episodes masked, 2 lost"):
        require_signal(10, groups, 10)
    with pytest.raises(NoLearningSignalError, match="no reward"):
        require_signal(10, [make_group([])], 10)


def test_rollout_metrics_literals() -> None:
    metrics = rollout_metrics([make_group([1, 0.5, 0, 0], train=[True, True, True, False], lost=1), make_group([0, 0])])
    expected = {
        "reward/mean": 0.3,
        "rollout/resolved": 1 / 6,
        "rollout/zero_spread": 0.5,
        "rollout/groups": 2,
        "rollout/episodes": 6,
        "rollout/lost": 1,
        "rollout/masked": 1,
        "rollout/turns": 1,
        "rollout/tokens": 4,
        "rollout/completion_tokens": 2,
        "rollout/empty_patch": 1,
        "stop/submitted": 1,
        "stop/max_turns": 0,
    }
    assert {name: metrics[name] for name in expected} == pytest.approx(expected)


def test_rollout_metrics_of_nothing() -> None:
    assert rollout_metrics([]) == {"rollout/groups": 0, "rollout/episodes": 0, "rollout/lost": 0, "rollout/masked": 0}


def test_staleness_counts_optimizer_steps_per_token() -> None:
    groups = [with_version(make_group([1, 0]), 1), with_version(make_group([1]), 3)]
    assert staleness_metrics(groups, 3, max_staleness=2) == {
        "rollout/staleness": pytest.approx(4 * 2 / 6),
        "rollout/staleness_max": 2,
        "rollout/stale_tokens": 0,
    }
    assert staleness_metrics(groups, 4, max_staleness=2) == {
        "rollout/staleness": 1,
        "rollout/staleness_max": 1,
        "rollout/stale_tokens": 4,
    }
    assert set(staleness_metrics([], 3, 0).values()) == {0}
    assert [newest_version(groups[0]), newest_version(groups[1]), newest_version(make_group([]))] == [1, 3, -1]
