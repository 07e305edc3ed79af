"""Times of many readings at once: what each is by itself, to the millisecond, or it is left."""

import math
import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from random import Random
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.data.number_clocks import CLOCKS
from models.data.time_units import TimeUnit
from service.errors import RejectedReading
from service.input.formats import NO_TIME
from service.input.times import Moment, TimeRules, time_column, time_reader

FORMATS = ("%d.%m.%Y %H:%M", "%Y%m%d%H%M%S", "%m/%d/%Y %H:%M:%S.%f", "%Y-%m-%dT%H:%M", "%d.%m.%Y", "%H:%M %Y-%d-%m")
OTHERS = (
    "%d %b %Y",
    "%Y-%m-%d %I:%M %p",
    "%Y-%m-%dT%H:%M:%S%z",
    "%y%m%d",
    "%Y-%j",
    "%d.%m.%Y %%",
    "%Y-%m-%d\t%H",
    "%H:%M",
)
ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata", "Africa/Monrovia", None)
ISO = ("%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S.%f", "%Y-%m-%dT%H:%M:%S+02:00")
at = partial(datetime, tzinfo=UTC)  # of which the digits alone are written
# Hours in which clocks are put forward or back, and the ends of days, months and years.
EDGES = (
    *(
        at(2026, 3, 29, 1, 59),
        at(2026, 10, 25, 2, 30),
        at(2026, 3, 8, 2, 10),
        at(2026, 11, 1, 1),
    ),
    *(at(2026, 4, 5, 1, 45), at(2026, 10, 4, 2, 15), at(1972, 1, 7, 0, 20), at(2024, 2, 29)),
    *(at(1970, 1, 1), at(9999, 12, 31, 23), at(2255, 6, 5, 23, 47), at(2099, 12, 31, 23, 59)),
)


def compared(rules: TimeRules, times: Sequence[Any]) -> int:
    """How many were read all at once; the others are left. Fails where one is another time than by itself."""
    found = time_column(rules)(times).tolist()
    for time, one in zip(times, found, strict=True):
        try:
            expected = time_reader(rules)(time, None)
        except RejectedReading:
            expected = NO_TIME
        assert one in (expected, NO_TIME), time
    return sum(one != NO_TIME for one in found)


def moments(rng: Random) -> list[datetime]:
    near = [edge + timedelta(seconds=rng.uniform(-5_000, 5_000)) for edge in EDGES[:8] for _ in range(5)]
    far = [at(1970, 1, 1) + timedelta(seconds=rng.uniform(0, 9e9)) for _ in range(20)]
    return [*near, *far, *EDGES]


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("written", [*FORMATS, *OTHERS, *ISO])
def test_text_is_the_time_that_it_is_by_itself(written: str, zone: str | None) -> None:
    texts = [moment.strftime(written) for moment in moments(Random(written))]
    rules = TimeRules("input.topics.plant", TimeUnit.MS, None if written in ISO else written, zone)
    read = compared(rules, texts)
    assert read or zone is None or written == "%H:%M"  # of 1900
    for odd in (" 2026-01-05", "", "20260105", "x", texts[0][:-1], texts[0] + "0", "٢" + texts[0][1:], texts[0] + " "):
        compared(rules, [odd, *texts[:9]])
        compared(rules, [*texts[:9], odd])


@given(
    st.lists(
        st.from_regex(
            r"[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,10})?(Z|[+-][0-9]{2}:[0-9]{2})?",
            fullmatch=True,
        ),
        min_size=1,
    )
)
def test_digits_that_are_no_time_are_none(texts: list[str]) -> None:
    for zone in ("Europe/Berlin", None):
        compared(TimeRules("input.topics.plant", TimeUnit.MS, None, zone), texts)
        for text in texts:
            compared(TimeRules("input.topics.plant", TimeUnit.MS, None, zone), [text] * 3)


@pytest.mark.parametrize("form", ["%Y%m%d%H%M%S", "%Y%m%d", "%y%m%d", "%Y%j"])
def test_dates_in_digits_are_read_by_their_format_as_numbers_and_as_text(form: str) -> None:
    texts = [moment.strftime(form) for moment in moments(Random(form)) if 2010 <= moment.year < 2040]
    rules = TimeRules("input.topics.plant", TimeUnit.MS, form, "UTC")
    numbers = [int(text) for text in texts]
    assert [time_reader(rules)(one, None) for one in numbers] == [time_reader(rules)(one, None) for one in texts]
    assert compared(rules, numbers) == compared(rules, texts) == len(texts)
    for text in texts if form.startswith("%Y") else ():
        with pytest.raises(RejectedReading, match=rf'looks like a date in digits, .*\.time_format: "{form}" reads it'):
            time_reader(TimeRules("input.topics.plant"))(int(text), None)


def test_fractions_of_each_length_and_offsets_of_each_form_are_read_side_by_side() -> None:
    rng = Random(7)
    for offsets in (("Z", "+02:00", "-11:30", "+00:00", "+23:59"), ("",)):
        texts = [
            f"{moment:%Y-%m-%dT%H:%M:%S}{rng.choice(('', '.' + str(rng.randrange(1, 10**9))))}{rng.choice(offsets)}"
            for moment in moments(rng)
            if 1971 <= moment.year < 2200
        ]
        rules = TimeRules("input.topics.plant", zone=None if offsets[0] else "Europe/Berlin")
        left_out = [one for one in texts if "2026-03-29T02:00" <= one < "2026-03-29T03:00" and not offsets[0]]
        assert compared(rules, texts) == len(texts) - len(left_out)
        for odd in (".", ".1234567890", ",5", "+02", "+0200", "+24:00", "+02:60", "z", " Z"):
            compared(rules, [*texts[:9], texts[0][:19] + odd])


@pytest.mark.parametrize(
    ("zone", "gap", "before", "behind"),
    [
        ("Europe/Berlin", "2026-03-29T02:30:00", "2026-03-29T01:59:59", "2026-03-29T03:00:00"),
        ("Australia/Lord_Howe", "2026-10-04T02:15:00", "2026-10-04T01:59:59", "2026-10-04T02:30:00"),
        ("Pacific/Apia", "2011-12-30T12:00:00", "2011-12-29T23:59:59", "2011-12-31T00:00:00"),
    ],
)
@pytest.mark.parametrize("written", [None, "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%X"])
def test_a_time_that_a_clock_leaves_out_is_refused_and_those_around_it_are_a_second_apart(
    zone: str, gap: str, before: str, behind: str, written: str | None
) -> None:
    rules = TimeRules("input.topics.plant", TimeUnit.MS, written, zone)
    with pytest.raises(RejectedReading, match=f"in the hour that the clocks of {zone} leave out.*time_zone names"):
        time_reader(rules)(gap, None)
    read = time_reader(rules)
    assert read(behind, None) - read(before, None) == 1000
    compared(rules, [before, gap, behind])
    assert time_column(rules)([before, gap, behind]).tolist()[1] == NO_TIME


ZEROS = {
    "days": (at(1970, 1, 1), timedelta(days=1)),
    "hours": (at(1970, 1, 1), timedelta(hours=1)),
    "minutes": (at(1970, 1, 1), timedelta(minutes=1)),
    "excel": (at(1899, 12, 30), timedelta(days=1)),
    "matlab": (at(1, 1, 1), timedelta(days=1)),
    "labview": (at(1904, 1, 1), timedelta(seconds=1)),
    "dotnet": (at(1, 1, 1), timedelta(0)),
    "filetime": (at(1601, 1, 1), timedelta(0)),
}


@pytest.mark.parametrize("name", CLOCKS)
@pytest.mark.parametrize("zone", ["Europe/Berlin", None])
def test_a_number_by_the_clock_of_another_program_is_its_time(name: str, zone: str | None) -> None:
    moment = at(2026, 1, 5, 6, 30, 1)
    zero, one = ZEROS[name]
    since = (moment - zero) // timedelta(microseconds=1)
    number = since * 10 if name in ("dotnet", "filetime") else since / 1e6 / one.total_seconds()
    number += 367 if name == "matlab" else 0  # whose day 1 is the first of the year 0, a leap year
    rules = TimeRules("input.topics.plant", format=name, zone=zone)
    local = ZoneInfo(zone) if zone is not None and CLOCKS[name].on_the_wall else UTC
    expected = round(moment.replace(tzinfo=local).timestamp() * 1000)
    assert abs(time_reader(rules)(number, None) - expected) <= (1 if name in ("days", "excel", "matlab") else 0)
    assert time_reader(rules)(str(number), None) == time_reader(rules)(number, None)
    assert compared(rules, [number, str(number)] * 9) == 18
    for odd in ("x", True, math.inf, math.nan, -(2**70), 2**70, "2026-01-05"):
        with pytest.raises(RejectedReading, match=f"expected {re.escape(CLOCKS[name].word)} .*time_format: {name}"):
            time_reader(rules)(odd, None)
    whole = int(number)
    hint = rf"looks like {re.escape(CLOCKS[name].word)}, .*time_format: {name} reads it"
    if name != "labview":
        with pytest.raises(RejectedReading, match=hint):
            time_reader(TimeRules("input.topics.plant"))(whole, expected)


@pytest.mark.parametrize(
    ("written", "zone", "milliseconds"),
    [
        ({"seconds": 1_767_571_200, "nanos": 500_400_000}, None, 500),
        ({"timeInSeconds": 1_767_571_200, "offsetInNanos": 0}, None, 0),
        ({"epochSecond": 1_767_571_200, "nano": 250_000_000}, "Europe/Berlin", 250),
        ({"sec": 1_767_571_200, "nanosec": 1_000_000}, None, 1),
        ({"_seconds": 1_767_571_200, "_nanoseconds": 0}, None, 0),
        ({"$date": "2026-01-05T00:00:00.5Z"}, None, 500),
        ({"$date": 1_767_571_200_001}, None, 1),
        ({"$date": {"$numberLong": "1767571200001"}}, None, 1),
        ([2026, 1, 5, 1, 0], "Europe/Berlin", 0),
        ([2026, 1, 5, 0, 0, 0, 500_000_000], "UTC", 500),
        ("2026-01-05 00:00:00 UTC", None, 0),
        ("2026-01-05T00:00:00.5GMT", None, 500),
        ("2026-01-05T01:00:00+01:00[Europe/Berlin]", None, 0),
    ],
)
def test_a_time_may_be_an_object_an_array_or_name_its_zone(written: Any, zone: str | None, milliseconds: int) -> None:
    rules = TimeRules("input.topics.plant", zone=zone)
    assert time_reader(rules)(written, None) == 1_767_571_200_000 + milliseconds
    compared(rules, [written] * 20)
    compared(rules, [written, "2026-01-05T00:00:00Z", 1_767_571_200_000])


@pytest.mark.parametrize(
    "odd",
    [
        *({}, {"seconds": "1"}, {"seconds": -1}, {"seconds": 1, "nanos": 10**9}, {"seconds": 10**12}, {"$date": None}),
        *({"$date": {"$numberLong": "x"}}, {"$date": -1}, {"$date": True}, [], [2026, 1, 5], [2026, 13, 5, 0, 0]),
        *(
            [2026, 1, 5, 0, "0"],
            [2026, 1, 5, 0, 0, 0, 0, 0],
            [1, 1, 1, 0, 0],
            [2026, 1, 5, 0, 0, 0, 10**30],
            [True] * 5,
        ),
        *("UTC", "[Europe/Berlin]", "2026-01-05T00:00:00[x", "2026 UTC GMT", "2026-01-05T00:00:00ZUTC"),
    ],
)
def test_an_object_or_an_array_that_is_no_time_is_refused(odd: Any) -> None:
    rules = TimeRules("input.topics.plant", zone="Europe/Berlin")
    with pytest.raises(RejectedReading):
        time_reader(rules)(odd, None)
    compared(rules, [odd] * 3)


def test_an_array_of_a_local_time_needs_a_zone() -> None:
    with pytest.raises(RejectedReading, match=r"has no offset from UTC: .*time_zone names its zone"):
        time_reader(TimeRules("input.topics.plant"))([2026, 1, 5, 1, 0], None)


def test_the_name_of_a_zone_says_which_of_two_times_is_meant() -> None:
    read = time_reader(TimeRules("input.topics.plant", format="%d.%m.%Y %H:%M %Z", zone="Europe/Berlin"))
    assert read("05.01.2026 01:00 CET", None) == 1_767_571_200_000
    both = [read(f"25.10.2026 02:30 {name}", None) for name in ("CEST", "CET")]
    assert both == [1_792_888_200_000, 1_792_891_800_000]
    for text in ("05.01.2026 01:00 CEST", "05.01.2026 01:00 EST", "05.01.2026 01:00 UTC"):
        with pytest.raises(RejectedReading, match="expected the format"):
            read(text, None)
    read = time_reader(TimeRules("input.topics.plant", format="%d.%m.%Y %H:%M %Z", zone="UTC"))
    assert {read(f"05.01.2026 00:00 {name}", None) for name in ("UTC", "GMT")} == {1_767_571_200_000}


@given(st.lists(st.from_regex(r"-?[0-9]{0,20}(\.[0-9]{0,3})?", fullmatch=True), min_size=1))
def test_digits_in_text_are_the_number_that_they_are_by_themselves(texts: list[str]) -> None:
    for unit in TimeUnit:
        compared(TimeRules("input.topics.plant", unit), texts)


@given(st.lists(st.integers(0, 2**53 - 1), min_size=1))
def test_a_moment_is_rounded_as_a_datetime_is(microseconds: list[int]) -> None:
    rules = TimeRules("input.topics.plant")
    found = time_column(rules)([Moment(one) for one in microseconds])
    epoch = datetime.fromisoformat("1970-01-01T00:00:00Z")
    expected = time_column(rules)([epoch + timedelta(microseconds=one) for one in microseconds])
    assert np.array_equal(found, expected)
