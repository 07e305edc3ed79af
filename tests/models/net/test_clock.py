from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import numpy as np
import pytest
import torch

from models.net.clock import UnknownTimeZone, clock_changes, minute_of_week


def minutes(zone: str, times_ms: list[int]) -> list[int]:
    return minute_of_week(torch.tensor(times_ms), *clock_changes(zone)).tolist()


@pytest.mark.parametrize(
    "zone",
    ["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Africa/Casablanca", "Asia/Kathmandu"],
)
def test_the_minute_of_the_week_is_that_of_the_zones_own_calendar(zone: str) -> None:
    times = np.random.default_rng(0).integers(3 * 365 * 86_400_000, 4_102_444_800_000, 500).tolist()
    when = [datetime.fromtimestamp(time // 1000, ZoneInfo(zone)) for time in times]
    assert minutes(zone, times) == [one.weekday() * 1440 + one.hour * 60 + one.minute for one in when]


def test_a_job_at_six_stays_at_six_when_the_clocks_are_changed() -> None:
    before, after = (
        int(datetime(2026, 3, day, 6, tzinfo=ZoneInfo("Europe/Berlin")).timestamp()) * 1000 for day in (27, 30)
    )
    assert (after - before) // 60_000 == 3 * 1440 - 60
    assert minutes("Europe/Berlin", [before, after]) == [4 * 1440 + 360, 360]


def test_the_hour_changes_at_the_very_minute_at_which_it_does_on_the_wall() -> None:
    change = int(datetime(2026, 10, 25, 1, tzinfo=UTC).timestamp()) * 1000  # 03:00 becomes 02:00 in Berlin
    sunday = 6 * 1440
    assert minutes("Europe/Berlin", [change - 1, change, change + 60_000]) == [sunday + 179, sunday + 120, sunday + 121]


def test_utc_has_no_changes() -> None:
    changes, offsets = clock_changes("UTC")
    assert (changes.tolist(), offsets.tolist()) == ([], [0])


@pytest.mark.parametrize("name", ["Nowhere/City", "Europe", "../etc/passwd", "/etc/passwd", "", "a\0b"])
def test_a_name_that_is_no_time_zone_says_what_is_expected(name: str) -> None:
    with pytest.raises(UnknownTimeZone, match="is not known here, expected an IANA name such as Europe/Berlin"):
        clock_changes(name)
