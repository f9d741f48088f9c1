from actors.busy_clock import BusyClock


def test_overlapping_requests_count_once_as_busy_and_each_as_requests() -> None:
    now = [0.0]
    clock = BusyClock(lambda: now[0])
    with clock.request() as first_in:
        first_in()
        now[0] = 2.0
        with clock.request() as second_in:
            now[0] = 5.0
            second_in()
            now[0] = 6.0
            assert clock.busy_s == 6.0
        now[0] = 7.0
    now[0] = 100.0
    assert (clock.busy_s, clock.request_s, clock.waiting_s) == (7.0, 7.0 + 4.0, 3.0)


def test_a_request_that_is_given_up_has_only_waited() -> None:
    now = [1.0]
    clock = BusyClock(lambda: now[0])
    with clock.request():
        now[0] = 4.0
    assert (clock.busy_s, clock.request_s, clock.waiting_s) == (3.0, 3.0, 3.0)
