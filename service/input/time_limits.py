"""Which readings' times are not to be believed beside their records', and what is said of them."""

from dataclasses import dataclass

import numpy as np

from models.data.arrays import Bools, Int64s
from models.data.number_clocks import CLOCKS
from models.data.rfc3339 import rfc3339
from models.data.time_units import DAY_MS, TimeUnit, looks_like
from service.input.flaws import Flaw, unit_hint
from service.input.reasons import Reason

SECONDS = TimeUnit.S.window
YEAR_MS = 366 * DAY_MS


@dataclass(frozen=True, slots=True)
class TimeLimits:
    """How far a reading may be ahead of its own record's timestamp, and behind it: see Decoder."""

    max_future_ms: int
    max_past_ms: int | None

    def far(self, times: Int64s, record_times: Int64s) -> Bools:
        """(N,) which readings' times are not to be believed beside their records'."""
        known = record_times >= 0
        far = known & (times - self.max_future_ms > record_times)
        if self.max_past_ms is None:
            return far
        first, end = SECONDS
        # A record's time that agrees is believed, also where both lie in 1970: the clock of a simulation begins there.
        early = np.where(known, times < record_times - self.max_past_ms, (times >= first) & (times < end))
        return far | early

    def why_far(self, time: int, record_time: int) -> Flaw:
        """What is said of a time that is not to be believed beside its record's."""
        if record_time >= 0 and time > record_time + self.max_future_ms:
            ahead = f"timestamp {time} is {(time - record_time) / 1000:.0f} s ahead of its record's"
            limit = f"expected at most {self.max_future_ms / 1000:.0f} s (limits.max_future_s)"
            labview = CLOCKS["labview"]
            if abs(time + labview.zero_ms - record_time) <= YEAR_MS:
                limit += f"; {labview.word}, are read by time_format: labview of its topic"
            return Reason.FUTURE_TIMESTAMP, f"{ahead}, {limit}"
        begin = unit_hint(time) if looks_like(time) == TimeUnit.S else f"timestamp {time}"
        if record_time < 0:
            where = "and its record has no time"
        else:
            where = (
                f"{(record_time - time) / 1000:.0f} s behind its record's, "
                f"expected at most {(self.max_past_ms or 0) / 1000:.0f} s (limits.max_past_s)"
            )
        return Reason.PAST_TIMESTAMP, f"{begin}; as milliseconds it is {rfc3339(time)}, {where}"
