"""The soak's verdict on memory, on figures that are made up."""

import pytest

from tests.faults.soak import slope_mib_h

MIB = 2**20


def samples(growth_mib_h: float, tooth_mib: int) -> list[tuple[float, int]]:
    """A quarter of an hour, a look every 5 s, at memory that is given back every 10 s."""
    return [(5.0 * n, int((700 + growth_mib_h * 5.0 * n / 3600 + tooth_mib * (n % 2)) * MIB)) for n in range(60, 240)]


@pytest.mark.parametrize("growth", [0.0, 4.0, 16.0, -3.0])
@pytest.mark.parametrize("tooth", [0, 80])
def test_what_is_given_back_does_not_count_as_growth(growth: float, tooth: int) -> None:
    assert slope_mib_h(samples(growth, tooth)) == pytest.approx(growth, abs=0.1)


def test_of_one_window_there_is_no_slope() -> None:
    assert slope_mib_h([(0.0, MIB), (5.0, 2 * MIB)]) == 0.0
