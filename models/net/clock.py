"""The calendar of the people beside a plant: which minute of the week it is for them."""

from datetime import UTC, datetime, timedelta
from functools import cache
from zoneinfo import ZoneInfo

import torch
from torch import Tensor

MINUTE_MS = 60_000
WEEK_MINUTES = 7 * 24 * 60
EPOCH_WEEKDAY_MINUTES = 3 * 24 * 60  # 1970-01-01 was a Thursday; weeks begin on Monday
FIRST, LAST = datetime(1970, 1, 1, tzinfo=UTC), datetime(2101, 1, 1, tzinfo=UTC)  # beyond them no clock is changed
BETWEEN_LOOKS = timedelta(days=7)  # no zone has changed its clocks twice within a week
EXACT = timedelta(minutes=1)


class UnknownTimeZone(ValueError):
    """No time zone has this name."""


@cache
def clock_changes(zone: str) -> tuple[Tensor, Tensor]:
    """When a zone's clocks are changed, (K,) ms, and how far they are ahead of UTC before and after, (K + 1,) minutes.

    Between two changes the offset is constant, so that a reading's is found by a search among few numbers. Raises
    UnknownTimeZone.
    """
    known = _zone(zone)
    when, offset = FIRST, _offset(known, FIRST)
    changes, offsets = [], [offset]
    while when < LAST:
        after = when + BETWEEN_LOOKS
        if _offset(known, after) != offset:
            changed = _first_with_another(known, when, after)
            offset = _offset(known, after)
            changes.append(round(changed.timestamp()) * 1000)
            offsets.append(offset)
        when = after
    return torch.tensor(changes, dtype=torch.int64, device="cpu"), torch.tensor(offsets, device="cpu")


def minute_of_week(times_ms: Tensor, changes: Tensor, offsets: Tensor) -> Tensor:
    """Minutes since Monday 00:00 in the zone of these clock_changes(), of times of any shape; 0..WEEK_MINUTES - 1."""
    minutes = times_ms // MINUTE_MS + offsets[torch.searchsorted(changes, times_ms.contiguous(), right=True)]
    return (minutes + EPOCH_WEEKDAY_MINUTES) % WEEK_MINUTES


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError) as error:  # of an unknown name, of one that is no name, of a folder's
        raise UnknownTimeZone(
            f"time zone {name!r:.80} is not known here, expected an IANA name such as Europe/Berlin, or UTC"
        ) from error


def _offset(zone: ZoneInfo, when: datetime) -> int:
    """Minutes ahead of UTC; the seconds that some zones had before 1972 are dropped."""
    return (when.astimezone(zone).utcoffset() or timedelta()) // EXACT


def _first_with_another(zone: ZoneInfo, before: datetime, after: datetime) -> datetime:
    """The first minute at which the offset is not that of `before`; that of `after` is another."""
    offset = _offset(zone, before)
    while after - before > EXACT:
        middle = before + (after - before) // (2 * EXACT) * EXACT
        if _offset(zone, middle) == offset:
            before = middle
        else:
            after = middle
    return after
