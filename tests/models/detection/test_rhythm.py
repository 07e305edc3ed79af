"""What the clock says of a channel: the profile of the day, and what each day of the week makes of it.

Sizes: T readings.
"""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from models.data.arrays import Doubles
from models.data.series import Series
from models.data.time_units import DAY_MS
from models.detection.detector import DetectorConfig, Readings
from models.detection.priming import prime
from models.detection.rows import CALENDAR, Rows
from models.net.packing import pack
from tests.models.detection.interpreted import EXPECTATION, RHYTHM, OneStream
from tests.models.detection.test_expectation import (
    FIVE_MINUTES_MS,
    MONDAY_MS,
    judged,
    noise,
    remember,
    untrained,
)

DAY = 288  # readings
QUARTER_MS = 900_000
PLACES = 4 * len(CALENDAR)


def working_days(weeks: int, weekend: float = 0.0, seed: int = 0) -> Doubles:
    """Five minutes apart: ten hours of work from Monday to Friday, and a share of it at weekends."""
    day, reading = np.divmod(np.arange(weeks * 7 * DAY), DAY)
    work = np.where((reading >= 84) & (reading < 204), 30.0, 0.0)
    return 40 + work * np.where(day % 7 < 5, 1.0, weekend) + 0.3 * noise(seed, len(day))


# --- digits


@given(st.lists(st.tuples(st.integers(0, PLACES - 1), st.floats(-4_095, 4_095)), max_size=30))
def test_a_digit_moves_by_itself_to_the_nearest_step(moves: list[tuple[int, float]]) -> None:
    calendar, wanted = np.zeros(len(CALENDAR)), np.zeros(PLACES)
    for place, to in moves:
        RHYTHM.set_digit(calendar, place, to)
        wanted[place] = np.floor(to + 0.5)
    assert digits_of(calendar).tolist() == wanted.tolist()


@pytest.mark.slow
@given(st.lists(st.integers(-4_096, 4_095), min_size=PLACES, max_size=PLACES))
def test_levels_in_steps_twice_as_large_are_the_same_to_half_a_step_and_gains_stay(digits: list[int]) -> None:
    calendar = np.zeros(len(CALENDAR))
    for place, steps in enumerate(digits):
        RHYTHM.set_digit(calendar, place, steps)
    RHYTHM.halve(calendar)
    np.testing.assert_allclose(digits_of(calendar)[: RHYTHM.GAINS] * 2, digits[: RHYTHM.GAINS], atol=1)
    assert digits_of(calendar)[RHYTHM.GAINS :].tolist() == digits[RHYTHM.GAINS :]


def test_a_quarter_of_an_hour_and_a_weekday_are_those_of_the_calendar() -> None:
    assert [RHYTHM.quarter_of(MONDAY_MS + quarter * QUARTER_MS + 1.0) for quarter in range(97)] == [*range(96), 0]
    assert [RHYTHM.weekday_of(MONDAY_MS // DAY_MS + day) for day in range(8)] == [*range(7), 0]


def digits_of(calendar: Doubles) -> Doubles:
    return np.array([RHYTHM.digit(calendar, place) for place in range(PLACES)])


# --- days of the week


@pytest.mark.parametrize("weekend", [0.0, 0.3])
def test_weekends_are_expected_after_three_weeks(weekend: float) -> None:
    values = working_days(5, weekend)
    verdicts = judged(values, step_ms=FIVE_MINUTES_MS)
    error = np.abs(verdicts.expected[:, 0].numpy() - values)
    later = np.arange(len(values)) >= 3 * 7 * DAY
    assert error[later].max() < 9  # of 30 that a working day is higher
    assert not verdicts.alarm.numpy()[later].any()


def test_working_days_are_expected_again_after_the_second_weekend() -> None:
    """The edges of the first one, which no one could know, are no lasting evidence against the clock."""
    values = working_days(3, 0.3)
    error = np.abs(judged(values, step_ms=FIVE_MINUTES_MS).expected[:, 0].numpy() - values)
    day, reading = np.divmod(np.arange(len(values)), DAY)
    third = (day >= 14) & (day % 7 < 5)
    assert error[third & np.isin(reading, (84, 204))].mean() < 4 * error[third & ~np.isin(reading, (84, 204))].mean()


def test_a_working_day_that_is_like_a_weekend_is_an_anomaly() -> None:
    values = working_days(4)
    wednesday = slice(23 * DAY, 24 * DAY)
    values[wednesday] = 40 + 0.3 * noise(5, DAY)
    assert judged(values, step_ms=FIVE_MINUTES_MS).alarm[wednesday].any()


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_a_machine_that_is_off_at_weekends_is_quiet_from_the_third_week_on_and_a_missed_day_is_told(seed: int) -> None:
    """Its zeros stay for 576 readings: neither a new level nor a sensor that is stuck."""
    day, reading = np.divmod(np.arange(4 * 7 * DAY), DAY)
    runs = 75 + 6 * np.sin(reading / DAY * 2 * np.pi) + 0.3 * noise(seed, len(day))
    values = np.where(day % 7 < 5, runs, 0.0)
    healthy = judged(values, step_ms=FIVE_MINUTES_MS).alarm.numpy()
    assert healthy[5 * DAY], "the first weekend is told"
    assert not healthy[15 * DAY :].any()
    values[22 * DAY : 23 * DAY] = 0.0
    missed = judged(values, step_ms=FIVE_MINUTES_MS).alarm.numpy()
    assert missed[22 * DAY : 23 * DAY].any()


@pytest.mark.parametrize(
    "values",
    [
        50 + noise(readings=30 * DAY),
        50 + remember(noise(readings=30 * DAY), 0.9),
        50 + 5 * np.sin(np.arange(30 * DAY) * 2 * np.pi / DAY) + noise(readings=30 * DAY),
    ],
)
def test_days_that_are_alike_teach_no_week(values: Doubles) -> None:
    rows = after(values)
    totals = (rows.channel(name).item() for name in ("week_product", "week_square", "residual_variance"))
    heeded = EXPECTATION.proven(*totals)
    levels = digits_of(calendar_of(rows))[RHYTHM.LEVELS : RHYTHM.LEVELS + 7]
    assert np.abs(levels * rows.channel("profile_step").item() * heeded).max() < 0.05


def test_a_day_that_was_not_seen_yet_is_as_the_profile_says() -> None:
    digits = digits_of(calendar_of(after(working_days(1)[: 5 * DAY + 1])))
    for first in (RHYTHM.LEVELS, RHYTHM.GAINS):
        assert digits[first + 5 : first + 7].tolist() == [0, 0]
        assert (digits[first : first + 5] != 0).any()


def test_a_day_is_fitted_by_least_squares_as_a_level_and_a_gain() -> None:
    channel, calendar = OneStream().channels[0], np.zeros(len(CALENDAR))
    channel.profile_step = 1 / 1_024
    profile = np.random.default_rng(0).uniform(-1, 1, 96)
    beyond = np.random.default_rng(1).uniform(-0.5, 0.5, 96) - 0.4 * profile + 0.2
    for quarter in range(96):
        RHYTHM.set_digit(calendar, quarter, profile[quarter] * 1_024)
        RHYTHM.follow_day(channel, calendar, beyond[quarter], profile[quarter], 1.0)
    RHYTHM.end_day(channel, calendar, 0, 0, 1e9)  # so long known that no day moves the profile
    gain, level = np.polyfit(profile, beyond, 1)
    digits = digits_of(calendar)
    rate, moved = 1 / RHYTHM.MEMORY_WEEKS, beyond.mean() / RHYTHM.MEMORY_DAYS
    grown = 1 + gain / RHYTHM.MEMORY_DAYS
    expected_gain = (1 + gain * rate) / grown - 1
    assert digits[RHYTHM.GAINS] / 1_024 == pytest.approx(expected_gain, abs=0.01)
    expected_level = (level + gain * profile.mean()) * rate - moved - expected_gain * profile.mean()
    assert digits[RHYTHM.LEVELS] / 1_024 == pytest.approx(expected_level, abs=0.01)


def test_days_on_which_nothing_moved_say_nothing_of_those_that_follow() -> None:
    """A stream whose spread was known before it moved, as where it is trained on a part that begins at rest."""
    values = np.zeros(9 * DAY)
    values[2 * DAY + 40 :: 97] += 30 + noise(0, len(values[2 * DAY + 40 :: 97]))
    places = np.arange(len(values))
    times_ms = MONDAY_MS + places * FIVE_MINUTES_MS
    part = Series("a", Path("a.csv"), ("a",), places, times_ms, values[:, None], np.zeros(len(values), np.bool_))
    rows = prime(untrained().forecaster, DetectorConfig(), [part]).known_rows
    assert (np.abs(digits_of(calendar_of(rows))) <= 4_096).all()
    assert np.abs(digits_of(calendar_of(rows))).max() * rows.channel("profile_step").item() < 30


def after(values: Doubles) -> Rows:
    """The row of a stream after these readings."""
    place = torch.arange(len(values))
    readings = Readings(place, MONDAY_MS + place * FIVE_MINUTES_MS, torch.from_numpy(values)[:, None])
    _, rows = untrained().observe(readings, pack(torch.zeros_like(place)), untrained().rows_for([b"a"]))
    return rows


def calendar_of(rows: Rows) -> Doubles:
    return np.array([rows.channel(name).item() for name in CALENDAR])
