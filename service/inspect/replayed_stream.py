"""One stream, taken through its partition again by the service's own pipeline."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import numpy as np
import torch

from models.data.arrays import Bools, Int64s
from models.detection.rows import Rows
from service.input.events import encode_event
from service.input.reading_batch import ReadingBatch, StreamEnd, StreamKey
from service.inspect.past import Version
from service.log.port import Commit, Fetched, Partition
from service.pipeline import Pipeline, Processed
from service.state.silences import offsets_of_silence
from service.state.slab import Page, StateSlab
from service.state.task import EventClock, PartitionTask


class JudgedAgain(NamedTuple):
    """Some records of a stream, the row before them, and what is thought of them."""

    records: Fetched
    row_before: Rows
    processed: Processed


class ReplayedStream:
    """A stream's row and its partition's clock, as they pass through the records again."""

    def __init__(self, pipeline: Pipeline, partition: Partition, stream: StreamKey, idle_s: float | None) -> None:
        self.task = PartitionTask(partition, StateSlab(pipeline.detector.rows_for))
        self._pipeline = pipeline
        self._stream = stream
        self._clock = EventClock(idle_s)

    @property
    def rows(self) -> Rows | None:
        """None: it is not remembered."""
        slots = self.task.slab.find([self._stream])
        return self.task.slab.gather(slots) if int(slots[0]) >= 0 else None

    @property
    def clock_ms(self) -> int | None:
        """Time of its last reading; None: it has had none."""
        rows = self.rows
        return int(rows.scalar("time_ms")[0]) if rows is not None and rows.scalar("age")[0] > 0 else None

    def resume(self, version: Version) -> None:
        page = Page(
            0, version.through, torch.tensor([0]), (self._stream,), version.rows, torch.tensor([version.applied])
        )
        self.task.slab.load(page)
        if version.clock is not None:
            self._clock.restore(version.clock)

    def prime(self, batch: ReadingBatch) -> None:
        """As a service that finds rows of another checkpoint: fresh rows, and the last few readings before."""
        self._pipeline.replay_readings(batch, self.task.slab.slots(batch.keys), self.task)

    def learn(self, fetched: Fetched, leave_out: Callable[[Int64s], Bools]) -> tuple[int, int]:
        """Judge the stream's own readings, but for those whose times are to be left out, and tell nothing of it.

        Returns how many were judged, and how many were left out.
        """
        batch = self._pipeline.decode(fetched, self.task)
        offsets, times_ms = batch.readings.offsets.numpy(), batch.readings.times_ms.numpy()
        own = np.array([key == self._stream for key in batch.keys], bool)
        out = own & leave_out(times_ms)
        ends = self._own_ends(batch)
        kept = batch.part(np.flatnonzero(own & ~out))._replace(ends=ends)
        find_silent = partial(offsets_of_silence, self._pipeline.detector, self.task.slab, kept)
        for part in self._clock.cut(fetched.offsets, offsets[~out], times_ms[~out], find_silent, ends):
            if part.idle_before is not None:
                self.task.slab.evict_idle(part.idle_before, int(fetched.offsets[part.begin]))
            self._pipeline.tell_silence(self.task, part.silent_by, part.ends)
            of = np.isin(offsets, fetched.offsets[part.begin : part.end])
            mine = batch.part(np.flatnonzero(of & own & ~out))
            if mine.keys:
                self._pipeline.replay_readings(mine, self.task.slab.slots(mine.keys), self.task)
        return int((own & ~out).sum()), int(out.sum())

    def judge(self, fetched: Fetched) -> Iterator[JudgedAgain]:
        """The stream's own among the records of its partition, and what is thought of them."""
        batch = self._pipeline.decode(fetched, self.task)
        readings = batch.readings
        ends = self._own_ends(batch)
        mine = batch.part(np.flatnonzero([key == self._stream for key in batch.keys]))._replace(ends=ends)
        find_silent = partial(offsets_of_silence, self._pipeline.detector, self.task.slab, mine)
        times_ms, offsets = readings.times_ms.numpy(), readings.offsets.numpy()
        for part in self._clock.cut(fetched.offsets, offsets, times_ms, find_silent, ends):
            if part.idle_before is not None:
                self.task.slab.evict_idle(part.idle_before, int(fetched.offsets[part.begin]))
            records = fetched.part(part.begin, part.end)
            row, none = self.rows or self._pipeline.detector.rows_for([self._stream]), records.part(0, 0)
            if events := self._pipeline.tell_silence(self.task, part.silent_by, part.ends):
                told = Commit(fetched.partition, int(records.offsets[0]), tuple(map(encode_event, events)))
                nothing, judge = batch.between(0, 0), self._pipeline.digest
                yield JudgedAgain(none, row, Processed(told, nothing, None, [], events, {}, {}, judge))
            own = records_of(records, batch, self._stream)
            if own.keys:
                row = self.rows or row
                (processed,) = self._pipeline.process_stream(own, self.task, self._stream)
                yield JudgedAgain(own, row, processed)

    def _own_ends(self, batch: ReadingBatch) -> tuple[StreamEnd, ...]:
        return tuple(end for end in batch.ends if end.key == self._stream)


def records_of(fetched: Fetched, batch: ReadingBatch, stream: StreamKey) -> Fetched:
    """The records that hold readings of one stream, and those of its key. batch: what was decoded of them, or more."""
    named = np.flatnonzero([key == stream for key in batch.keys])
    holds = np.isin(fetched.offsets, batch.readings.offsets.numpy()[named])
    index = np.flatnonzero(holds | [key == stream for key in fetched.keys]).tolist()
    return fetched._replace(
        keys=[fetched.keys[n] for n in index],
        values=[fetched.values[n] for n in index],
        offsets=fetched.offsets[index],
        times_ms=fetched.times_ms[index],
    )
