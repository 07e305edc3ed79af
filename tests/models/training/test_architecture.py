from pathlib import Path

import numpy as np
import pytest

from models.data.series import Series
from models.net.warm_start import can_begin_as
from models.training.architecture import suited_to
from models.training.generic import generic_architecture


def part(days: float) -> Series:
    times_ms = np.arange(0, round(days * 24) + 1) * 3_600_000
    row = np.arange(len(times_ms))
    return Series("s", Path("made"), ("a",), row, times_ms, np.zeros((len(row), 1)), np.zeros(len(row), bool))


@pytest.mark.parametrize(
    ("days", "day_harmonics", "week_harmonics"),
    [(0.5, 1, 1), (2.6, 1, 1), (4, 1, 1), (5, 6, 1), (6, 12, 1), (8, 24, 1), (12, 24, 1), (14, 24, 6), (400, 24, 6)],
)
def test_the_clock_is_no_finer_than_the_days_teach(days: float, day_harmonics: int, week_harmonics: int) -> None:
    config = suited_to([part(days)])
    assert (config.day_harmonics, config.week_harmonics) == (day_harmonics, week_harmonics)


def test_the_middle_one_of_the_streams_decides() -> None:
    assert suited_to([part(1), part(9), part(300)]).day_harmonics == 24
    assert suited_to([part(1), part(2), part(300)]).day_harmonics == 1


def test_the_time_zone_is_that_which_was_asked_for() -> None:
    assert suited_to([part(1)], time_zone="Asia/Tokyo").time_zone == "Asia/Tokyo"


def test_a_net_of_one_channel_begins_as_the_one_trained_before_with_a_clock_as_fine_at_least() -> None:
    start = generic_architecture(64)
    for days, day_harmonics, week_harmonics in ((1.0, 4, 2), (14.0, 24, 6)):
        config = suited_to([part(days)], start=start)
        assert can_begin_as(start, config)
        assert (config.day_harmonics, config.week_harmonics) == (day_harmonics, week_harmonics)
        assert config.features == ("a",)


def test_nets_of_several_channels_other_cells_and_other_sizes_begin_with_random_weights() -> None:
    start, two = generic_architecture(64), part(14)._replace(features=("a", "b"))
    assert suited_to([two], start=start) == suited_to([two])
    assert suited_to([part(14)], "gru", start=start) == suited_to([part(14)], "gru")
    assert suited_to([part(14)], hidden=32, start=start) == suited_to([part(14)], hidden=32)
