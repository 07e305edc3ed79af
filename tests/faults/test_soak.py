"""The soak's verdict on memory, on figures that are made up."""

import pytest

from tests.faults.soak import slope_mib_h

MIB = 2**20


@pytest.mark.parametrize("growth", [0.0, 4.0, 16.0, -3.0])
def test_a_line_through_what_is_held_at_rest_says_how_fast_it_grows(growth: float) -> None:
    rests = [(120.0 * n, int((700 + growth * 120.0 * n / 3600) * MIB)) for n in range(3, 11)]
    assert slope_mib_h(rests) == pytest.approx(growth, abs=0.1)


def test_of_one_rest_there_is_no_slope() -> None:
    assert slope_mib_h([(0.0, MIB)]) == 0.0
