"""Sessions stay where their prefix cache is, new ones spread, broken engines are avoided for a while."""

import pytest

from actors.engine_router import EngineRouter


def test_new_sessions_go_to_the_least_loaded_engine() -> None:
    router = EngineRouter(num_engines=3)
    assert [router.begin(name, now=0.0) for name in "abcd"] == [0, 1, 2, 0]
    assert router.in_flight == [2, 1, 1]
    router.end(1, succeeded=True, now=0.0)
    assert router.begin("e", now=0.0) == 1


def test_idle_engines_get_sessions_in_turn() -> None:
    router = EngineRouter(num_engines=2)
    homes = []
    for name in "abcd":
        homes.append(router.begin(name, now=0.0))
        router.end(homes[-1], succeeded=True, now=0.0)
    assert homes == [0, 1, 0, 1]


def test_a_session_stays_on_its_engine_even_when_that_is_busier() -> None:
    router = EngineRouter(num_engines=2)
    assert [router.begin("a", now=0.0) for _ in range(3)] == [0, 0, 0]


def test_a_failed_engine_is_avoided_and_then_tried_again() -> None:
    router = EngineRouter(num_engines=2, avoid_s=30.0)
    assert router.begin("a", now=0.0) == 0
    router.end(0, succeeded=False, now=1.0)
    assert router.begin("a", now=2.0) == 1
    assert router.begin("b", now=2.0) == 1
    assert router.begin("c", now=31.5) == 0


def test_a_cancelled_request_says_nothing_about_its_engine() -> None:
    router = EngineRouter(num_engines=2, avoid_s=30.0)
    assert [router.begin(name, now=0.0) for name in "abc"] == [0, 1, 0]
    router.end(0, succeeded=False, now=1.0)
    router.end(0, succeeded=None, now=2.0)
    assert (router.in_flight, router.num_up(now=2.0)) == ([0, 1], 1)
    assert router.begin("d", now=2.0) == 1
    router.end(1, succeeded=None, now=3.0)
    assert router.num_up(now=3.0) == 1


def test_with_all_engines_down_requests_still_go_somewhere() -> None:
    router = EngineRouter(num_engines=1)
    router.end(router.begin("a", now=0.0), succeeded=False, now=0.0)
    assert router.begin("a", now=1.0) == 0
    assert router.in_flight == [1]


def test_old_sessions_are_forgotten() -> None:
    router = EngineRouter(num_engines=1, max_sessions=2)
    for name in "abc":
        router.begin(name, now=0.0)
    assert list(router._homes) == ["b", "c"]


def test_no_engines_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one engine, not 0"):
        EngineRouter(num_engines=0)
