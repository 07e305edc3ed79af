"""The readings of one partition as columns: what a decoded batch is."""

from collections.abc import Callable, Sequence
from typing import NamedTuple, NewType

import numpy as np
import torch
from torch import Tensor

from models.data.arrays import Doubles, Int64s
from models.data.quiet_time import NOW
from models.detection.detector import Readings
from service.input.labels import Labels
from service.log.port import Fetched, Partition

StreamKey = NewType("StreamKey", bytes)  # a Kafka message key: see models.stream_key


class Runs(NamedTuple):
    """The keys of a batch where they are the same many times in a row: one a run, and how often."""

    keys: list[StreamKey]
    counts: Int64s

    def between(self, first: int, last: int) -> "Runs":
        """Those of the readings first to last, which are whole runs."""
        ends = np.cumsum(self.counts)
        begin, end = np.searchsorted(ends, [first, last], side="right").tolist()
        return Runs(self.keys[begin:end], self.counts[begin:end])


class StreamEnd(NamedTuple):
    """What a record says that its stream is silent from then on: it was switched off, or its gateway has lost it."""

    offset: int
    key: StreamKey
    time_ms: int


class ReadingBatch(NamedTuple):
    """N >= 0 readings of one partition as columns, in offset order. Those of one record have the same offset."""

    partition: Partition
    keys: list[StreamKey]
    readings: Readings
    record_times_ms: Int64s  # (N,) when the records were produced; -1 where unknown
    indices: Int64s  # (N,) which of its record's readings each is, from 0
    runs: Runs | None = None  # where records hold many readings of one stream each
    skipped: int = 0  # readings, and tombstones, that the topic's mapping leaves out; not of a part
    ends: tuple[StreamEnd, ...] = ()  # of streams, in offset order; no reading is in their records; not of a part
    excluded: Int64s | None = None  # (N, 2) values that count as missing, as Excluded; None: not one does
    paused_until: Doubles | None = None  # (N,) ms, as models.detection.pauses has it; None: no stream pauses
    labels: list[Labels] | None = None  # N, of their streams; None: no mapping names any

    @property
    def paused(self) -> int:
        """Readings whose streams pause then."""
        return 0 if self.paused_until is None else int((self.paused_until == NOW).sum())

    def slots(self, find: Callable[[Sequence[StreamKey]], Tensor]) -> Tensor:
        """The slot of each reading's stream, (N,) int64. find: those of some keys."""
        if self.runs is None:
            return find(self.keys)
        return find(self.runs.keys).repeat_interleave(torch.from_numpy(self.runs.counts))

    def between(self, first: int, last: int) -> "ReadingBatch":
        """The readings first to last, which are all those of their records."""
        part = slice(first, last)
        readings = Readings(*(column[part] for column in self.readings))
        runs = None if self.runs is None else self.runs.between(first, last)
        times_ms, indices = self.record_times_ms[part], self.indices[part]
        excluded = None if self.excluded is None else self.excluded[part]
        paused_until = None if self.paused_until is None else self.paused_until[part]
        return ReadingBatch(
            self.partition,
            self.keys[part],
            readings,
            times_ms,
            indices,
            runs,
            excluded=excluded,
            paused_until=paused_until,
            labels=None if self.labels is None else self.labels[part],
        )

    def part(self, index: Int64s) -> "ReadingBatch":
        """The readings at `index`, which rises."""
        where = torch.from_numpy(index)
        readings = Readings(*(column[where] for column in self.readings))
        keys = [self.keys[n] for n in index.tolist()]
        excluded = None if self.excluded is None else self.excluded[index]
        paused_until = None if self.paused_until is None else self.paused_until[index]
        return ReadingBatch(
            self.partition,
            keys,
            readings,
            self.record_times_ms[index],
            self.indices[index],
            excluded=excluded,
            paused_until=paused_until,
            labels=None if self.labels is None else [self.labels[n] for n in index.tolist()],
        )


def batch_of(
    fetched: Fetched, keys: list[StreamKey], times: Int64s, columns: Doubles, indices: Int64s | None = None
) -> ReadingBatch:
    """indices: None where each record holds one reading."""
    readings = Readings(torch.from_numpy(fetched.offsets), torch.from_numpy(times), torch.from_numpy(columns))
    firsts = np.zeros(len(keys), np.int64) if indices is None else indices
    return ReadingBatch(fetched.partition, keys, readings, fetched.times_ms, firsts)
