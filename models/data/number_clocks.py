"""Clocks of other programs that write times as numbers: what one counts, from when, and which a number looks like."""

from datetime import UTC, datetime
from typing import NamedTuple

from models.data.time_units import DAY_MS, MINUTE_MS

MS_OF_TICK = 10_000  # ticks of 100 ns in a millisecond


class NumberClock(NamedTuple):
    """Counts `ms` milliseconds, or parts of one, from a zero on; zero_ms: that, since 1970."""

    word: str
    zero_ms: int
    ms: int = 1
    parts: int = 1  # of a millisecond
    on_the_wall: bool = False  # whether it shows the time of a zone, which only people know; else UTC

    def milliseconds(self, number: float) -> int:
        """Since 1970."""
        if isinstance(number, int):
            return number * self.ms // self.parts + self.zero_ms
        return round(number * self.ms / self.parts) + self.zero_ms


def _zero(year: int, month: int, day: int) -> int:
    return (datetime(year, month, day, tzinfo=UTC) - datetime(1970, 1, 1, tzinfo=UTC)).days * DAY_MS


CLOCKS = {
    "days": NumberClock("days since 1970", 0, DAY_MS),
    "hours": NumberClock("hours since 1970", 0, 60 * MINUTE_MS),
    "minutes": NumberClock("minutes since 1970", 0, MINUTE_MS),
    "excel": NumberClock("days since 1899-12-30, as Excel counts", _zero(1899, 12, 30), DAY_MS, on_the_wall=True),
    "matlab": NumberClock("days since the year 0, as MATLAB counts", -719_529 * DAY_MS, DAY_MS, on_the_wall=True),
    "labview": NumberClock("seconds since 1904, as LabVIEW counts", _zero(1904, 1, 1), 1000),
    "dotnet": NumberClock("ticks of .NET since the year 1", _zero(1, 1, 1), parts=MS_OF_TICK, on_the_wall=True),
    "filetime": NumberClock("ticks of Windows since 1601", _zero(1601, 1, 1), parts=MS_OF_TICK),
}
# Between these a number is a time by one of the clocks alone, and by LabVIEW's it may be one of 1970's seconds.
FIRST_MS, LAST_MS = _zero(2000, 1, 1), _zero(2040, 1, 1)
SECONDS_OF_1970 = LAST_MS // 1000  # of later ones, what looks like them is seconds since 1904


def clock_of(number: float) -> str | None:
    """The clock by which a number is a time of 2000 to 2040, if there is one."""
    for name, clock in CLOCKS.items():
        if abs(number) < 2**63 and FIRST_MS <= clock.milliseconds(number) < LAST_MS:
            return name if name != "labview" or number >= SECONDS_OF_1970 else None
    return None
