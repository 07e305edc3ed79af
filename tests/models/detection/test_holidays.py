"""Holidays: days on which a plant that knows the week does what it does on another day of it.

Sizes: T readings.
"""

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pytest
import torch

from models.data.arrays import Doubles, Int64s
from models.data.time_units import DAY_MS
from models.detection.alarm import Change
from models.detection.detector import Detector, Readings, leaps_of
from models.detection.net_arithmetic import NetArithmetic
from models.detection.rows import CALENDAR, RowsInPlace
from models.detection.sensor_rules import Holiday, SensorRule, SensorRules, digest_of
from models.insight.forecasting import expect, paths
from models.net.forecaster import ForecasterConfig
from models.net.packing import pack
from tests.data import some_forecaster
from tests.models.detection.interpreted import RHYTHM
from tests.models.detection.test_expectation import FIVE_MINUTES_MS, MONDAY_MS, noise, untrained
from tests.models.detection.test_net_arithmetic import fine_net
from tests.models.detection.test_time_zones import observed

DAY = 288  # readings
FIRST = MONDAY_MS // DAY_MS
MONDAY, THURSDAY, SATURDAY, SUNDAY = 0, 3, 5, 6
FOURTH_WEEK = 21  # days that go before it
LEARNED, JUDGED = FOURTH_WEEK * DAY, 7 * DAY


def like(weekday: int, *days: int) -> tuple[Holiday, ...]:
    """days: since the first Monday."""
    return tuple(Holiday(FIRST + day, weekday) for day in days)


def resting_on(days: Sequence[int], weeks: int = 5, weekend: float = 0.3) -> Doubles:
    """Ten hours of work on working days, less at weekends and on these days, every five minutes."""
    day, place = np.divmod(np.arange(weeks * 7 * DAY), DAY)
    working = (place >= 7 * 12) & (place < 17 * 12)
    rests = (day % 7 >= SATURDAY) | np.isin(day, days)
    return np.where(working, 40 + np.where(rests, weekend, 1.0) * 30, 40.0) + 0.3 * noise(readings=len(day))


def with_rule(holidays: tuple[Holiday, ...] | None, detector: Detector | None = None, zone: str = "UTC") -> Detector:
    rules = SensorRules([SensorRule("plant/*", time_zone=zone, holidays=holidays)], ("a",))
    return (detector or untrained()).limited(rules.limits([b"plant/press"]))


def times_of(values: Doubles) -> Int64s:
    return MONDAY_MS + FIVE_MINUTES_MS * np.arange(len(values))


def alarms(values: Doubles, holidays: tuple[Holiday, ...] | None) -> list[int]:
    """The days from the fourth week on, since the first Monday, on which an alarm opens."""
    verdicts, _ = observed(with_rule(holidays), times_of(values), values)
    opened = [one.reading for one in verdicts.transitions if one.change is Change.OPENED and one.reading >= LEARNED]
    return [reading // DAY for reading in opened]


@pytest.mark.parametrize("weekend", [0.0, 0.3])
@pytest.mark.parametrize("rest", [(23,), (21,), (24, 25), (25,), (22, 24)])
def test_a_plant_that_rests_on_a_holiday_raises_an_alarm_only_where_none_is_known(
    rest: tuple[int, ...], weekend: float
) -> None:
    """Days in the middle of the week, beside its weekend, and in a row; three weeks are learned from."""
    values = resting_on(rest, weekend=weekend)
    assert alarms(values, like(SUNDAY, *rest)) == []
    assert set(alarms(values, None)) & set(rest)


def test_a_plant_that_works_on_a_holiday_like_a_sunday_raises_one() -> None:
    assert 23 in alarms(resting_on([]), like(SUNDAY, 23))


def test_the_weeks_after_a_holiday_are_expected_as_if_there_had_been_none() -> None:
    """Without the rule a quarter of the rest is expected of the same day a week later."""
    rest, later = (23,), slice(30 * DAY, 31 * DAY)
    values = resting_on(rest)
    error = {}
    for known in (like(SUNDAY, *rest), None):
        verdicts, _ = observed(with_rule(known), times_of(values), values)
        error[known] = float(np.abs(verdicts.expected[later, 0].numpy() - values[later]).mean())
    never, _ = observed(with_rule(None), times_of(values), resting_on([]))
    usual = float(np.abs(never.expected[later, 0].numpy() - resting_on([])[later]).mean())
    assert error[like(SUNDAY, *rest)] == pytest.approx(usual, rel=0.1)
    assert error[None] > 1.1 * usual


def test_a_holiday_in_the_first_week_leaves_the_days_that_were_seen_where_they_are() -> None:
    """Of a Wednesday, Monday and Tuesday have been seen, whatever the Wednesday is like: they move with the profile."""
    values = resting_on([2], weeks=1)
    _, rows = observed(with_rule(like(SUNDAY, 2)), times_of(values)[: 3 * DAY + 1], values[: 3 * DAY + 1])
    calendar = np.array([rows.channel(name).item() for name in CALENDAR])
    gains = [RHYTHM.digit(calendar, RHYTHM.GAINS + day) for day in range(7)]
    assert all(gains[day] > 0 for day in (0, 1)), "they show more of the profile than the mean of all days so far"
    assert gains[SUNDAY] < 0
    assert gains[2:SUNDAY] == [0, 0, 0, 0], "not seen yet: as the profile says"


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/New_York", "UTC"])
def test_a_holiday_is_a_day_by_the_clocks_of_the_stream(zone: str) -> None:
    """Oracle: zoneinfo. Over the change of the clocks in spring."""
    holidays = tuple(Holiday(date(2026, 3, day).toordinal() - date(1970, 1, 1).toordinal(), SUNDAY) for day in (27, 30))
    limits = with_rule(holidays, zone=zone).limits
    begin = datetime(2026, 3, 26, tzinfo=UTC)
    times = [begin + timedelta(minutes=30 * n) for n in range(6 * 48)]
    times_ms = np.array([[round(time.timestamp() * 1000)] for time in times])
    found = leaps_of(times_ms, limits)[:, 0]
    for time, leap in zip(times, found.tolist(), strict=True):
        local = time.astimezone(ZoneInfo(zone))
        expected = SUNDAY - local.weekday() if local.day in (27, 30) else 0
        assert leap == expected * 24 * 60


def test_the_net_is_shown_the_week_as_on_the_day_that_it_is_like() -> None:
    net = fine_net(ForecasterConfig(("a",), day_harmonics=4, week_harmonics=6))
    arithmetic, rows = NetArithmetic.of(net), untrained().rows_for([b"a"])
    given = np.full((DAY, 1), 300_000.0), np.ones((DAY, 1, 1)), RowsInPlace.of(rows, torch.tensor([0]))
    times_ms = (MONDAY_MS + THURSDAY * DAY_MS + FIVE_MINUTES_MS * np.arange(DAY))[:, None]
    leaps = leaps_of(times_ms, with_rule(like(SUNDAY, THURSDAY)).limits)
    shown = arithmetic.inputs(times_ms, leaps, *given)
    assert torch.equal(shown, arithmetic.inputs(times_ms + 3 * DAY_MS, np.zeros_like(leaps), *given))
    assert not torch.equal(shown, arithmetic.inputs(times_ms, np.zeros_like(leaps), *given))


@pytest.mark.parametrize("minutes", [-5, 5, 24 * 60 - 5, 24 * 60 + 5])
def test_what_is_expected_next_is_what_the_verdict_says_on_a_holiday_too(minutes: int) -> None:
    detector = with_rule(like(SUNDAY, 23), Detector.cold(some_forecaster(1)))
    next_ms = MONDAY_MS + 23 * DAY_MS + minutes * 60_000
    times_ms = np.arange(MONDAY_MS, next_ms, FIVE_MINUTES_MS)
    values = resting_on([23])[: len(times_ms)]
    _, rows = observed(detector, times_ms, values)
    at = torch.tensor([next_ms])
    expected = expect(detector, rows, at)
    reading = Readings(torch.tensor([len(times_ms)]), at, torch.tensor([[55.0]], dtype=torch.float64))
    verdicts, _ = detector.observe(reading, pack(torch.tensor([0])), rows)
    assert torch.equal(verdicts.expected, expected)


def test_a_forecast_of_a_holiday_is_that_of_the_day_it_is_like() -> None:
    """From Tuesday evening on, of a Wednesday: at noon it says the height of a Sunday."""
    begin = 23 * DAY - 12
    values = resting_on([23])
    times_ms, noon = times_of(values), 13 * 12
    found = []
    for holidays in (like(SUNDAY, 23), None):
        detector = with_rule(holidays)
        _, rows = observed(detector, times_ms[:begin], values[:begin])
        ahead = torch.from_numpy(times_ms[begin : begin + noon + 12])[:, None]
        found.append(float(paths(detector, rows, ahead, torch.zeros(len(ahead), 1, 1, 1).double())[-1, 0, 0, 0]))
    assert found[0] == pytest.approx(49, abs=4)
    assert found[1] == pytest.approx(70, abs=4)


def test_streams_of_a_batch_have_each_its_own_holidays() -> None:
    known = {b"berlin": like(SUNDAY, 2), b"york": like(SATURDAY, 1, 2), b"other": ()}
    rules = SensorRules([SensorRule(key.decode(), holidays=days) for key, days in known.items() if days], ("a",))
    values = resting_on([2], weeks=1)
    times_ms, count, keys = times_of(values), len(known), list(known)
    place = torch.arange(count * len(values))
    readings = Readings(
        place, torch.from_numpy(np.repeat(times_ms, count)), torch.from_numpy(np.repeat(values, count))[:, None]
    )
    detector, waves = Detector.cold(some_forecaster(1)), pack(place % count)
    limits = rules.limits([keys[slot] for slot in waves.slots.tolist()])
    together, _ = detector.observe(readings, waves, detector.rows_for(keys).take(waves.slots), limits)
    for n, days in enumerate(known.values()):
        alone, _ = observed(with_rule(days, Detector.cold(some_forecaster(1))), times_ms, values)
        np.testing.assert_array_equal(together.expected[n::count], alone.expected)


def test_the_first_rule_holds_that_names_holidays_and_a_day_changes_what_is_judged_by() -> None:
    first, second = like(SUNDAY, 1), like(SATURDAY, 2)
    rules = SensorRules([SensorRule("a*", holidays=first), SensorRule(holidays=second)], ("f",))
    assert (rules.of(b"a").holidays, rules.of(b"b").holidays) == (first, second)
    digests = {digest_of([SensorRule(holidays=days)]) for days in (None, first, second, like(SATURDAY, 1))}
    assert len(digests) == 4
