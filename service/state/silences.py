"""Streams that fall silent: where they do before a batch is judged, and what is told of it. See models' silence."""

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from models.data.arrays import Bools, Int64s
from models.detection.detector import Detector
from models.detection.ticks import Ticks
from service.input.events import Event
from service.input.reading_batch import ReadingBatch
from service.log.port import Partition
from service.state.ended_alarms import Silent, silent_event
from service.state.open_alarms import held_alarms
from service.state.slab import NO_SLOT, NOTHING_APPLIED, StateSlab
from service.state.task import Forgetting

if TYPE_CHECKING:
    from models.detection.silence import Arrivals


def offsets_of_silence(
    detector: Detector, slab: StateSlab, batch: ReadingBatch, ticks: Ticks, forgetting: Forgetting
) -> Int64s:
    """Offsets of the ticks at which streams of a partition may fall silent while a batch is judged.

    forgetting: where in the batch idle streams are forgotten.
    """
    arrivals, busy = _arrivals(detector, slab, batch, forgetting)
    return detector.find_silent(ticks, arrivals, slab.rows, slab.applied, busy)


def tell_silence(detector: Detector, slab: StateSlab, ticks: Ticks, partition: Partition, digest: str) -> list[Event]:
    """Open the alarms of streams that fall silent at the last of the ticks; returns the events."""
    slots, since_ms = detector.fall_silent(ticks, slab.rows, slab.applied)
    return open_silences(detector, slab, slots, since_ms, partition, int(ticks.offsets[-1]), digest)


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
    last_ms, age, interval_ms = (slab.rows.scalar(name)[slots] for name in ("time_ms", "age", "interval_ms"))
    told = map(Silent, last_ms.long().tolist(), (age * interval_ms / 1000).tolist())
    return [
        silent_event(alarm, silent, partition, offset, digest)
        for alarm, silent in zip(held_alarms(slab, slots), told, strict=True)
    ]


def _arrivals(
    detector: Detector, slab: StateSlab, batch: ReadingBatch, forgetting: Forgetting
) -> tuple["Arrivals", Bools]:
    """The batch with what its streams remember, and which streams of the slab it has readings of."""
    from models.detection.silence import Arrivals  # noqa: PLC0415  (numba takes a second to import)

    numbers = {key: n for n, key in enumerate(dict.fromkeys(batch.keys))}
    slots = slab.find(list(numbers))
    known = (slots != NO_SLOT).nonzero().squeeze(1)
    busy = np.zeros(slab.room, np.bool_)
    busy[slots[known].numpy()] = True
    fresh = (
        detector.rows_for(list(numbers)) if len(forgetting.offsets) or len(known) < len(slots) else slab.gather(slots)
    )
    rows = fresh.copy()
    rows.put(known, slab.gather(slots[known]))
    applied = torch.full((len(slots),), NOTHING_APPLIED)
    applied[known] = slab.applied[slots[known]]
    # Of other strides, find() would be compiled again.
    offsets, times_ms, values = (np.ascontiguousarray(column.numpy()) for column in batch.readings)
    return Arrivals(
        offsets,
        times_ms,
        values,
        np.array([numbers[key] for key in batch.keys], np.int64),
        applied.numpy(),
        applied.numpy().copy(),
        rows.scalars.numpy(),
        np.ascontiguousarray(rows.channel("last").numpy()),
        fresh.scalars.numpy(),
        np.ascontiguousarray(fresh.channel("last").numpy()),
        np.zeros(len(slots), np.bool_),
        forgetting.offsets,
        forgetting.before,
    ), busy
