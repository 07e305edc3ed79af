"""Times that come again: when they hold, by which clock, and what is refused."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from models.data.cron import parse_cron
from models.data.rfc3339 import milliseconds_of as at

UTC_ZONE, BERLIN = ZoneInfo("UTC"), ZoneInfo("Europe/Berlin")
HOUR_MS = 3_600_000


@pytest.mark.parametrize(
    ("cron", "time", "holds"),
    [
        ("0 6 * * *", "2026-11-28T06:00:00Z", True),
        ("0 6 * * *", "2026-11-28T07:59:59Z", True),
        ("0 6 * * *", "2026-11-28T08:00:00Z", False),
        ("0 6 * * *", "2026-11-28T05:59:59Z", False),
        ("0 6 * * sat", "2026-11-28T07:00:00Z", True),
        ("0 6 * * mon-fri", "2026-11-28T07:00:00Z", False),
        ("0 6 * * 7", "2026-11-29T07:00:00Z", True),
        ("0 6 1 * sat", "2026-11-28T07:00:00Z", True),  # either kind of day is enough
        ("0 6 1 * sun", "2026-12-01T07:00:00Z", True),
        ("0 6 1 * *", "2026-11-28T07:00:00Z", False),
        ("0 6 * dec *", "2026-11-28T07:00:00Z", False),
        ("30 23 * * *", "2026-11-29T01:00:00Z", True),  # past midnight
        ("*/30 6-8/2 * * *", "2026-11-28T10:15:00Z", True),  # of 8:30
        ("*/30 6-8/2 * * *", "2026-11-28T10:45:00Z", False),
    ],
)
def test_a_time_that_comes_again_holds_from_its_beginning_for_as_long_as_it_lasts(
    cron: str, time: str, holds: bool
) -> None:
    assert parse_cron(cron, UTC_ZONE).began_within(at(time), 2 * HOUR_MS) is holds


def test_it_begins_by_the_clock_of_its_place_in_summer_and_in_winter() -> None:
    cron = parse_cron("0 6 * * *", BERLIN)
    assert cron.began_within(at("2026-07-01T04:30:00Z"), HOUR_MS)
    assert not cron.began_within(at("2026-07-01T05:30:00Z"), HOUR_MS)
    assert cron.began_within(at("2026-12-01T05:30:00Z"), HOUR_MS)
    in_the_gap = parse_cron("30 2 29 3 *", BERLIN)  # of 2026: the clock goes from 2 to 3
    assert in_the_gap.began_within(at("2026-03-29T01:45:00Z"), HOUR_MS)


@pytest.mark.slow
@pytest.mark.parametrize("cron", ["0 6 * * mon-fri", "*/20 8,12 1-7 * *", "5 0 * feb *"])
def test_it_holds_at_the_minutes_that_a_look_at_every_minute_finds(cron: str) -> None:
    """The oracle looks at each minute of eight weeks; the fields it reads are plain sets."""
    parsed, minute = parse_cron(cron, UTC_ZONE), datetime(2026, 1, 25, tzinfo=UTC)
    for _ in range(0, 56 * 24 * 60, 7):
        minute += timedelta(minutes=7)
        begins = any(
            began.minute in parsed.minutes
            and began.hour in parsed.hours
            and began.month in parsed.months
            and (parsed.days is None or began.day in parsed.days)
            and (parsed.weekdays is None or began.isoweekday() % 7 in parsed.weekdays)
            for began in (minute - timedelta(minutes=n) for n in range(15))
        )
        assert parsed.began_within(round(minute.timestamp() * 1000), 15 * 60_000) is begins, minute


@pytest.mark.parametrize(
    ("cron", "message"),
    [
        ("0 6 * *", "4 fields, expected 5"),
        ("60 6 * * *", "'60', expected a number from 0 to 59"),
        ("0 six * * *", "'six', expected a number from 0 to 23"),
        ("0 6 * * fri-mon", "expected a range that rises"),
        ("*/0 6 * * *", "'0', expected a number from 1 to 59"),
        ("0 6 0 * *", "'0', expected a number from 1 to 31"),
    ],
)
def test_what_is_no_such_time_is_refused_with_what_was_expected(cron: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_cron(cron, UTC_ZONE)
