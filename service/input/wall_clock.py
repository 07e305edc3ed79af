"""Times on the clock of a zone to UTC, many at once. Offsets are looked up an hour at a time."""

from datetime import datetime, timedelta, tzinfo

import numpy as np

from models.data.arrays import Int64s

HOUR = timedelta(hours=1)
HOUR_US = 3_600_000_000
EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001  (on the wall)
MOST_HOURS = 100_000  # that are remembered
CHANGES, LEFT_OUT = np.iinfo(np.int64).min, np.iinfo(np.int64).min + 1


def is_left_out(wall: datetime, tz: tzinfo) -> bool:
    """Whether the clock never shows it, as it was put forward past it. wall: without a zone."""
    # PEP 495: the first of both is the offset before the change.
    before, behind = (wall.replace(tzinfo=tz, fold=fold).utcoffset() or timedelta(0) for fold in (0, 1))
    return before < behind


class WallClock:
    """That of a zone. A time that it shows twice is the first one, as datetime has it where nothing says otherwise."""

    def __init__(self, tz: tzinfo) -> None:
        self._tz = tz
        self._offsets: dict[int, int] = {}  # of an hour since 1970 on the wall; CHANGES: it has several

    def utc(self, wall_us: Int64s) -> Int64s:
        """(N,) microseconds since 1970, of such on the wall; below 0 of one that the clock leaves out."""
        hours, which = np.unique(wall_us // HOUR_US, return_inverse=True)
        offsets = np.array([self._offset(hour) for hour in hours.tolist()], np.int64)[which]
        changing = offsets == CHANGES
        if changing.any():
            offsets[changing] = [self._exactly_at(us) for us in wall_us[changing].tolist()]
        return np.where(offsets == LEFT_OUT, -1, wall_us - offsets)

    def _exactly_at(self, wall_us: int) -> int:
        wall = EPOCH + timedelta(microseconds=wall_us)
        return LEFT_OUT if is_left_out(wall, self._tz) else self._at(wall)

    def _offset(self, hour: int) -> int:
        found = self._offsets.get(hour)
        if found is None:
            if len(self._offsets) >= MOST_HOURS:
                self._offsets.clear()
            begin = EPOCH + hour * HOUR
            found = self._at(begin)
            if self._at(begin + HOUR) != found or is_left_out(begin, self._tz):
                found = CHANGES
            self._offsets[hour] = found
        return found

    def _at(self, wall: datetime) -> int:
        """The offset from UTC in microseconds."""
        offset = wall.replace(tzinfo=self._tz).utcoffset() or timedelta(0)
        return offset // timedelta(microseconds=1)
