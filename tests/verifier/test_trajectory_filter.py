"""Every filter on facts that pass and facts that fail; limits and names."""

from dataclasses import replace
from typing import Any

import pytest

from configs.curate_config import CurateConfig
from envpool.trajectory import StopReason
from verifier.trajectory_filter import (
    TRAJECTORY_FILTERS,
    FilterLimits,
    TrajectoryFacts,
    TrajectoryFilterError,
    filter_limits,
    select_filters,
)

LIMITS = FilterLimits(mean_low=1e-7, mean_high=0.9999999, tokens_below=81_920, max_turns=100)
GOOD = TrajectoryFacts("a", 0, "teacher", True, StopReason.SUBMITTED, 30, 30_000, 30_000, 0, 0, 0, 0.5, 2, "yes")

CASES: dict[str, list[tuple[dict[str, Any], bool]]] = {
    "resolved": [({"resolved": True}, True), ({"resolved": False}, False)],
    "mixed_results": [
        ({"task_mean": 0.0}, False),
        ({"task_mean": 1e-7}, True),
        ({"task_mean": 0.999}, True),
        ({"task_mean": 1.0}, False),
        ({"task_mean": float("nan")}, False),
    ],
    "submitted": [({"stop_reason": reason}, reason.is_submit) for reason in StopReason],
    "turns_left": [
        ({"stop_reason": StopReason.MAX_TURNS, "num_turns": 7}, False),
        ({"stop_reason": StopReason.SUBMITTED, "num_turns": 100}, True),
        ({"stop_reason": StopReason.DEADLINE}, True),
    ],
    "in_time": [
        ({"stop_reason": StopReason.MAX_TOKENS}, False),
        ({"stop_reason": StopReason.DEADLINE}, False),
        ({"stop_reason": StopReason.CONTEXT_FULL}, False),
        ({"stop_reason": StopReason.MAX_TURNS}, True),
    ],
    "no_missed_calls": [({"num_missed_calls": 0}, True), ({"num_missed_calls": 1}, False)],
    "one_call_per_turn": [({"num_repeated_calls": 0}, True), ({"num_repeated_calls": 2}, False)],
    "within_tokens": [
        ({"num_tokens": 90_000, "longest_sample": 81_919}, True),
        ({"num_tokens": 90_000, "longest_sample": 81_920}, False),
    ],
    "within_turns": [({"num_turns": 100}, True), ({"num_turns": 101}, False)],
    "no_history_reads": [({"num_history_reads": 0}, True), ({"num_history_reads": 1}, False)],
    "lsp_calls": [({"num_lsp_successes": 2}, True), ({"num_lsp_successes": 1}, False)],
    "lsp_judge": [({"lsp_verdict": word}, word == "yes") for word in ("yes", "no", "invalid", "")],
}


def test_every_filter_has_cases() -> None:
    assert list(CASES) == list(TRAJECTORY_FILTERS)


@pytest.mark.parametrize("name", list(TRAJECTORY_FILTERS))
def test_a_filter_judges_its_own_fact_only(name: str) -> None:
    keep = TRAJECTORY_FILTERS[name]
    assert keep(GOOD, LIMITS) is True
    assert keep.__doc__
    for change, expected in CASES[name]:
        changed = replace(GOOD, **change)
        assert keep(changed, LIMITS) is expected
        others = [other for other in TRAJECTORY_FILTERS if set(CASES[other][0][0]).isdisjoint(change)]
        assert all(TRAJECTORY_FILTERS[other](changed, LIMITS) for other in others)


def test_limits_follow_the_configuration() -> None:
    assert filter_limits(CurateConfig(), sft_max_tokens=1024) == FilterLimits(1e-7, 0.9999999, 1025, 100)
    assert filter_limits(CurateConfig(max_tokens=81_920), sft_max_tokens=1024).tokens_below == 81_920
    with pytest.raises(TrajectoryFilterError, match=r"mean_low=1 must be below curate\.mean_high=0\.5"):
        filter_limits(CurateConfig(mean_low=1.0, mean_high=0.5), 1)


def test_names_select_in_order() -> None:
    assert list(select_filters(("submitted", "resolved"))) == ["submitted", "resolved"]
    assert list(select_filters(CurateConfig().filters)) == list(CurateConfig().filters)
    with pytest.raises(TrajectoryFilterError, match="there is no filter 'solved'; known: resolved, mixed_results"):
        select_filters(("solved",))
    with pytest.raises(TrajectoryFilterError, match="given twice"):
        select_filters(("resolved", "resolved"))
