"""Log on CSV and Parquet files: replay, backtest, feeding a topic.

All streams of all files are one partition, or as many as a topic has, read as if they were live: by event time. A
reading that is late in its file comes after those before it. A record's bytes are those that `telltale produce` sends,
so what is judged here is judged exactly as if it had come from Kafka.
"""

from collections.abc import Callable, Sequence
from typing import TextIO

import numpy as np

from models.data.arrays import Int64s
from models.data.series import Series
from models.data.stream_key import flaw_of
from service.errors import RefusedInput
from service.input.reading_batch import StreamKey
from service.input.wire import encode_reading
from service.log.port import Commit, Fetched, Partition, Polled, Record

FILES = Partition("files", 0)


class FileLog:
    """Reads series once, from beginning to end; writes anomalies as JSON lines."""

    def __init__(
        self,
        series: Sequence[Series],
        anomalies: TextIO | None = None,
        max_poll_records: int = 20_000,
        partition_of: Callable[[StreamKey], int] = lambda _: FILES.number,
    ) -> None:
        """partition_of: of a stream."""
        self._series = series
        self._keys = [_key(one) for one in series]
        self._stream, self._place = _by_time([one.times_ms for one in series])
        self._number = np.array([partition_of(key) for key in self._keys], np.int64)[self._stream]  # of each record
        self._index = {n: np.flatnonzero(self._number == n) for n in np.unique(self._number).tolist()}
        self._anomalies = anomalies
        self._max_poll_records = max_poll_records
        self._position = 0
        self._assigned = False

    def __len__(self) -> int:
        return len(self._stream)

    def poll(self, timeout_s: float) -> Polled:  # noqa: ARG002  (files never keep one waiting)
        assigned = () if self._assigned else self.partitions
        self._assigned = True
        begin, end = self._position, min(self._position + self._max_poll_records, len(self))
        self._position = end
        fetched = (self._fetched(number, *np.searchsorted(of, [begin, end])) for number, of in self._index.items())
        return Polled(assigned, (), tuple(one for one in fetched if one.keys))

    def _fetched(self, number: int, begin: int, end: int) -> Fetched:
        """Some records of a partition, by their offsets."""
        records = [self._record(n) for n in self._index[number][begin:end].tolist()]
        return Fetched(
            Partition(FILES.topic, number),
            [record.key for record in records],
            [record.value for record in records],
            np.arange(begin, end, dtype=np.int64),
            np.full(end - begin, -1, dtype=np.int64),
            int(end),
            len(self._index[number]),
        )

    def commit(self, commits: Sequence[Commit]) -> None:
        """Write the anomalies, a line each. Files have no offsets to move and no dead letters to keep."""
        if self._anomalies is not None:
            for commit in commits:
                for anomaly in commit.anomalies:
                    self._anomalies.write((anomaly.value or b"").decode() + "\n")

    def close(self) -> None:
        self._position = len(self)

    @property
    def partitions(self) -> tuple[Partition, ...]:
        """Those that have streams; where there are none, the first."""
        return tuple(Partition(FILES.topic, number) for number in self._index) or (FILES,)

    @property
    def places(self) -> tuple[Int64s, Int64s]:
        """In the order of time: which series, and which of its readings, a record is."""
        return self._stream, self._place

    def places_in(self, partition: Partition) -> tuple[Int64s, Int64s]:
        """The same of one partition, by offset."""
        index = self._index[partition.number]
        return self._stream[index], self._place[index]

    def _record(self, n: int) -> Record:
        stream, place = int(self._stream[n]), int(self._place[n])
        one = self._series[stream]
        value = encode_reading(one.features, int(one.times_ms[place]), one.values[place].tolist())
        return Record(self._keys[stream], value)


def _key(series: Series) -> StreamKey:
    key = series.key.encode()
    if flaw := flaw_of(key):
        raise RefusedInput(f"{series.path}: stream {series.key!r}: {flaw}")
    return StreamKey(key)


def _by_time(times_ms: Sequence[Int64s]) -> tuple[Int64s, Int64s]:
    """Series and place of every record: each series in its order, by the latest time that it has come to."""
    stream = np.repeat(np.arange(len(times_ms)), [len(times) for times in times_ms])
    place = np.concatenate([np.arange(len(times)) for times in times_ms])
    order = np.argsort(np.concatenate([np.maximum.accumulate(times) for times in times_ms]), kind="stable")
    return stream[order].astype(np.int64), place[order].astype(np.int64)
