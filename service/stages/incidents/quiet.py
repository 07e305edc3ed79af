"""Quiet times: of some streams, for a while, no one is notified, and the reason is said.

An anomaly that is quiet is in its incident all the same. An incident of which every open member is quiet is held back,
with the reason; an event of a member that is not quiet makes it an incident as any other.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from re import Pattern

from models.data.cron import Cron
from service.input.calendar_file import Calendar
from service.stages.incidents.groups import any_of


@dataclass(frozen=True, slots=True)
class QuietTime:
    """Event time from from_ms to until_ms, and in it only what `cron` begins and lasts `lasts_ms`, if that is set.

    streams: patterns of their whole names. None: it has no beginning, or no end.
    """

    streams: Sequence[str]
    reason: str
    from_ms: int | None = None
    until_ms: int | None = None
    cron: Cron | None = None
    lasts_ms: int = 0
    _pattern: Pattern[str] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_pattern", any_of(self.streams))

    def reason_at(self, stream: str, time_ms: int) -> str | None:
        """None: it does not hold."""
        return self.reason if self.holds(stream, time_ms) else None

    def holds(self, stream: str, time_ms: int) -> bool:
        if self.from_ms is not None and time_ms < self.from_ms:
            return False
        if self.until_ms is not None and time_ms >= self.until_ms:
            return False
        if not self._pattern.fullmatch(stream):
            return False
        return self.cron is None or self.cron.began_within(time_ms, self.lasts_ms)


@dataclass(frozen=True, slots=True)
class CalendarTimes:
    """Some streams are quiet while an event of a calendar takes place.

    streams: patterns of their whole names. reason: None: the event's title.
    """

    streams: Sequence[str]
    calendar: Calendar
    reason: str | None = None
    _pattern: Pattern[str] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_pattern", any_of(self.streams))

    def reason_at(self, stream: str, time_ms: int) -> str | None:
        if not self._pattern.fullmatch(stream):
            return None
        title = self.calendar.title_at(time_ms)
        return title if title is None else self.reason or title


@dataclass(frozen=True, slots=True)
class QuietTimes:
    """All that are declared; the first that holds gives its reason."""

    times: Sequence[QuietTime | CalendarTimes] = ()

    def __call__(self, stream: str, time_ms: int) -> str | None:
        return next(filter(None, (one.reason_at(stream, time_ms) for one in self.times)), None)
