"""Log on CSV and Parquet files: replay, backtest, feeding a topic.

All streams of all files are one partition, read as if they were live side by side: the first reading of every stream,
then the second of every stream, and so on. A record's bytes are those that `telltale produce` sends, so what is judged
here is judged exactly as if it had come from Kafka.
"""

from collections.abc import Iterator, Sequence
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
        self, series: Sequence[Series], anomalies: TextIO | None = None, max_poll_records: int = 20_000
    ) -> None:
        self._series = series
        self._keys = [_key(one) for one in series]
        self._stream, self._place = _side_by_side([len(one.times_ms) for one in series])
        self._anomalies = anomalies
        self._max_poll_records = max_poll_records
        self._position = 0
        self._assigned = False

    def __len__(self) -> int:
        return len(self._stream)

    def poll(self, timeout_s: float) -> Polled:  # noqa: ARG002  (files never keep one waiting)
        assigned = () if self._assigned else (FILES,)
        self._assigned = True
        begin, end = self._position, min(self._position + self._max_poll_records, len(self))
        if begin == end:
            return Polled(assigned, (), ())
        self._position = end
        records = list(self._records(begin, end))
        fetched = Fetched(
            FILES,
            [record.key for record in records],
            [record.value for record in records],
            np.arange(begin, end, dtype=np.int64),
            np.full(end - begin, -1, dtype=np.int64),
            end,
            len(self),
        )
        return Polled(assigned, (), (fetched,))

    def commit(self, commits: Sequence[Commit]) -> None:
        """Write the anomalies, a line each. Files have no offsets to move and no dead letters to keep."""
        if self._anomalies is not None:
            for commit in commits:
                for anomaly in commit.anomalies:
                    self._anomalies.write((anomaly.value or b"").decode() + "\n")

    def close(self) -> None:
        self._position = len(self)

    @property
    def places(self) -> tuple[Int64s, Int64s]:
        """By offset: which series, and which of its readings, a record is."""
        return self._stream, self._place

    def _records(self, begin: int, end: int) -> Iterator[Record]:
        for stream, place in zip(self._stream[begin:end].tolist(), self._place[begin:end].tolist(), strict=True):
            one = self._series[stream]
            value = encode_reading(one.features, int(one.times_ms[place]), one.values[place].tolist())
            yield Record(self._keys[stream], value)


def _key(series: Series) -> StreamKey:
    key = series.key.encode()
    if flaw := flaw_of(key):
        raise RefusedInput(f"{series.path}: stream {series.key!r}: {flaw}")
    return StreamKey(key)


def _side_by_side(lengths: Sequence[int]) -> tuple[Int64s, Int64s]:
    """Series and place of every record, by place first."""
    stream = np.repeat(np.arange(len(lengths)), lengths)
    place = np.concatenate([np.arange(length) for length in lengths])
    order = np.lexsort((stream, place))
    return stream[order].astype(np.int64), place[order].astype(np.int64)
