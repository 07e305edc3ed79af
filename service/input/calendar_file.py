"""An iCalendar file (RFC 5545): its events, also those that come again."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from models.data.quiet_time import NEVER, NOW
from models.data.time_units import DAY_MS
from service.errors import RefusedInput, RefusedSetting

INSTALL = "pip install 'telltale[ical]'"
MOST_BYTES = 4 * 1024 * 1024
DAYS_KEPT = 1_000  # of which the occurrences are known
NO_TITLE = "quiet by the calendar"
MOST_DAYS = 10_000  # in the years below: more are no holidays
FIRST, LAST = date(1970, 1, 1), date(2101, 1, 1)


class _Occurrence(NamedTuple):
    begins_ms: int
    ends_ms: int
    title: str


class Calendar:
    """A file's events, as they take place."""

    def __init__(self, path: Path, zone: ZoneInfo, setting: str) -> None:
        """setting: whose file it is. Raises RefusedSetting without the library, RefusedInput if it cannot be read."""
        try:
            import recurring_ical_events  # noqa: PLC0415  (most have no calendar)
            from icalendar import Calendar as File  # noqa: PLC0415
        except ImportError:
            raise RefusedSetting(f"{setting}: expected the package recurring-ical-events as well: {INSTALL}") from None
        try:
            content = path.read_bytes()
            if len(content) > MOST_BYTES:
                raise ValueError(f"{len(content)} bytes, expected at most {MOST_BYTES}")
            file = File.from_ical(content)
            self._events: Any = recurring_ical_events.of(file, skip_bad_series=False)
            self._zone = ZoneInfo(str(file["X-WR-TIMEZONE"])) if "X-WR-TIMEZONE" in file else zone
            self._days: dict[int, list[_Occurrence]] = {}
            self._day(0)
        except (OSError, ValueError, TypeError, AttributeError, LookupError) as error:
            raise RefusedInput(f"{setting}: {path} cannot be read as iCalendar: {error}") from error

    def title_at(self, time_ms: int) -> str | None:
        """Of an event that takes place at this time; None: there is none."""
        return next((one.title for one in self._around(time_ms) if one.begins_ms <= time_ms < one.ends_ms), None)

    def last_end(self, time_ms: int) -> float:
        """When an event last ended before this time, if that is not long ago; NOW: one takes place."""
        begun = [one.ends_ms for one in self._around(time_ms) if one.begins_ms <= time_ms]
        last = max(begun, default=NEVER)
        return NOW if last > time_ms else float(last)

    def _around(self, time_ms: int) -> list[_Occurrence]:
        day = time_ms // DAY_MS
        if day not in self._days:
            if len(self._days) >= DAYS_KEPT:
                self._days.clear()
            self._days[day] = self._day(day)
        return self._days[day]

    def whole_days(self) -> list[int]:
        """Days from 1970 to 2100, since 1970, that an event without times of day takes place on, rising.

        One that is shown as free counts too: most calendars of holidays show them so. Raises ValueError where there are
        more than MOST_DAYS.
        """
        days: set[int] = set()
        for event in self._events.between(FIRST, LAST):
            if not _is_cancelled(event) and not isinstance(event.start, datetime):
                days.update(range((event.start - FIRST).days, (event.end - FIRST).days))
        if len(days) > MOST_DAYS:
            raise ValueError(f"{len(days):,} days, expected at most {MOST_DAYS:,} from 1970 to 2100")
        return sorted(days)

    def _day(self, day: int) -> list[_Occurrence]:
        """Those that take place on a day since 1970, in UTC: a day more on each side, since zones differ."""
        begins = datetime.fromtimestamp(day * DAY_MS // 1000, UTC)
        found = self._events.between(begins - timedelta(days=1), begins + timedelta(days=2))
        return sorted(self._occurrence(one) for one in found if _counts(one))

    def _occurrence(self, event: Any) -> _Occurrence:
        title = str(event.get("SUMMARY", "")).strip() or NO_TITLE
        return _Occurrence(self._ms(event.start), self._ms(event.end), title)

    def _ms(self, time: date | datetime) -> int:
        """A day begins at midnight."""
        moment = time if isinstance(time, datetime) else datetime(time.year, time.month, time.day)  # noqa: DTZ001
        return round(moment.replace(tzinfo=moment.tzinfo or self._zone).timestamp() * 1000)


def _counts(event: Any) -> bool:
    return not _is_cancelled(event) and str(event.get("TRANSP", "")).upper() != "TRANSPARENT"


def _is_cancelled(event: Any) -> bool:
    return str(event.get("STATUS", "")).upper() == "CANCELLED"
