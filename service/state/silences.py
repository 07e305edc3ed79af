"""Streams that fall silent: where they do before a batch is judged, and what is told of it. See models' silence."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from models.data.arrays import Bools, Int64s
from models.detection.detector import NO_PAUSES, Detector
from models.detection.records import LONGEST_RETURN_MS
from models.detection.ticks import Ticks
from service.input.events import Event
from service.input.reading_batch import ReadingBatch, StreamEnd, StreamKey
from service.log.port import Partition
from service.state.ended_alarms import Silent, longer_silence_event, silent_event
from service.state.key_index import NO_SLOT
from service.state.open_alarms import HeldAlarm, held_alarms
from service.state.slab import NOTHING_APPLIED, StateSlab
from service.state.task import Forgetting

if TYPE_CHECKING:
    from models.detection.silence import Arrivals


def offsets_of_silence(
    detector: Detector, slab: StateSlab, batch: ReadingBatch, ticks: Ticks, forgetting: Forgetting
) -> Int64s:
    """Offsets of the ticks at which streams of a partition may fall silent while a batch is judged.

    forgetting: where in the batch idle streams are forgotten.
    """
    offsets = batch.readings.offsets.numpy()
    if not batch.ends and detector.none_falls_silent(ticks, offsets, slab.rows, slab.applied):
        return np.empty(0, np.int64)
    arrivals, busy = _arrivals(detector, slab, batch, forgetting)
    return detector.find_silent(ticks, arrivals, slab.rows, slab.applied, busy)


def tell_silence(detector: Detector, slab: StateSlab, ticks: Ticks, partition: Partition, digest: str) -> list[Event]:
    """Open the alarms of streams that fall silent at the last of the ticks, and let those be more severe that last.

    Returns the events.
    """
    slots, severities, allowed_ms = detector.fall_silent(ticks, slab.rows, slab.applied)
    offset, new, longer = int(ticks.offsets[-1]), slab.rows.scalar("alarm")[slots] == 0, severities > 0
    since_ms = slab.rows.scalar("time_ms")[slots] + allowed_ms
    events = open_silences(detector, slab, slots[new], since_ms[new], partition, offset, digest)
    slots, severities, allowed_ms = slots[longer], severities[longer], allowed_ms[longer]
    detector.raise_silent(slab.rows, slots, severities)
    slab.change_alarms(slots, offset)
    reached_ms = slab.rows.scalar("time_ms")[slots] + allowed_ms * slab.rows.scalar("peak")[slots]
    return events + [
        longer_silence_event(alarm, silent, partition, offset, time_ms, digest)
        for alarm, silent, time_ms in zip(*_told(detector, slab, slots), reached_ms.long().tolist(), strict=True)
    ]


def tell_ended(
    detector: Detector, slab: StateSlab, ends: Sequence[StreamEnd], partition: Partition, digest: str
) -> list[Event]:
    """Open the alarms of streams of which a record says that they are silent; returns the events.

    Nothing is told of a stream that is not known, that has an alarm open, or that has sent again behind that record.
    """
    events, rows = list[Event](), slab.rows
    for end, slot in zip(ends, slab.find([one.key for one in ends]).tolist(), strict=True):
        if slot == NO_SLOT or rows.scalar("alarm")[slot] > 0 or slab.applied[slot] > end.offset:
            continue
        since_ms = rows.scalar("time_ms")[slot].clamp(min=float(end.time_ms)).reshape(1)
        events += open_silences(detector, slab, torch.tensor([slot]), since_ms, partition, end.offset, digest)
    return events


def open_silences(
    detector: Detector,
    slab: StateSlab,
    slots: Tensor,
    since_ms: Tensor,
    partition: Partition,
    offset: int,
    digest: str,
) -> list[Event]:
    """Open an alarm of the streams at `slots` (S,), silent since `since_ms` (S,), because of the record at `offset`.

    None of them has one open. However that is known: its next reading closes it. Returns the events.
    """
    detector.open_silent(slab.rows, slots, since_ms, offset)
    slab.change_alarms(slots, offset)
    return [
        silent_event(alarm, silent, partition, offset, digest)
        for alarm, silent in zip(*_told(detector, slab, slots), strict=True)
    ]


def _told(detector: Detector, slab: StateSlab, slots: Tensor) -> tuple[list[HeldAlarm], list[Silent]]:
    """What is told of the silence of the streams at `slots` (S,), whose alarms are open."""
    names = ("time_ms", "age", "interval_ms", "alarm")
    last_ms, age, interval_ms, alarm = (slab.rows.scalar(name)[slots] for name in names)
    times_as_rare = torch.tensor(detector.config.alarm.times_as_rare, dtype=torch.float64)[alarm.long() - 1]
    returns_ms = (age * interval_ms * times_as_rare).clamp(max=LONGEST_RETURN_MS)
    return held_alarms(slab, slots), list(map(Silent, last_ms.long().tolist(), (returns_ms / 1000).tolist()))


def _ended(slab: StateSlab, batch: ReadingBatch, new: Mapping[StreamKey, int]) -> list[int]:
    """Slots of the streams that records of the batch end; new: the streams behind all slots."""
    keys = [end.key for end in batch.ends]
    return [*slab.find(keys).tolist(), *(slab.room + new[key] for key in keys if key in new)]


def _arrivals(
    detector: Detector, slab: StateSlab, batch: ReadingBatch, forgetting: Forgetting
) -> tuple["Arrivals", Bools]:
    """The batch with what its streams remember, and which streams of the slab it has readings of."""
    from models.detection.silence import Arrivals  # noqa: PLC0415  (numba takes a second to import)

    slots, new = batch.slots(slab.find).numpy(), dict[StreamKey, int]()
    unknown = np.flatnonzero(slots == NO_SLOT)
    if len(unknown):  # each new stream behind all slots, so that it is one of the streams below
        slots = slots.copy()
        slots[unknown] = [slab.room + new.setdefault(batch.keys[n], len(new)) for n in unknown.tolist()]
    busy = np.zeros(slab.room + len(new), np.bool_)
    busy[slots] = True
    found, streams = np.flatnonzero(busy), (np.cumsum(busy) - 1)[slots]
    known = torch.from_numpy(found[: len(found) - len(new)])
    scalars, last = slab.rows.scalars[known], slab.rows.channel("last")[known]
    fresh_scalars, fresh_last = scalars, last  # not looked at where no stream is forgotten or new
    if new or len(forgetting.offsets):
        fresh = detector.rows_for([*(slab.keys[slot] for slot in known.tolist()), *new])
        fresh_scalars, fresh_last = fresh.scalars, fresh.channel("last").contiguous()
        scalars = torch.cat([scalars, fresh_scalars[len(known) :]])
        last = torch.cat([last, fresh_last[len(known) :]])
    ended = np.isin(found, _ended(slab, batch, new))
    applied = torch.full((len(found),), NOTHING_APPLIED)
    applied[: len(known)] = slab.applied[known]
    # Of other strides, find() would be compiled again.
    offsets, times_ms, values = (np.ascontiguousarray(column.numpy()) for column in batch.readings)
    return Arrivals(
        offsets,
        times_ms,
        values,
        streams,
        applied.numpy(),
        applied.numpy().copy(),
        scalars.numpy(),
        last.numpy(),
        fresh_scalars.numpy(),
        fresh_last.numpy(),
        ended.copy(),
        ended,
        forgetting.offsets,
        forgetting.before,
        NO_PAUSES if batch.paused_until is None else batch.paused_until,
    ), busy[: slab.room]
