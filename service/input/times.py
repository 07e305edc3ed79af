"""A reading's time as people write it, to milliseconds: numbers of a unit, text of a format, in a zone."""

import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from models.data.time_units import MAX_TIMESTAMP_MS, TimeUnit, looks_like
from service.errors import RejectedReading
from service.input.reasons import Reason

NUMBER = re.compile(r"\d{1,30}(\.\d{0,30})?", re.ASCII)
BELIEVED_MS = 31_622_400_000  # a year: as far from its record's time may be what looks like another unit


class TimeRules(NamedTuple):
    """How times are written. setting: where it is set, for what is said of a time that cannot be read."""

    setting: str
    unit: TimeUnit = TimeUnit.MS  # of numbers
    format: str | None = None  # of text, as strptime has it; None: ISO 8601
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
    of_number = _number_reader(rules)
    of_text = _formatted(rules, tz) if rules.format else _iso(rules, tz)

    def read(time: Any, record_ms: int | None) -> int:
        kind = type(time)
        if kind is int or kind is float:
            return of_number(time, record_ms)
        if kind is str:
            if rules.format is None and "-" not in time and NUMBER.fullmatch(time):
                return of_number(float(time) if "." in time else int(time), record_ms)
            return of_text(time)
        if isinstance(time, datetime):
            return _of_datetime(time, tz)
        raise RejectedReading(Reason.BAD_TIMESTAMP, f"timestamp is {_shown(time)}, expected a number or text")

    return read


def _number_reader(rules: TimeRules) -> Callable[[float, int | None], int]:
    unit, per_second = rules.unit, rules.unit.per_second
    usual_from, usual_to = unit.window
    per_ms = per_second // 1000

    def read(number: float, record_ms: int | None) -> int:
        if not usual_from <= number < usual_to:
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
    if not 0 <= time_ms <= MAX_TIMESTAMP_MS:
        raise RejectedReading(
            Reason.BAD_TIMESTAMP, f"timestamp {number} in {rules.unit.word}, expected one from 1970 to 9999"
        )


def _agree(time_ms: float, record_ms: int | None) -> bool:
    return record_ms is not None and abs(time_ms - record_ms) <= BELIEVED_MS


def _iso(rules: TimeRules, tz: ZoneInfo | None) -> Callable[[str], int]:
    def read(text: str) -> int:
        try:
            return _of_datetime(datetime.fromisoformat(text.strip()), tz, text, rules)
        except ValueError:
            raise RejectedReading(
                Reason.BAD_TIMESTAMP,
                f"timestamp {_shown(text)} is not ISO 8601: {rules.setting}.time_format names its format, "
                'such as "%d.%m.%Y %H:%M:%S"',
            ) from None

    return read


def _formatted(rules: TimeRules, tz: ZoneInfo | None) -> Callable[[str], int]:
    def read(text: str) -> int:
        try:
            return _of_datetime(datetime.strptime(text.strip(), rules.format or ""), tz, text, rules)  # noqa: DTZ007
        except ValueError:
            raise RejectedReading(
                Reason.BAD_TIMESTAMP,
                f"timestamp {_shown(text)}, expected the format {rules.format} ({rules.setting}.time_format)",
            ) from None

    return read


def _of_datetime(time: datetime, tz: ZoneInfo | None, text: str = "", rules: TimeRules | None = None) -> int:
    """Of one without an offset, in the zone; what a format holds as a type of its own is in UTC where none is set."""
    if time.tzinfo is None:
        if tz is None and rules is not None:
            raise RejectedReading(
                Reason.BAD_TIMESTAMP,
                f"timestamp {_shown(text)} has no offset from UTC: {rules.setting}.time_zone names its zone, "
                "such as UTC or Europe/Berlin",
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
