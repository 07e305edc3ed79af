"""A quiet time: of some streams, for a while, no one is notified, and, unless it says otherwise, nothing is learned."""

import math
from dataclasses import dataclass

import numpy as np

from models.data.arrays import Doubles, Int64s
from models.data.cron import Cron
from models.data.patterns import Streams
from models.data.time_units import DAY_MS, MINUTE_MS

NEVER, NOW = -math.inf, math.inf
"""When a time last ended: it has not been yet, or it holds now."""


@dataclass(frozen=True, slots=True)
class QuietTime:
    """Event time from from_ms to until_ms, and in it only what `cron` begins and lasts `lasts_ms`, if that is set.

    None: it has no beginning, or no end. learn: whether the memory learns meanwhile.
    """

    streams: Streams
    reason: str
    from_ms: int | None = None
    until_ms: int | None = None
    cron: Cron | None = None
    lasts_ms: int = 0
    learn: bool = False

    def reason_at(self, stream: str, time_ms: int) -> str | None:
        """None: it does not hold."""
        return self.reason if self.holds(stream, time_ms) else None

    def holds(self, stream: str, time_ms: int) -> bool:
        if self.from_ms is not None and time_ms < self.from_ms:
            return False
        if self.until_ms is not None and time_ms >= self.until_ms:
            return False
        if stream not in self.streams:
            return False
        return self.cron is None or self.cron.began_within(time_ms, self.lasts_ms)

    def last_ends(self, times_ms: Int64s) -> Doubles:
        """When it last ended before each of N times, (N,) ms; NOW where it holds then, NEVER where it has not been.

        Of what comes again, an end is known for a day.
        """
        until = NOW if self.until_ms is None else float(self.until_ms)
        begins = NEVER if self.from_ms is None else float(self.from_ms)
        ends = np.full(len(times_ms), until)
        if self.cron is not None:
            minutes, where = np.unique(
                np.minimum(times_ms, until - 1).astype(np.int64) // MINUTE_MS, return_inverse=True
            )
            ends = np.minimum(np.array([self._end_of(self.cron, minute) for minute in minutes.tolist()])[where], until)
        ends[times_ms < ends] = NOW
        ends[(times_ms < begins) | (ends <= begins)] = NEVER
        return ends

    def _end_of(self, cron: Cron, minute: int) -> float:
        """Of what began last, up to a minute since 1970."""
        began_ms = cron.last_began((minute + 1) * MINUTE_MS - 1, self.lasts_ms + DAY_MS)
        return NEVER if began_ms is None else float(began_ms + self.lasts_ms)
