"""Quiet times: of some streams, for a while, no one is notified, and the reason is said.

An anomaly that is quiet is in its incident all the same. An incident of which every open member is quiet is held back,
with the reason; an event of a member that is not quiet makes it an incident as any other.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from models.data.arrays import Doubles, Int64s
from models.data.patterns import Streams
from models.data.quiet_time import QuietTime
from service.input.calendar_file import Calendar


@dataclass(frozen=True, slots=True)
class CalendarTimes:
    """Some streams are quiet while an event of a calendar takes place.

    reason: None: the event's title. learn: whether the memory learns meanwhile.
    """

    streams: Streams
    calendar: Calendar
    reason: str | None = None
    learn: bool = False

    def reason_at(self, stream: str, time_ms: int) -> str | None:
        if stream not in self.streams:
            return None
        title = self.calendar.title_at(time_ms)
        return title if title is None else self.reason or title

    def last_ends(self, times_ms: Int64s) -> Doubles:
        """As QuietTime has them."""
        times, where = np.unique(times_ms, return_inverse=True)
        return np.array([self.calendar.last_end(time) for time in times.tolist()], np.float64)[where]


@dataclass(frozen=True, slots=True)
class QuietTimes:
    """All that are declared; the first that holds gives its reason."""

    times: Sequence[QuietTime | CalendarTimes] = ()

    def __call__(self, stream: str, time_ms: int) -> str | None:
        return next(filter(None, (one.reason_at(stream, time_ms) for one in self.times)), None)
