"""A reading's time as people write it, to milliseconds: numbers of a unit, text of a format, in a zone."""

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec
import numpy as np

from models.data.arrays import Doubles, Int64s
from models.data.number_clocks import CLOCKS, NumberClock, clock_of
from models.data.time_units import LATEST_S, MAX_TIMESTAMP_MS, TICKS, TimeUnit, date_in_digits, is_ticks, looks_like
from service.errors import RejectedReading
from service.input.formats import NO_TIME
from service.input.reasons import Reason
from service.input.time_formats import iso_layout_of, layout_of, microseconds_of
from service.input.wall_clock import WallClock, is_left_out

NUMBER = re.compile(r"\d{1,30}(\.\d{0,30})?", re.ASCII)
MOST_DIGITS = 18
LIKE_UTC = re.compile(r"(?<=\d)\s*(?:UTC|GMT)$")
ZONE_BEHIND = re.compile(r"(?<=[\dZ])\[[A-Za-z0-9_/+-]+\]$")  # an offset, as Java has it
WHOLE_SECONDS = ("seconds", "timeinseconds", "epochsecond", "sec")
NANOSECONDS = ("nanos", "nanoseconds", "offsetinnanos", "nano", "nanosec")
MOST_MICROSECONDS = 2**53
SAMPLED_YEARS = 2000, 2025  # in which a zone's names are looked up
BELIEVED_MS = 31_622_400_000  # a year: as far from its record's time may be what looks like another unit


class Moment(msgspec.Struct, frozen=True, gc=False):
    """A time that a format holds as a type of its own, since 1970: a datetime takes ten times as long to make."""

    microseconds: int = 0  # below 2 ** 53


class TimeRules(NamedTuple):
    """How times are written. setting: where it is set, for what is said of a time that cannot be read."""

    setting: str
    unit: TimeUnit = TimeUnit.MS  # of numbers
    format: str | None = None  # of text, as strptime has it; None: ISO 8601; or one of CLOCKS, of numbers
    zone: str | None = None  # of text without an offset; None: refused


def zone(name: str) -> ZoneInfo:
    """Raises ValueError, which says what was expected."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ValueError("a time zone such as Europe/Berlin or UTC, which this machine's database has") from error


def time_reader(rules: TimeRules) -> Callable[[Any, int | None], int]:
    """What makes milliseconds of a time and of its record's own; it raises RejectedReading."""
    tz = zone(rules.zone) if rules.zone else None
    if rules.format in CLOCKS:
        return _clock_reader(rules, CLOCKS[rules.format], tz)
    of_number = _number_reader(rules)
    of_text = _formatted(rules, tz) if rules.format else _iso(rules, tz)
    in_digits = _is_of_digits(rules.format)

    def read(time: Any, record_ms: int | None) -> int:
        kind = type(time)
        if kind is list or kind is dict:
            time = _as_one(time)
            kind = type(time)
        if kind is int and in_digits:
            return of_text(str(time))
        if kind is int or kind is float:
            return of_number(time, record_ms)
        if kind is str:
            if rules.format is None and "-" not in time and NUMBER.fullmatch(time):
                return of_number(float(time) if "." in time else int(time), record_ms)
            return of_text(time)
        if isinstance(time, datetime):
            return _of_datetime(time, tz, rules)
        raise RejectedReading(Reason.BAD_TIMESTAMP, f"timestamp is {_shown(time)}, expected a number or text")

    return read


def _as_one(parts: Any) -> Any:
    """A time that is an array or an object of its parts, as text or a datetime; as it is where it is neither."""
    if isinstance(parts, list) and 5 <= len(parts) <= 7 and all(type(part) is int for part in parts):
        # Year, month, day, hour, minute, second and nanosecond, as Java's libraries write them; the last may lack.
        with suppress(ValueError, OverflowError):
            moment = datetime(*parts[:6])  # noqa: DTZ001
            return (moment + timedelta(microseconds=parts[6] // 1000 if len(parts) == 7 else 0)).isoformat()
    return _of_object(parts) if isinstance(parts, dict) else parts


def _of_object(found: Mapping[str, Any]) -> Any:
    """Of seconds and nanoseconds, or of MongoDB's `$date`, which is milliseconds or text."""
    date = found.get("$date")
    if isinstance(date, dict) and str(date.get("$numberLong", "")).isdecimal():
        date = int(date["$numberLong"])
    if type(date) is int and 0 <= date <= MAX_TIMESTAMP_MS:
        return EPOCH + timedelta(milliseconds=date)
    parts = {str(name).strip("_").lower(): one for name, one in found.items()}
    seconds = next((parts[name] for name in WHOLE_SECONDS if name in parts), None)
    nanos = next((parts[name] for name in NANOSECONDS if name in parts), 0)
    if type(seconds) is int and type(nanos) is int and 0 <= seconds < LATEST_S and 0 <= nanos < 10**9:
        return EPOCH + timedelta(seconds=seconds, microseconds=nanos // 1000)
    return date if isinstance(date, str) else found


def time_column(rules: TimeRules) -> Callable[[Sequence[Any]], Int64s]:
    """What makes milliseconds of N times, (N,), to the bit as time_reader() does.

    NO_TIME where that would refuse a time, or must know its record's own.
    """
    tz = zone(rules.zone) if rules.zone else None
    read = time_reader(rules)
    clock = WallClock(tz) if tz is not None else None
    layout = layout_of(rules.format) if rules.format else None
    in_digits = _is_of_digits(rules.format)

    def one_by_one(times: Sequence[Any]) -> Int64s:
        return np.array([_or_no_time(read, time) for time in times], np.int64)

    def of_text(times: Sequence[str]) -> Int64s:
        """Raises ValueError where they are not all written in one way."""
        if rules.format is not None:
            if layout is None or clock is None:
                raise ValueError("a format of its own, or of times with an offset")
            return _of_microseconds(clock.utc(microseconds_of(times, layout)))
        if "-" not in times[0]:
            return _of_numbers(_whole_numbers(times), rules.unit)
        iso = iso_layout_of(times[0])
        if iso is not None and (iso.offset or clock is not None):
            with suppress(ValueError):
                found = microseconds_of(times, iso)
                return _of_microseconds(found if iso.offset or clock is None else clock.utc(found))
        if not all("-" in time for time in times):
            raise ValueError("dates and numbers")
        return _of_datetimes(list(map(datetime.fromisoformat, times)), clock)

    def of_kind(kind: type, times: Sequence[Any]) -> Int64s:
        try:
            if kind is int and not in_digits:
                return _of_numbers(np.array(times, np.int64), rules.unit)
            if kind is float:
                return _of_numbers(np.array(times, np.float64), rules.unit)
            if kind is str or kind is int:
                return of_text(times if kind is str else list(map(str, times)))
            if kind is datetime:
                return _of_datetimes(times, clock or WallClock(UTC))
            if kind is Moment:
                return _of_microseconds(np.array([time.microseconds for time in times], np.int64))
        except (ValueError, OverflowError):
            pass
        return one_by_one(times)

    def column(times: Sequence[Any]) -> Int64s:
        if rules.format in CLOCKS:
            return one_by_one(times)
        kinds = set(map(type, times))
        if len(kinds) == 1:
            return of_kind(kinds.pop(), times)
        found = np.full(len(times), NO_TIME)
        for kind in kinds:
            where = [n for n, time in enumerate(times) if type(time) is kind]
            found[where] = of_kind(kind, [times[n] for n in where])
        return found

    return column


def _is_of_digits(form: str | None) -> bool:
    """Whether a whole number may be a time that is written so, such as 20260105235900."""
    return form is not None and re.fullmatch("(%[YmdHMSyj])+", form) is not None


def _or_no_time(read: Callable[[Any, int | None], int], time: Any) -> int:
    try:
        return read(time, None)
    except RejectedReading:
        return NO_TIME


def _of_numbers(numbers: Int64s | Doubles, unit: TimeUnit) -> Int64s:
    first, end = unit.window
    usual = (numbers >= first) & (numbers < end)
    if unit is TimeUnit.NS:
        usual &= ~((numbers >= TICKS[0]) & (numbers < TICKS[1]))
    if numbers.dtype.kind == "i":
        per_ms = unit.per_second // 1000
        times = np.where(usual, numbers, 0) // per_ms if per_ms else np.where(usual, numbers, 0) * 1000
    else:
        times = np.rint(np.where(usual, numbers, 0.0) * 1000 / unit.per_second).astype(np.int64)
    return np.where(usual, times, NO_TIME)


def _whole_numbers(texts: Sequence[str]) -> Int64s:
    """Of digits alone. Raises ValueError where there is anything else, or a number is too large."""
    joined = "".join(texts)
    if not (joined.isascii() and joined.isdigit()) or max(map(len, texts)) > MOST_DIGITS or "" in texts:
        raise ValueError("no digits, or more of them")
    return np.array(list(map(int, texts)), np.int64)


def _of_datetimes(moments: Sequence[datetime], clock: WallClock | None) -> Int64s:
    """Raises ValueError of one without an offset where there is no clock, or where some have one and some do not."""
    with_offset = {moment.tzinfo is not None for moment in moments}
    if with_offset == {False}:
        if clock is None:
            raise ValueError("a time without an offset")
        return _of_microseconds(clock.utc(np.array(moments, "datetime64[us]").astype(np.int64)))
    if with_offset == {True, False}:
        raise ValueError("times with and without an offset")
    times = np.rint(np.array(list(map(datetime.timestamp, moments))) * 1000)
    return np.where((times >= 0) & (times <= MAX_TIMESTAMP_MS), times, NO_TIME).astype(np.int64)


def _of_microseconds(moments: Int64s) -> Int64s:
    """Of those that a double holds exactly, as datetimes are rounded to milliseconds."""
    times = np.rint(moments / 1e6 * 1000)
    good = (moments >= 0) & (moments < MOST_MICROSECONDS) & (times <= MAX_TIMESTAMP_MS)
    return np.where(good, times, NO_TIME).astype(np.int64)


def _clock_reader(rules: TimeRules, clock: NumberClock, tz: ZoneInfo | None) -> Callable[[Any, int | None], int]:
    """Of the numbers of another program's clock, in text too."""

    def read(time: Any, _record_ms: int | None) -> int:
        number = time
        if type(time) is str and NUMBER.fullmatch(time.strip()):
            number = float(time) if "." in time else int(time)
        if type(number) in (int, float) and abs(number) < 2**63:
            time_ms = clock.milliseconds(number)
            if 0 <= time_ms <= MAX_TIMESTAMP_MS:
                wall = EPOCH.replace(tzinfo=None) + timedelta(milliseconds=time_ms)
                return _of_datetime(wall, tz, rules, str(time)) if clock.on_the_wall and tz is not None else time_ms
        raise RejectedReading(
            Reason.BAD_TIMESTAMP,
            f"timestamp {_shown(time)}, expected {clock.word} ({rules.setting}.time_format: {rules.format})",
        )

    return read


def _number_reader(rules: TimeRules) -> Callable[[float, int | None], int]:
    unit, per_second = rules.unit, rules.unit.per_second
    usual_from, usual_to = unit.window
    per_ms = per_second // 1000

    def read(number: float, record_ms: int | None) -> int:
        if not usual_from <= number < usual_to or is_ticks(number):
            _check_unusual(number, record_ms, rules)
        if isinstance(number, int):
            return number // per_ms if per_ms else number * 1000
        return round(number * 1000 / per_second)

    return read


def _check_unusual(number: float, record_ms: int | None, rules: TimeRules) -> None:
    """Refuse what is no time between 1970 and 9999, and what looks like a time in another unit."""
    if not abs(number) <= 2**63:  # nor is NaN
        raise RejectedReading(Reason.BAD_TIMESTAMP, f"timestamp {_shown(number)}, expected one from 1970 to 9999")
    time_ms = number * 1000 / rules.unit.per_second
    likely = looks_like(number)
    if likely is not None and not _agree(time_ms, record_ms):
        raise RejectedReading(
            Reason.BAD_TIMESTAMP,
            f"timestamp {number} looks like {likely.word}, expected {rules.unit.word}: "
            f"{rules.setting}.time_unit: {likely.value} reads it",
        )
    form = date_in_digits(number)
    if form is not None and not _agree(time_ms, record_ms):
        raise RejectedReading(
            Reason.BAD_TIMESTAMP,
            f"timestamp {number} looks like a date in digits, expected {rules.unit.word}: "
            f'{rules.setting}.time_format: "{form}" reads it',
        )
    name = clock_of(number)
    if name is not None and _is_by_clock(number, CLOCKS[name], time_ms, record_ms):
        raise RejectedReading(
            Reason.BAD_TIMESTAMP,
            f"timestamp {number} looks like {CLOCKS[name].word}, expected {rules.unit.word}: "
            f"{rules.setting}.time_format: {name} reads it",
        )
    if not 0 <= time_ms <= MAX_TIMESTAMP_MS:
        raise RejectedReading(
            Reason.BAD_TIMESTAMP, f"timestamp {number} in {rules.unit.word}, expected one from 1970 to 9999"
        )


def _is_by_clock(number: float, clock: NumberClock, time_ms: float, record_ms: int | None) -> bool:
    """Whether it can be no other time, or its record's own says that it is by the clock.

    A small number without a record's time may be by a clock that begins at zero.
    """
    by_clock = not _agree(time_ms, record_ms) and _agree(clock.milliseconds(number), record_ms)
    return by_clock or is_ticks(number) or time_ms > MAX_TIMESTAMP_MS


def _agree(time_ms: float, record_ms: int | None) -> bool:
    return record_ms is not None and abs(time_ms - record_ms) <= BELIEVED_MS


def _iso(rules: TimeRules, tz: ZoneInfo | None) -> Callable[[str], int]:
    def read(text: str) -> int:
        try:
            found = datetime.fromisoformat(ZONE_BEHIND.sub("", LIKE_UTC.sub("Z", text.strip())))
        except ValueError:
            raise RejectedReading(
                Reason.BAD_TIMESTAMP,
                f"timestamp {_shown(text)} is not ISO 8601: {rules.setting}.time_format names its format, "
                'such as "%d.%m.%Y %H:%M:%S"',
            ) from None
        return _of_datetime(found, tz, rules, text)

    return read


def _formatted(rules: TimeRules, tz: ZoneInfo | None) -> Callable[[str], int]:
    form = rules.format or ""
    named = _with_zone_names(form, tz) if tz is not None and "%Z" in form else {"": form}

    def parsed(text: str) -> datetime | None:
        for name, one in named.items():
            with suppress(ValueError):
                if name in text:
                    found = datetime.strptime(text, one)  # noqa: DTZ007
                    return _of_name(found, tz, name) if name and tz is not None else found
        return None

    def read(text: str) -> int:
        found = parsed(text.strip())
        if found is None:
            raise RejectedReading(
                Reason.BAD_TIMESTAMP,
                f"timestamp {_shown(text)}, expected the format {form} ({rules.setting}.time_format)",
            )
        return _of_datetime(found, tz, rules, text)

    return read


def _with_zone_names(form: str, tz: ZoneInfo) -> dict[str, str]:
    """By each name that a zone's time has in a year: the format with it in the place of `%Z`.

    strptime itself takes the names of the machine's own zone there, and says nothing of which it was.
    """
    names = {datetime(year, month, 1, tzinfo=tz).tzname() or "" for year in SAMPLED_YEARS for month in range(1, 13)}
    return {name: form.replace("%Z", name) for name in sorted(names | ({"GMT"} if "UTC" in names else set()))}


def _of_name(wall: datetime, tz: ZoneInfo, name: str) -> datetime | None:
    """The time that the zone calls so, where its clock shows that twice the one that is meant; None: it does not."""
    if name == "GMT" and tz.key == "UTC":
        return wall
    both = (wall.replace(fold=fold) for fold in (0, 1))
    return next((one for one in both if one.replace(tzinfo=tz).tzname() == name), None)


def _of_datetime(time: datetime, tz: ZoneInfo | None, rules: TimeRules, text: str | None = None) -> int:
    """Of one without an offset, in the zone; what a format holds as a type of its own is in UTC where none is set."""
    if time.tzinfo is None:
        if tz is None and text is not None:
            raise RejectedReading(
                Reason.BAD_TIMESTAMP,
                f"timestamp {_shown(text)} has no offset from UTC: {rules.setting}.time_zone names its zone, "
                "such as UTC or Europe/Berlin",
            )
        if tz is not None and is_left_out(time, tz):
            raise RejectedReading(
                Reason.BAD_TIMESTAMP,
                f"timestamp {_shown(text or str(time))} is in the hour that the clocks of {tz.key} leave out, expected "
                f"a time that there is: {rules.setting}.time_zone names another zone",
            )
        time = time.replace(tzinfo=tz or UTC)
    time_ms = round((time - EPOCH).total_seconds() * 1000)
    if not 0 <= time_ms <= MAX_TIMESTAMP_MS:
        raise RejectedReading(Reason.BAD_TIMESTAMP, f"timestamp {time.isoformat()}, expected one from 1970 to 9999")
    return time_ms


EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def _shown(found: Any) -> str:
    text = repr(found)
    return text if len(text) <= 60 else text[:59] + "…"
