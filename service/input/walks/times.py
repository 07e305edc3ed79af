"""Times in text of one layout to microseconds, compiled. What they mean is in service.input.time_formats."""

from models.data.arrays import Bytes, Int64s
from models.detection.compiling import compiled, kept
from service.input.walks.layouts import DAY, FRACTION, HOUR, MINUTE, MONTH, OFFSET, REST, SECOND, SIGN, YEAR

MICROSECONDS = 6  # digits of a fraction that count
MOST_DIGITS = 9  # that it may have
DAY_US, HOUR_US, MINUTE_US, SECOND_US = 86_400_000_000, 3_600_000_000, 60_000_000, 1_000_000
FIRST_YEAR = 1970


@kept
def walk(data: Bytes, begins: Int64s, ends: Int64s, layout: Int64s, parts: Int64s, found: Int64s) -> bool:
    """Whether all N texts data[begins[n]:ends[n]] are times of a layout: then found, (N,), are microseconds since 1970.

    layout: (P, 3) which part, of how many digits, or which sign. parts: (7,) for the numbers of one.
    """
    for n in range(len(begins)):
        at, end, offset_us = begins[n], ends[n], 0
        parts[:] = 0
        for p in range(len(layout)):
            part = layout[p, 0]
            if part == SIGN:
                at = at + 1 if at < end and data[at] == layout[p, 2] else -1
            elif part == REST:
                parts[FRACTION], at = _rest(data, at, end)
            elif part == OFFSET:
                offset_us, at = _offset(data, at, end)
            else:
                parts[part], at = _digits(data, at, end, layout[p, 1])
            if at < 0:
                return False
        days = _days(parts[YEAR], parts[MONTH], parts[DAY])
        if at != end or days < 0 or parts[HOUR] > 23 or parts[MINUTE] > 59 or parts[SECOND] > 59:
            return False
        clock_us = parts[HOUR] * HOUR_US + parts[MINUTE] * MINUTE_US + parts[SECOND] * SECOND_US
        found[n] = days * DAY_US + clock_us + parts[FRACTION] - offset_us
    return True


@compiled
def _digits(data: Bytes, at: int, end: int, size: int) -> tuple[int, int]:
    """The number of that many digits, and the place behind it; -1 where they are not there, as below."""
    number = 0
    if size > end - at:
        return number, -1
    for place in range(at, at + size):
        if data[place] < ord("0") or data[place] > ord("9"):
            return number, -1
        number = number * 10 + (int(data[place]) - ord("0"))
    return number, at + size


@compiled
def _rest(data: Bytes, at: int, end: int) -> tuple[int, int]:
    """The microseconds behind a point, if there is one; what is less is cut off."""
    if at == end or data[at] != ord("."):
        return 0, at
    at += 1
    number, digits = 0, 0
    while at < end and ord("0") <= data[at] <= ord("9"):
        if digits < MICROSECONDS:
            number = number * 10 + (int(data[at]) - ord("0"))
        digits += 1
        at += 1
    for _ in range(digits, MICROSECONDS):
        number *= 10
    return number, at if 0 < digits <= MOST_DIGITS else -1


@compiled
def _offset(data: Bytes, at: int, end: int) -> tuple[int, int]:
    """From UTC in microseconds: that of Z, or of a sign with hours and minutes."""
    if at < end and data[at] == ord("Z"):
        return 0, at + 1
    if end - at != 6 or data[at + 3] != ord(":") or (data[at] != ord("+") and data[at] != ord("-")):
        return 0, -1
    hours, behind = _digits(data, at + 1, end, 2)
    minutes, last = _digits(data, at + 4, end, 2)
    if behind < 0 or hours > 23 or minutes > 59:
        last = -1
    offset_us = hours * HOUR_US + minutes * MINUTE_US
    return -offset_us if data[at] == ord("-") else offset_us, last


@compiled
def _days(year: int, month: int, day: int) -> int:
    """Since 1970 of a date of the Gregorian calendar; -1 where there is none. Years are taken to begin in March."""
    leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    if year < FIRST_YEAR or month < 1 or month > 12 or day < 1:
        return -1
    length = 31 if month in (1, 3, 5, 7, 8, 10, 12) else 30 if month != 2 else 29 if leap else 28
    if day > length:
        return -1
    months, years = (month + 9) % 12, year - (1 if month <= 2 else 0)
    return 365 * years + years // 4 - years // 100 + years // 400 + (153 * months + 2) // 5 + day - 1 - 719_468
