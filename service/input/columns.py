"""Readings of some records side by side as columns, before it is known which of them can be judged.

Sizes: R records, N readings, F features.
"""

from collections.abc import Sequence
from itertools import compress
from typing import NamedTuple

import numpy as np

from models.data.arrays import Bools, Doubles, Int64s
from service.errors import RejectedReading
from service.input.formats import RecordReadings
from service.input.labels import Labels


class Single(NamedTuple):
    """The one reading of a record."""

    time_ms: int
    row: list[float | None]


class End(NamedTuple):
    """What a record without a reading says: a stream is silent from then on. time_ms: 0 where it is unknown."""

    stream: bytes
    time_ms: int


class Columns(NamedTuple):
    """N readings in the order of their records."""

    records: Int64s  # (N,) which of the R records each is in
    indices: Int64s  # (N,) which of its record's readings it is
    keys: list[bytes]  # N
    times_ms: Int64s  # (N,)
    values: Doubles  # (N, F)
    named: bool = False  # whether some keys are names that records held, which are not checked yet
    many: bool = False  # whether some records held many readings
    labels: list[Labels] | None = None  # N; None: the mapping names none

    @property
    def one_stream_a_record(self) -> bool:
        """Whether it is worth knowing that a record's readings have its key."""
        return self.many and not self.named

    def part(self, chosen: Bools) -> "Columns":
        keys = list(compress(self.keys, chosen.tolist()))
        records, indices, times_ms = self.records[chosen], self.indices[chosen], self.times_ms[chosen]
        labels = None if self.labels is None else list(compress(self.labels, chosen.tolist()))
        return Columns(records, indices, keys, times_ms, self.values[chosen], self.named, self.many, labels)


def columns_of(
    keys: Sequence[bytes | None], read: Sequence[Single | RecordReadings | End | RejectedReading], features: int
) -> Columns:
    """keys: of R records; of those that were read, the streams unless these name their own."""
    singles = _of_singles(keys, [(n, one) for n, one in enumerate(read) if isinstance(one, Single)], features)
    batches = [(n, one) for n, one in enumerate(read) if isinstance(one, RecordReadings)]
    if not batches:
        return singles
    many = _of_batches(keys, batches)
    if not len(singles.records):
        return many
    return in_order(singles, many)


def in_order(some: Columns, others: Columns) -> Columns:
    """Those of both, of which no record is in both."""
    records = np.concatenate([some.records, others.records])
    order = np.argsort(records, kind="stable")
    keys = [*some.keys, *others.keys]
    labels = None if some.labels is None or others.labels is None else [*some.labels, *others.labels]
    return Columns(
        records[order],
        np.concatenate([some.indices, others.indices])[order],
        [keys[n] for n in order.tolist()],
        np.concatenate([some.times_ms, others.times_ms])[order],
        np.concatenate([some.values, others.values])[order],
        some.named or others.named,
        some.many or others.many,
        None if labels is None else [labels[n] for n in order.tolist()],
    )


def _of_singles(keys: Sequence[bytes | None], singles: Sequence[tuple[int, Single]], features: int) -> Columns:
    records = np.array([n for n, _ in singles], np.int64)
    return Columns(
        records,
        np.zeros(len(singles), np.int64),
        [keys[n] or b"" for n, _ in singles],
        np.array([one.time_ms for _, one in singles], np.int64),
        np.array([one.row for _, one in singles], np.float64).reshape(len(singles), features),
    )


def _of_batches(keys: Sequence[bytes | None], batches: Sequence[tuple[int, RecordReadings]]) -> Columns:
    counts = np.array([len(one.times_ms) for _, one in batches])
    ends = np.cumsum(counts)
    streams: list[bytes] = []
    for n, one in batches:
        streams += [keys[n] or b""] * len(one.times_ms) if one.streams is None else one.streams
    return Columns(
        np.repeat(np.array([n for n, _ in batches], np.int64), counts),
        np.arange(int(ends[-1])) - np.repeat(ends - counts, counts),
        streams,
        np.concatenate([one.times_ms for _, one in batches]),
        np.concatenate([one.values for _, one in batches]),
        any(one.streams is not None for _, one in batches),
        many=True,
    )
