"""Times that come again, written as five fields: minute, hour, day of the month, month, day of the week.

Each field is `*`, or numbers, ranges and steps with commas between (`1-5`, `*/15`, `8,12`); months and days of the week
have names too (`jan`, `mon`), and the week begins with Sunday: 0, or 7. If both kinds of day are given, either is
enough, as cron has it.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
NAMES = {name: n for n, name in enumerate(MONTHS, 1)}, {name: n for n, name in enumerate(WEEKDAYS)}


@dataclass(frozen=True, slots=True)
class Cron:
    """When something begins, in a time zone."""

    minutes: frozenset[int]
    hours: frozenset[int]
    days: frozenset[int] | None  # of the month; None: any
    months: frozenset[int]
    weekdays: frozenset[int] | None  # 0 is Sunday; None: any
    zone: ZoneInfo

    def began_within(self, time_ms: int, lasts_ms: int) -> bool:
        """Whether it began at this time or less than `lasts_ms` before it."""
        return self.last_began(time_ms, lasts_ms) is not None

    def last_began(self, time_ms: int, within_ms: int) -> int | None:
        """When it last began at this time or before it; None: not less than `within_ms` before it.

        A beginning in an hour that a clock leaves out in spring is as much later; one in an hour that a clock has
        twice in autumn is in the first.
        """
        now = datetime.fromtimestamp(time_ms / 1000, UTC)
        earliest = now - timedelta(milliseconds=within_ms)
        first, day = earliest.astimezone(self.zone).date(), now.astimezone(self.zone).date()
        latest: datetime | None = None
        while latest is None and day >= first:
            if self._is_day(day.month, day.day, day.isoweekday() % 7):
                for hour in self.hours:
                    for minute in self.minutes:
                        began = datetime(day.year, day.month, day.day, hour, minute, tzinfo=self.zone).astimezone(UTC)
                        if earliest < began <= now and (latest is None or began > latest):
                            latest = began
            day -= timedelta(days=1)
        return None if latest is None else round(latest.timestamp() * 1000)

    def _is_day(self, month: int, day: int, weekday: int) -> bool:
        if month not in self.months:
            return False
        if self.days is None or self.weekdays is None:
            return (self.days is None or day in self.days) and (self.weekdays is None or weekday in self.weekdays)
        return day in self.days or weekday in self.weekdays


def parse_cron(text: str, zone: ZoneInfo) -> Cron:
    """Raises ValueError that says what is wrong."""
    fields = text.lower().split()
    if len(fields) != 5:
        raise ValueError(f"{len(fields)} fields, expected 5: minute, hour, day, month, day of the week")
    minutes, hours, days, months, weekdays = fields
    return Cron(
        _numbers(minutes, 0, 59, {}),
        _numbers(hours, 0, 23, {}),
        None if days == "*" else _numbers(days, 1, 31, {}),
        _numbers(months, 1, 12, NAMES[0]),
        None if weekdays == "*" else frozenset(n % 7 for n in _numbers(weekdays, 0, 7, NAMES[1])),
        zone,
    )


def _numbers(field: str, lowest: int, highest: int, names: dict[str, int]) -> frozenset[int]:
    found: set[int] = set()
    for part in field.split(","):
        span, _, step = part.partition("/")
        first, dash, last = span.partition("-")
        begin = lowest if span == "*" else _number(first, lowest, highest, names)
        end = highest if span == "*" or (step and not dash) else begin
        if dash:
            end = _number(last, lowest, highest, names)
        if begin > end:
            raise ValueError(f"{part!r}, expected a range that rises")
        found.update(range(begin, end + 1, _number(step, 1, highest, {}) if step else 1))
    return frozenset(found)


def _number(text: str, lowest: int, highest: int, names: dict[str, int]) -> int:
    if text in names:
        return names[text]
    if not text.isascii() or not text.isdigit() or not lowest <= int(text) <= highest:
        raise ValueError(f"{text!r}, expected a number from {lowest} to {highest}")
    return int(text)
