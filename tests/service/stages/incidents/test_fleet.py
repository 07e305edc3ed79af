"""A fleet of 100,000 streams: the budget holds, and what is severe is among what people are notified of."""

import pytest

from tests.service.stages.incidents.fleet import FAULTS, run_fleet


@pytest.mark.slow
def test_of_a_fleet_the_budget_holds_in_any_week_and_no_storm_and_no_severe_fault_is_held_back() -> None:
    found = run_fleet(430, 8)
    assert found.incidents > 8 * 400
    assert all(0.8 * 7 * 144 <= week <= 1.2 * 7 * 144 for week in found.weeks)
    assert found.storms == 4
    assert found.planted.total() == FAULTS
    assert [found.faults[severity] for severity in (1, 2)] == [found.planted[severity] for severity in (1, 2)]


def test_a_fleet_of_the_same_seed_is_the_same() -> None:
    assert run_fleet(100, 2)[:-1] == run_fleet(100, 2)[:-1]
