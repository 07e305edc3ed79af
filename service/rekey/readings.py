"""What becomes of a record: a record for each of its readings, keyed by the stream, and a dead letter.

A reading is written in Telltale's own JSON, so that what comes after needs no mapping. Its header `telltale-source`
says where it came from, TOPIC/PARTITION/OFFSET/INDEX, and its record's time is that of the record it was in.
"""

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import NamedTuple

from service.input.reading_batch import ReadingBatch
from service.input.rejects import dead_letter
from service.input.wire import Decoder, encode_reading
from service.log.port import Fetched, Partition, Record

SOURCE = "telltale-source"


class ArrivedRecord(NamedTuple):
    """A record that came. time_ms: of its first reading."""

    time_ms: int
    partition: Partition
    offset: int
    readings: tuple[Record, ...]
    letter: Record | None = None


class RecordReader:
    """Reads records as a worker does, and writes their readings again."""

    def __init__(self, decoder: Decoder) -> None:
        self._decoder = decoder
        self.skipped = 0  # readings that mappings leave out, since this was set to 0

    def read(self, fetched: Fetched, last_ms: int) -> Iterator[ArrivedRecord]:
        """Each record that holds a reading or cannot be read, in the order of offsets.

        last_ms: time of the record before; a dead letter without readings stays behind it. Raises RegistryUnavailable.
        """
        batch, rejects = self._decoder.decode(fetched)
        self.skipped += batch.skipped
        letters = {int(fetched.offsets[reject.record]): dead_letter(fetched, reject) for reject in rejects}
        written = dict(_written(batch, self._decoder.features))
        for offset in sorted({*written, *letters}):
            readings = written.get(offset, [])
            last_ms = readings[0][0] if readings else last_ms
            records = tuple(record for _, record in readings)
            yield ArrivedRecord(last_ms, fetched.partition, offset, records, letters.get(offset))


Timed = tuple[int, Record]  # a reading's time and its record


def _written(batch: ReadingBatch, features: Sequence[str]) -> Iterator[tuple[int, list[Timed]]]:
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
        found = []
        for _, key, time_ms, values, record_time_ms, index in some:
            source = ((SOURCE, f"{topic}/{number}/{offset}/{index}".encode()),)
            value = encode_reading(features, time_ms, values)
            found.append((time_ms, Record(key, value, source, record_time_ms if record_time_ms >= 0 else None)))
        yield offset, found
