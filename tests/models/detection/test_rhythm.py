"""What the clock says of a channel: the profile of the day, and what each day of the week makes of it.

Sizes: T readings.
"""

from pathlib import Path
from typing import Any

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
    judged_at,
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
    product = RHYTHM.GAINS + RHYTHM.TODAY
    assert digits_of(calendar)[RHYTHM.GAINS : product].tolist() == digits[RHYTHM.GAINS : product]
    assert digits_of(calendar)[product] * 4 == pytest.approx(digits[product], abs=2)


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


def test_after_a_weekend_at_rest_the_clock_is_heeded_although_the_last_value_was_right_for_two_days() -> None:
    day, reading = np.divmod(np.arange(4 * 7 * DAY), DAY)
    values = np.where(day % 7 < 5, 75 + 6 * np.sin(reading / DAY * 2 * np.pi) + 0.3 * noise(0, len(day)), 0.0)
    expected = judged(values, step_ms=FIVE_MINUTES_MS).expected[:, 0].numpy()
    starts = 21 * DAY
    assert abs(expected[starts] - values[starts]) < 0.1 * (values[starts] - values[starts - 1])


def test_what_the_clock_could_not_know_is_no_evidence_against_it() -> None:
    """A machine that rests at weekends, first seen on a Tuesday: neither Sunday nor Monday was known before it came."""
    day, reading = np.divmod(np.arange(3 * 7 * DAY), DAY)
    runs = 75 + 6 * np.sin(reading / DAY * 2 * np.pi) + 0.3 * noise(0, len(day))
    values = np.where((day + 1) % 7 < 5, runs, 0.0)
    times_ms = MONDAY_MS + DAY_MS + np.arange(len(values)) * FIVE_MINUTES_MS
    expected = judged_at(times_ms, values).expected[:, 0].numpy()
    second_monday = 13 * DAY
    assert expected[second_monday] > 0.6 * values[second_monday]


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
    assert not healthy[14 * DAY :].any()
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
def test_of_days_that_are_alike_no_more_is_wrong_with_the_week_than_without(values: Doubles) -> None:
    """What is heeded of it makes up for the noise in the profile, which goes back fewer days."""
    rows = after(values)
    totals = (rows.channel(name).item() for name in ("week_product", "week_square", "residual_variance"))
    usual = values.reshape(-1, 96, DAY // 96).mean(axis=(0, 2))
    profile, days = expected_by(rows)
    heeded = profile + EXPECTATION.proven(*totals) * (days - profile)
    spread = rows.channel("spread").item()
    alone, together = (np.sqrt(np.mean((said - usual) ** 2)) / spread for said in (profile, heeded))
    assert together < alone + 0.03


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
        RHYTHM.follow_day(channel, calendar, quarter, beyond[quarter], profile[quarter], 1.0)
    RHYTHM.end_day(channel, calendar, 0, 0, 1e9)  # so long known that no day moves the profile
    gain, level = np.polyfit(profile, beyond, 1)
    digits = digits_of(calendar)
    rate, others = 1 / RHYTHM.MEMORY_WEEKS, RHYTHM.MEMORY_DAYS - 1
    before = -gain / others, -level / others  # what a day was that the profile had right, from where it is now
    assert digits[RHYTHM.GAINS] / 1_024 == pytest.approx(before[0] + (gain - before[0]) * rate, abs=0.01)
    assert digits[RHYTHM.LEVELS] / 1_024 == pytest.approx(before[1] + (level - before[1]) * rate, abs=0.01)


@pytest.mark.parametrize("first", range(7))
def test_days_of_a_week_that_was_seen_are_known_to_a_hundredth_whatever_day_it_began_on(first: int) -> None:
    """Work on five days, a third of it on Saturday, rest far below on Sunday."""
    channel, calendar = OneStream().channels[0], np.zeros(len(CALENDAR))
    channel.residual_variance = 1e-4
    work = 1 + np.sin(np.arange(96) / 96 * 2 * np.pi)
    week = [*[work] * 5, work / 3, np.full(96, -2.0)]
    for quarter in range(96 * 14):
        end_ms = MONDAY_MS + first * DAY_MS + (quarter + 1) * QUARTER_MS
        before_ms, day = float(end_ms - 1), (first + quarter // 96) % 7
        channel.visit_sum = week[day][quarter % 96] - RHYTHM.daily_at(channel, calendar, before_ms)
        channel.visit_readings = 1
        RHYTHM.end_visit(channel, calendar, float(end_ms), before_ms, day, quarter / 96, paused=False)
    for day, wanted in enumerate(week):
        daily = [RHYTHM.daily_at(channel, calendar, float(place * QUARTER_MS)) for place in range(96)]
        said = [here + RHYTHM.weekly_at(channel, calendar, day, here) for here in daily]
        np.testing.assert_allclose(said, wanted, atol=0.03)


@given(st.integers(0, 2**32 - 1), st.floats(-20, 20))
def test_where_the_centre_moves_what_is_expected_of_each_day_stays(seed: int, by: float) -> None:
    channel, calendar = OneStream().channels[0], np.zeros(len(CALENDAR))
    random = np.random.default_rng(seed)
    for place in range(PLACES):
        RHYTHM.set_digit(calendar, place, random.integers(-1_000, 1_000))
    profile, days, last = (*said_by(channel, calendar), channel.last_profile)
    RHYTHM.move_origin(channel, calendar, by)
    step = channel.profile_step
    moved_profile, moved_days = said_by(channel, calendar)
    np.testing.assert_allclose(moved_profile + by, profile, atol=2 * step)
    np.testing.assert_allclose(moved_days + by, days, atol=6 * step)
    assert channel.last_profile - last == pytest.approx(-by, abs=step)


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


def expected_by(rows: Rows) -> tuple[Doubles, Doubles]:
    """What the profile says of each quarter, (96,), and each day of the week on top of it, (7, 96); raw."""
    channel = OneStream().channels[0]
    channel.profile_step, spread = rows.channel("profile_step").item(), rows.channel("spread").item()
    profile, days = said_by(channel, calendar_of(rows))
    centre = rows.channel("centre").item()
    return centre + profile * spread, centre + days * spread


def said_by(channel: Any, calendar: Doubles) -> tuple[Doubles, Doubles]:
    """The same in spreads from the centre."""
    profile = np.array([RHYTHM.daily_at(channel, calendar, float(place * QUARTER_MS)) for place in range(96)])
    days = [[here + RHYTHM.weekly_at(channel, calendar, day, here) for here in profile] for day in range(7)]
    return profile, np.array(days)


def calendar_of(rows: Rows) -> Doubles:
    return np.array([rows.channel(name).item() for name in CALENDAR])
