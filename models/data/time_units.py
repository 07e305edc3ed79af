"""The units in which people write times as numbers, and which of them a number looks like."""

import re
from datetime import datetime
from enum import StrEnum

MINUTE_MS = 60_000
DAY_MS = 86_400_000
MAX_TIMESTAMP_MS = 253_402_300_799_999  # the last millisecond of the year 9999
# Between these a number cannot be a time in two units: a second of 1980 to 2100 is a millisecond of January or February
# 1970, and a microsecond of then a millisecond of the year 11968 or later.
EARLIEST_S = 315_532_800  # 1980
LATEST_S = 4_102_444_800  # 2100
# Of .NET, which count 100 ns from the year 1: those of the same years.
TICKS = 621_355_968_000_000_000 + EARLIEST_S * 10_000_000, 621_355_968_000_000_000 + LATEST_S * 10_000_000

MOST_DIGITS = 10**14  # of a date in digits


class TimeUnit(StrEnum):
    """What one is, of the time since 1970."""

    MS = "ms"
    S = "s"
    US = "us"
    NS = "ns"

    @property
    def per_second(self) -> int:
        return {"ms": 10**3, "s": 1, "us": 10**6, "ns": 10**9}[self.value]

    @property
    def word(self) -> str:
        return {"ms": "milliseconds", "s": "seconds", "us": "microseconds", "ns": "nanoseconds"}[self.value]

    @property
    def window(self) -> tuple[int, int]:
        """The numbers that look like times in this unit: from, and to below. No number is in two of them."""
        return EARLIEST_S * self.per_second, LATEST_S * self.per_second


def looks_like(number: float) -> TimeUnit | None:
    """The unit in which a number is a time between 1980 and 2100, if there is one."""
    if is_ticks(number):
        return None
    for unit in TimeUnit:
        first, end = unit.window
        if first <= number < end:
            return unit
    return None


def is_ticks(number: float) -> bool:
    """Whether it is a time of today in ticks of .NET; in nanoseconds it would be one of 1990."""
    return TICKS[0] <= number < TICKS[1]


def flaw_of_clock(form: str, zone: str | None) -> str | None:
    """What is expected of a format, as strptime has it, by which the hour or the zone of a time would be lost."""
    codes = set(re.findall(r"%[-_^0#]?([A-Za-z])", form))
    if "p" in codes and "H" in codes:
        return "%I beside %p: %H takes the hour as one of 24, and 1 PM for 01:00"
    if "I" in codes and "p" not in codes:
        return "%p beside %I, or %H: %I alone does not say which half of the day it is"
    if "Z" in codes and zone is None:
        return "a zone beside %Z, which is a name that several zones have"
    return None


def date_in_digits(number: float) -> str | None:
    """The format of a date that is written as a number, such as 20260105 or 20260105235900, if it is one."""
    if not isinstance(number, int) or not 0 < number < MOST_DIGITS:
        return None
    form = {7: "%Y%j", 8: "%Y%m%d", 12: "%Y%m%d%H%M", 14: "%Y%m%d%H%M%S"}.get(len(str(number)))
    if form is None:
        return None
    try:
        year = datetime.strptime(str(number), form).year  # noqa: DTZ007  (the year alone matters)
    except ValueError:
        return None
    return form if 1980 <= year < 2100 else None
