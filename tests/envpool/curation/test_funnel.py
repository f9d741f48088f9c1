"""Funnels by literals: counts never grow, sources add up."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from envpool.curation.funnel import ALL, Funnel, FunnelCounter, SourceFunnel, funnel_from_dict

PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""Machines under load are slow; nothing here is about time."""


def test_funnel() -> None:
    funnel = Funnel().then("read", 10).then("mixed results", 4).then("no duplicates", 4)
    assert funnel.steps == (("read", 10), ("mixed results", 4), ("no duplicates", 4))
    assert funnel.dropped == (("mixed results", 6), ("no duplicates", 0))
    with pytest.raises(ValueError, match="step 'more' keeps 5 of 4"):
        funnel.then("more", 5)


def test_trajectories_and_distinct_tasks_are_counted_per_source() -> None:
    counter = FunnelCounter(("played", "resolved"))
    for source, task, steps in (("gym", "a", 2), ("gym", "a", 2), ("gym", "b", 1), ("smith", "s", 1)):
        counter.keep(source, task, range(steps))
    gym, smith, everything = counter.funnels({"gym": 5, "r2e": 7})[:2] + counter.funnels({"gym": 5, "r2e": 7})[-1:]
    assert gym == SourceFunnel("gym", 5, Funnel((("played", 3), ("resolved", 2))), Funnel((("played", 2), ("resolved", 1))))
    assert smith == SourceFunnel("smith", 0, Funnel((("played", 1), ("resolved", 0))), Funnel((("played", 1), ("resolved", 0))))
    sums = Funnel((("played", 4), ("resolved", 2))), Funnel((("played", 3), ("resolved", 1)))
    assert everything == SourceFunnel(ALL, 12, *sums)
    assert [funnel.source for funnel in counter.funnels({"gym": 5, "r2e": 7})] == ["gym", "smith", "r2e", ALL]


def test_one_source_needs_no_sum_and_none_gives_an_empty_one() -> None:
    counter = FunnelCounter(("played",))
    assert counter.funnels({}) == (SourceFunnel(ALL, 0, Funnel((("played", 0),)), Funnel((("played", 0),))),)
    counter.keep("gym", "a", range(1))
    assert [funnel.source for funnel in counter.funnels({})] == ["gym"]


@PATIENT
@given(st.lists(st.tuples(st.sampled_from("xy"), st.sampled_from("abc"), st.integers(0, 3)), max_size=30))
def test_every_funnel_shrinks_and_comes_back_from_its_record(rows: list[tuple[str, str, int]]) -> None:
    counter = FunnelCounter(("one", "two", "three"))
    for source, task, steps in rows:
        counter.keep(source, source + task, range(steps))
    for funnel in counter.funnels({}):
        assert funnel_from_dict(funnel.as_dict()) == funnel
        for (_, trajectories), (_, tasks) in zip(funnel.trajectories.steps, funnel.tasks.steps, strict=True):
            assert 0 <= tasks <= trajectories


@pytest.mark.parametrize("record", [{}, {"source": "a", "available": 1, "trajectories": 3, "tasks": []}])
def test_what_is_no_funnel_is_refused(record: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="not a funnel"):
        funnel_from_dict(record)
