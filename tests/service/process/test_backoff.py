"""How long a process that ended waits for its next start."""

from service.process.backoff import CALM_S, MOST_IN_A_ROW, MOST_S, Backoff


def test_each_end_in_a_row_waits_twice_as_long_up_to_a_bound_and_then_no_more() -> None:
    backoff = Backoff()
    waits = [backoff.wait_s(1.0) for _ in range(MOST_IN_A_ROW)]
    assert waits[:4] == [0.1, 0.2, 0.4, 0.8]
    assert waits[-1] == MOST_S
    assert backoff.wait_s(1.0) is None


def test_one_that_ran_for_long_begins_a_new_row() -> None:
    backoff = Backoff()
    for _ in range(MOST_IN_A_ROW):
        backoff.wait_s(1.0)
    assert backoff.wait_s(CALM_S) == 0.1
    assert backoff.wait_s(1.0) == 0.2
