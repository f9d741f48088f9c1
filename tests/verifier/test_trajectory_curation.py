"""Streams of facts through filters, cap and split, with literal results."""

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from envpool.curation.funnel import ALL
from envpool.curation.heldout_split import stable_split
from envpool.trajectory import StopReason
from verifier.trajectory_curation import Curation, CurationRules, curate_trajectories, shortest_per_task
from verifier.trajectory_filter import FilterLimits, TrajectoryFacts, select_filters

PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""Machines under load are slow; nothing here is about time."""

LIMITS = FilterLimits(1e-7, 0.9999999, 100, 100)
FILTERS = select_filters(("resolved", "mixed_results", "within_tokens", "submitted"))


def facts(
    task: str, index: int, tokens: int = 50, resolved: bool = True, mean: float = 0.5, stop: StopReason = StopReason.SUBMITTED
) -> TrajectoryFacts:
    return TrajectoryFacts(task, index, "teacher", resolved, stop, 3, tokens, tokens, 0, 0, 0, mean)


def run(stream: list[TrajectoryFacts], **settings: object) -> Curation:
    rules = CurationRules(FILTERS, LIMITS, **settings)  # type: ignore[arg-type]
    return curate_trajectories(iter(stream), rules, lambda name: name.split("-")[0], {"gym": 3, "smith": 9})


STREAM = [
    facts("gym-a", 0),
    facts("gym-a", 1, tokens=20),
    facts("gym-a", 2, resolved=False),
    facts("gym-b", 0, mean=1.0),
    facts("gym-c", 0, tokens=100, stop=StopReason.MAX_TURNS),
    facts("gym-c", 1, stop=StopReason.MAX_TURNS),
    facts("rebench-d", 0),
    facts("rebench-d", 0, tokens=10),
]


def test_each_step_counts_what_it_left() -> None:
    result = run(STREAM)
    assert result.train == (("gym-a", 0), ("gym-a", 1), ("rebench-d", 0))
    assert result.heldout == ()
    assert result.fails == {"resolved": 1, "mixed_results": 1, "within_tokens": 1, "submitted": 2}
    funnels = {funnel.source: funnel for funnel in result.funnels}
    names = ["played", "resolved", "mixed_results", "within_tokens", "submitted", "distinct"]
    assert list(funnels) == ["gym", "rebench", "smith", ALL]
    assert funnels["gym"].trajectories.steps == tuple(zip(names, (6, 5, 4, 3, 2, 2), strict=True))
    assert funnels["gym"].tasks.steps == tuple(zip(names, (3, 3, 2, 2, 1, 1), strict=True))
    assert funnels["rebench"].trajectories.steps == tuple(zip(names, (2, 2, 2, 2, 2, 1), strict=True))
    assert funnels[ALL].trajectories.steps == tuple(zip(names, (8, 7, 6, 5, 4, 3), strict=True))
    assert [funnels[name].available for name in funnels] == [3, 0, 9, 12]


def test_the_cap_keeps_the_shortest() -> None:
    result = run(STREAM, max_per_task=1)
    assert result.train == (("gym-a", 1), ("rebench-d", 0))
    assert result.funnels[-1].trajectories.steps[-2:] == (("distinct", 3), ("capped", 2))


def test_ties_of_the_cap_go_to_the_lower_index() -> None:
    lengths = {("a", 2): 5, ("a", 1): 5, ("a", 0): 9, ("b", 7): 1}
    assert shortest_per_task(lengths, 1) == [("a", 1), ("b", 7)]
    assert shortest_per_task(lengths, 2) == [("a", 2), ("a", 1), ("b", 7)]
    assert shortest_per_task(lengths, 0) == list(lengths)


def test_held_out_tasks_are_chosen_by_id_and_seed() -> None:
    stream = [facts(f"gym-{index}", sample) for index in range(40) for sample in range(2)]
    result = run(stream, heldout_share=0.25, split_seed=7)
    expected = {f"gym-{index}" for index in range(40) if stable_split(f"gym-{index}", 0.25, 7) == "heldout"}
    assert {name for name, _ in result.heldout} == expected
    assert expected
    assert {name for name, _ in result.train}.isdisjoint(expected)
    assert result.funnels[0].trajectories.steps[-2:] == (("distinct", 80), ("train", 80 - 2 * len(expected)))


def test_rules_are_checked() -> None:
    with pytest.raises(ValueError, match="max_per_task=-1"):
        CurationRules(FILTERS, LIMITS, max_per_task=-1)
    with pytest.raises(ValueError, match=r"heldout_share=2"):
        CurationRules(FILTERS, LIMITS, heldout_share=2.0)


def test_the_stream_is_read_once_and_not_kept() -> None:
    alive = 0

    class Tracked(TrajectoryFacts):
        def __del__(self) -> None:
            nonlocal alive
            alive -= 1

    def stream() -> Iterator[TrajectoryFacts]:
        nonlocal alive
        for index in range(500):
            alive += 1
            assert alive <= 3
            yield Tracked(f"gym-{index}", 0, "t", True, StopReason.SUBMITTED, 3, 50, 50, 0, 0, 0, 0.5)

    result = curate_trajectories(stream(), CurationRules(FILTERS, LIMITS), lambda _: "gym", {})
    assert len(result.train) == 500


@PATIENT
@given(
    st.lists(
        st.builds(
            facts,
            st.sampled_from(["gym-a", "gym-b", "smith-c"]),
            st.integers(0, 9),
            st.integers(0, 150),
            st.booleans(),
            st.sampled_from([0.0, 0.5, 1.0]),
            st.sampled_from(list(StopReason)),
        ),
        max_size=40,
    ),
    st.integers(0, 3),
    st.floats(0, 1),
)
def test_nothing_is_lost_between_the_sides(stream: list[TrajectoryFacts], cap: int, share: float) -> None:
    result = run(stream, max_per_task=cap, heldout_share=share)
    pairs = [*result.train, *result.heldout]
    passing = {(one.instance_id, one.sample_index) for one in stream if all(keep(one, LIMITS) for keep in FILTERS.values())}
    assert len(set(pairs)) == len(pairs)
    assert set(pairs) <= passing
    if not cap:
        assert set(pairs) == passing
    steps = dict(result.funnels[-1].trajectories.steps)
    assert (steps["played"], steps["distinct"]) == (len(stream), len(passing))
