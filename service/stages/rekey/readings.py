"""What becomes of a record: its readings, each to be written under its stream's name, and a dead letter.

A reading is written in Telltale's own JSON, so that what comes after needs no mapping. Its header `telltale-source`
says where it came from, TOPIC/PARTITION/OFFSET/INDEX, and its record's time is that of the record it was in. One that
is joined of several names the source of each value that came in its window, with commas.
"""

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import NamedTuple

from service.input.reading_batch import ReadingBatch
from service.input.rejects import dead_letter
from service.input.wire import Decoder, encode_reading
from service.log.port import Fetched, Partition, Record

SOURCE = "telltale-source"


class RekeyedReading(NamedTuple):
    """A reading that is written, or joined with others first."""

    key: bytes
    time_ms: int
    values: Sequence[float | None]  # (F,), None where one is missing
    record_time_ms: int  # -1: unknown
    source: str


class ArrivedRecord(NamedTuple):
    """A record that came. time_ms: of its first reading."""

    time_ms: int
    partition: Partition
    offset: int
    readings: tuple[RekeyedReading, ...]
    letter: Record | None = None


class RecordReader:
    """Reads records as a worker does."""

    def __init__(self, decoder: Decoder) -> None:
        self._decoder = decoder
        self.features = decoder.features
        self.skipped = 0  # readings that mappings leave out, since this was set to 0

    def read(self, fetched: Fetched, last_ms: int) -> Iterator[ArrivedRecord]:
        """Each record that holds a reading or cannot be read, in the order of offsets.

        last_ms: time of the record before; a dead letter without readings stays behind it. Raises RegistryUnavailable.
        """
        batch, rejects = self._decoder.decode(fetched)
        self.skipped += batch.skipped
        letters = {int(fetched.offsets[reject.record]): dead_letter(fetched, reject) for reject in rejects}
        found = dict(_by_offset(batch))
        for offset in sorted({*found, *letters}):
            readings = found.get(offset, ())
            last_ms = readings[0].time_ms if readings else last_ms
            yield ArrivedRecord(last_ms, fetched.partition, offset, readings, letters.get(offset))


def reading_record(features: Sequence[str], reading: RekeyedReading) -> Record:
    """As it is written."""
    value = encode_reading(features, reading.time_ms, reading.values)
    time_ms = reading.record_time_ms if reading.record_time_ms >= 0 else None
    return Record(reading.key, value, ((SOURCE, reading.source.encode()),), time_ms)


def _by_offset(batch: ReadingBatch) -> Iterator[tuple[int, tuple[RekeyedReading, ...]]]:
    """The readings of each offset that has some."""
    topic, number = batch.partition
    readings = batch.readings
    rows = zip(
        readings.offsets.tolist(),
        batch.keys,
        readings.times_ms.tolist(),
        readings.values.tolist(),
        batch.record_times_ms.tolist(),
        batch.indices.tolist(),
        strict=True,
    )
    for offset, some in groupby(rows, key=lambda row: row[0]):
        yield (
            offset,
            tuple(
                RekeyedReading(
                    key,
                    time_ms,
                    [None if value != value else value for value in values],  # noqa: PLR0124  (NaN alone is not itself)
                    record_time_ms,
                    f"{topic}/{number}/{offset}/{index}",
                )
                for _, key, time_ms, values, record_time_ms, index in some
            ),
        )
