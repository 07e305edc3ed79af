"""The zone whose clocks a stream's days and weeks go by, and the two days a year on which they are changed.

Sizes: T readings.
"""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pytest
import torch

from models.data.arrays import Doubles, Int64s
from models.detection.alarm import Change
from models.detection.detector import Detector, Readings, Verdicts
from models.detection.rows import CALENDAR, Rows
from models.detection.sensor_rules import SensorRule, SensorRules
from models.insight.forecasting import expect
from models.net.clock import clock_changes
from models.net.packing import pack
from tests.data import some_forecaster
from tests.models.detection.interpreted import RHYTHM, OneStream
from tests.models.detection.test_expectation import FIVE_MINUTES_MS, MONDAY_MS, noise, untrained

BERLIN = "Europe/Berlin"
DAY = 288  # readings
HOUR_MS = 3_600_000
CHANGES = (datetime(2025, 3, 30, 1, tzinfo=UTC), datetime(2025, 10, 26, 1, tzinfo=UTC))


def around(change: datetime) -> Int64s:
    """Five minutes apart, from three weeks before the change to one after it."""
    begin = round((change - timedelta(days=21)).timestamp() * 1000)
    return begin + FIVE_MINUTES_MS * np.arange(28 * DAY)


def job_at_six(times_ms: Int64s, zone: str) -> Doubles:
    """An hour of work at 06:00 of the clocks there, every day."""
    hours = [datetime.fromtimestamp(time // 1000, ZoneInfo(zone)).hour for time in times_ms.tolist()]
    return np.where(np.array(hours) == 6, 85.0, 60.0) + 0.5 * noise(readings=len(hours))


def in_zone(zone: str | None, detector: Detector | None = None) -> Detector:
    rules = [] if zone is None else [SensorRule("plant/*", time_zone=zone)]
    return (detector or untrained()).limited(SensorRules(rules, ("a",)).limits([b"plant/press"]))


def observed(detector: Detector, times_ms: Int64s, values: Doubles) -> tuple[Verdicts, Rows]:
    place = torch.arange(len(values))
    readings = Readings(place, torch.from_numpy(times_ms), torch.from_numpy(values)[:, None])
    return detector.observe(readings, pack(torch.zeros_like(place)), detector.rows_for([b"plant/press"]))


def alarms_after(change: datetime, zone: str | None) -> int:
    """In the week after Berlin's clocks are changed, of a job at 06:00 there."""
    times_ms = around(change)
    verdicts, _ = observed(in_zone(zone), times_ms, job_at_six(times_ms, BERLIN))
    later = int(np.searchsorted(times_ms, change.timestamp() * 1000))
    return sum(one.change is Change.OPENED and one.reading >= later for one in verdicts.transitions)


@pytest.mark.parametrize("change", CHANGES)
def test_a_job_at_six_is_not_told_when_the_clocks_of_its_zone_are_changed(change: datetime) -> None:
    assert alarms_after(change, BERLIN) == 0
    assert alarms_after(change, None) > 0, "by UTC it comes at another hour"
    assert alarms_after(change, "Asia/Tokyo") > 0, "and by clocks that are not changed"


def test_between_two_changes_a_zone_is_a_shift_of_the_times() -> None:
    """Oracle: the same readings an hour later, by UTC; the net is shown no clock, so all bits are the same."""
    times_ms = MONDAY_MS + FIVE_MINUTES_MS * np.arange(21 * DAY)
    values = job_at_six(times_ms, BERLIN)
    here, rows = observed(in_zone(BERLIN), times_ms, values)
    there, rows_there = observed(in_zone(None), times_ms + HOUR_MS, values)
    for column, expected in zip(here[1:6], there[1:6], strict=True):
        np.testing.assert_array_equal(column, expected)
    np.testing.assert_array_equal(rows.channels, rows_there.channels)
    _, by_utc = observed(in_zone(None), times_ms, values)
    assert not torch.equal(rows.channels, by_utc.channels)


def test_utc_is_the_zone_where_no_rule_names_one() -> None:
    times_ms = around(CHANGES[1])
    values = job_at_six(times_ms, BERLIN)
    none, utc = (observed(in_zone(zone), times_ms, values) for zone in (None, "UTC"))
    for column, expected in zip((*none[0][1:6], *none[1][2:]), (*utc[0][1:6], *utc[1][2:]), strict=True):
        np.testing.assert_array_equal(column, expected)


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("minutes", [-65, -1, 0, 1, 65])
def test_what_is_expected_next_is_what_the_verdict_says_at_a_change_too(change: datetime, minutes: int) -> None:
    times_ms = around(change)
    times_ms = times_ms[times_ms < change.timestamp() * 1000 - 66 * 60_000]
    detector = in_zone(BERLIN, Detector.cold(some_forecaster(1)))
    _, rows = observed(detector, times_ms, job_at_six(times_ms, BERLIN))
    next_ms = torch.tensor([round(change.timestamp() * 1000) + minutes * 60_000])
    expected = expect(detector, rows, next_ms)
    reading = Readings(torch.tensor([len(times_ms)]), next_ms, torch.tensor([[60.0]], dtype=torch.float64))
    verdicts, _ = detector.observe(reading, pack(torch.tensor([0])), rows)
    assert torch.equal(verdicts.expected, expected)


def test_streams_of_a_batch_have_each_its_own_zone() -> None:
    zones = {b"berlin": BERLIN, b"york": "America/New_York", b"kolkata": "Asia/Kolkata", b"other": None}
    rules = SensorRules([SensorRule(key.decode(), time_zone=zone) for key, zone in zones.items() if zone], ("a",))
    times_ms = around(CHANGES[1])[: 10 * DAY]
    detector, count = untrained(), len(zones)
    values = job_at_six(times_ms, BERLIN)
    place = torch.arange(count * len(values))
    readings = Readings(
        place,
        torch.from_numpy(np.repeat(times_ms, count)),
        torch.from_numpy(np.repeat(values, count))[:, None],
    )
    waves = pack(place % count)
    keys = list(zones)
    limits = rules.limits([keys[slot] for slot in waves.slots.tolist()])
    together, _ = detector.observe(readings, waves, detector.rows_for(keys).take(waves.slots), limits)
    for n, zone in enumerate(zones.values()):
        alone, _ = observed(in_zone(zone), times_ms, values)
        np.testing.assert_array_equal(together.expected[n::count], alone.expected)


@pytest.mark.parametrize("zone", [BERLIN, "America/New_York", "Australia/Lord_Howe", "Pacific/Apia", "UTC"])
def test_local_time_is_that_of_zoneinfo(zone: str) -> None:
    limits = SensorRules([SensorRule(time_zone=zone), SensorRule(time_zone=BERLIN)], ("a",)).limits([b"a"])
    assert limits is not None
    changes, offsets = limits.clock_changes[0], limits.clock_offsets[0]
    looks = [around(change)[::12] for change in CHANGES] + [clock_changes(zone)[0].numpy()[-120:] - 1]
    for time_ms in np.concatenate(looks).tolist():
        found = RHYTHM.local_time(float(time_ms), changes, offsets)
        local = datetime.fromtimestamp(time_ms / 1000, ZoneInfo(zone)).replace(tzinfo=UTC)
        assert found == pytest.approx(local.timestamp() * 1000, abs=1)


def test_an_hour_that_clocks_show_twice_is_visited_twice() -> None:
    """No visit stands for a negative share of the day."""
    one = OneStream()
    channel, calendar = one.channels[0], np.zeros(len(CALENDAR))
    channel.profile_step = 1 / 1_024
    channel.visit_sum, channel.visit_readings = 6.0, 3.0
    three, two = (float(MONDAY_MS + hour * HOUR_MS) for hour in (3, 2))
    RHYTHM.end_visit(channel, calendar, two, three - 60_000, 6, 5.0, paused=False)
    assert channel.visit_readings == 0
    today = RHYTHM.digit(calendar, RHYTHM.LEVELS + RHYTHM.TODAY) * channel.profile_step
    assert RHYTHM.digit(calendar, 11) * channel.profile_step == pytest.approx(2.0 / 6, abs=1 / 1_024)
    assert today == pytest.approx((2.0 - 2.0 / 6) / 96, abs=1 / 1_024)
