"""Which alarms are open, read from the rows themselves: what is true of the memory, whatever was published of it."""

import heapq
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from torch import Tensor

from models.detection.alarm import OpenedBy, Severity
from models.detection.kinds import Guess
from models.detection.rows import SCALARS
from service.input.labels import Labels
from service.input.reading_batch import StreamKey
from service.state.slab import StateSlab

SEVERITIES = tuple(severity.name.lower() for severity in Severity)


class HeldAlarm(NamedTuple):
    """A stream's alarm as its row has it."""

    key: StreamKey
    opened_offset: int  # packed place of the reading at which it opened
    opened_ms: int
    severity: str  # by the rarest that was seen so far
    peak: float  # highest score since it opened
    opened_by: OpenedBy
    guess: Guess | None = None  # what fault it looked like so far; None: no head that could say
    labels: Labels | None = None  # of the stream, as its last reading had them; None: it has none


def open_alarms(slab: StateSlab) -> list[HeldAlarm]:
    """Those of all streams of a partition, in the order in which they opened. Costs little where few are open.

    Not in that of their slots: it is another one after a restart, and what is published of them must not be.
    """
    held = held_alarms(slab, (slab.rows.scalar("alarm") > 0).nonzero().squeeze(1))
    return sorted(held, key=lambda alarm: (alarm.opened_offset, alarm.key))


def held_alarms(slab: StateSlab, slots: Tensor) -> list[HeldAlarm]:
    """Those of the streams at `slots` (S,), which are open."""
    wanted = [SCALARS.places[name] for name in ("opened_offset", "opened_ms", "alarm", "peak", "opened_by")]
    votes = slab.rows.votes[slots].numpy()
    rows = zip(slots.tolist(), slab.rows.scalars[slots][:, wanted].tolist(), votes, strict=True)
    return [
        HeldAlarm(
            key,
            int(offset),
            int(opened_ms),
            SEVERITIES[int(alarm) - 1],
            peak,
            OpenedBy(int(opened_by)),
            Guess.of(vote) if vote.any() else None,
            slab.labels(slot),
        )
        for slot, (offset, opened_ms, alarm, peak, opened_by), vote in rows
        if (key := slab.keys[slot]) is not None
    ]


def by_severity(alarms: Iterable[HeldAlarm]) -> Mapping[str, int]:
    """How many are of which severity, with a 0 for those that none is of."""
    counts = dict.fromkeys(SEVERITIES, 0)
    for alarm in alarms:
        counts[alarm.severity] += 1
    return counts


def strongest(alarms: Iterable[HeldAlarm], most: int) -> tuple[tuple[str, float], ...]:
    """(stream, peak) of the `most` with the highest peak, the highest first."""
    highest = heapq.nlargest(most, alarms, key=lambda alarm: alarm.peak)
    return tuple((alarm.key.decode(), alarm.peak) for alarm in highest)
