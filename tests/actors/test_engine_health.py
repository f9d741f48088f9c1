"""Which events make an engine suspect, dead, restarted, stale and healthy again."""

import pytest

from actors.engine_health import EngineHealth, Event, Health

DEATH_AND_RETURN = [
    (Event.DIED, Health.DEAD),
    (Event.RESTART, Health.RESTARTING),
    (Event.STARTED, Health.STALE),
    (Event.LOADED, Health.HEALTHY),
]


def test_a_killed_engine_serves_only_after_it_took_the_newest_weights() -> None:
    health = EngineHealth()
    seen = []
    for event, state in DEATH_AND_RETURN:
        assert health.on(event) is state
        seen.append(health.serves)
    assert seen == [False, False, False, True]
    assert health.restarts == 1


def test_missed_pings_in_a_row_are_a_death_and_an_answer_forgives_them() -> None:
    health = EngineHealth(patience=3)
    events = [Event.MISSED, Event.MISSED, Event.ANSWERED, Event.MISSED, Event.MISSED, Event.MISSED]
    assert [health.on(event).name for event in events] == ["SUSPECT", "SUSPECT", "HEALTHY", "SUSPECT", "SUSPECT", "DEAD"]


def test_a_suspect_engine_still_serves() -> None:
    health = EngineHealth()
    health.on(Event.MISSED)
    assert health.serves


@pytest.mark.parametrize("state", list(Health))
def test_a_death_is_noticed_in_every_state(state: Health) -> None:
    assert EngineHealth(state=state).on(Event.DIED) is Health.DEAD


@pytest.mark.parametrize("state", [Health.DEAD, Health.RESTARTING, Health.STALE, Health.BEHIND])
def test_pings_say_nothing_about_an_engine_that_does_not_serve(state: Health) -> None:
    for event in (Event.ANSWERED, Event.MISSED):
        assert EngineHealth(patience=1, state=state).on(event) is state


@pytest.mark.parametrize("event", [Event.STARTED, Event.LOADED])
def test_steps_of_a_restart_out_of_turn_change_nothing(event: Event) -> None:
    assert EngineHealth(state=Health.DEAD).on(event) is Health.DEAD
    assert EngineHealth(state=Health.HEALTHY).on(event) is Health.HEALTHY


def test_an_engine_that_came_back_too_late_for_the_newest_weights_takes_the_next() -> None:
    health = EngineHealth(state=Health.STALE)
    assert not health.takes_weights  # its restart is about to load them
    assert health.on(Event.GONE) is Health.BEHIND
    assert (health.serves, health.takes_weights) == (False, True)
    assert health.on(Event.LOADED) is Health.HEALTHY


def test_a_restart_that_fails_is_tried_again() -> None:
    health = EngineHealth()
    for event in (Event.DIED, Event.RESTART, Event.DIED, Event.RESTART, Event.STARTED, Event.DIED):
        health.on(event)
    assert (health.state, health.restarts) == (Health.DEAD, 2)
