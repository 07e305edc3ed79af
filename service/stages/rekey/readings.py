"""What becomes of a record: its readings, each to be written under its stream's name, and a dead letter.

A reading is written in Telltale's own JSON, so that what comes after needs no mapping. Its header `telltale-source`
says where it came from, TOPIC/PARTITION/OFFSET/INDEX, and its record's time is that of the record it was in. One that
is joined of several names the source of each value that came in its window, with commas.

A message of Sparkplug is read when it is taken in, not when it comes: it may lack what the births before it say. A
death says that all streams of its birth are silent; under the name of each of them that is written, as of a stream that
a record of another topic ends.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import NamedTuple

import numpy as np

from service.errors import RejectedReading
from service.input import sparkplug
from service.input.reading_batch import ReadingBatch, StreamEnd, StreamKey
from service.input.reasons import Reason
from service.input.rejects import Reject, dead_letter
from service.input.wire import Decoder, encode_reading, encode_silent
from service.log.port import Fetched, Partition, Record
from service.stages.rekey.births import Birth, Births, Message, rank

SOURCE = "telltale-source"
METRICS_AT_ONCE = 500  # of a birth, whose streams are looked for


class RekeyedReading(NamedTuple):
    """A reading that is written, or joined with others first."""

    key: bytes
    time_ms: int
    values: Sequence[float | None]  # (F,), None where one is missing
    record_time_ms: int  # -1: unknown
    source: str


class RekeyedEnd(NamedTuple):
    """What is written of a stream that is silent from then on, behind its readings."""

    key: bytes
    time_ms: int
    record_time_ms: int  # -1: unknown
    source: str


class ArrivedRecord(NamedTuple):
    """A record that came. time_ms: of its first reading."""

    time_ms: int
    partition: Partition
    offset: int
    readings: tuple[RekeyedReading, ...]
    letter: Record | None = None
    ends: tuple[RekeyedEnd, ...] = ()


class WaitingMessage(NamedTuple):
    """A message of Sparkplug that is not read yet. time_ms: of its record."""

    time_ms: int
    partition: Partition
    offset: int
    rank: int  # of those of the same time
    record: Fetched  # it alone


class RecordReader:
    """Reads records as a worker does."""

    def __init__(self, decoder: Decoder) -> None:
        self._decoder = decoder
        self.features = decoder.features
        self.skipped = 0  # readings that mappings leave out, since this was set to 0
        self._needs_names = {
            topic: sparkplug.needs_names(mapping)
            for topic, mapping in decoder.rules.mappings.items()
            if mapping.format == mapping.key_format == "sparkplug"
        }

    def has_births(self, topic: str) -> bool:
        """Whether births are among its records, which others are read by."""
        return topic in self._needs_names

    def read(self, fetched: Fetched, last_ms: int) -> Iterator[ArrivedRecord | WaitingMessage]:
        """Each record that holds a reading or cannot be read, and each message of Sparkplug, in the order of offsets.

        last_ms: time of the record before; a dead letter without readings stays behind it. Raises RegistryUnavailable.
        """
        return (self._waiting if self.has_births(fetched.partition.topic) else self._arrived)(fetched, last_ms)

    def read_message(self, waiting: WaitingMessage, births: Births) -> ArrivedRecord:
        """What becomes of it by the births before it; it may be one, or a death."""
        record, arrived = waiting.record, ArrivedRecord(waiting.time_ms, waiting.partition, waiting.offset, ())
        try:
            value, died = self._filled_in(record, waiting.time_ms, births)
        except RejectedReading as rejected:
            letter = dead_letter(record, Reject(0, Reason(rejected.reason), str(rejected)))
            return arrived._replace(letter=letter)
        batch, rejects = self._decoder.decode(record._replace(values=[value]))
        self.skipped += batch.skipped
        streams = dict.fromkeys(key for source, birth in died for key in self._streams_of(source, birth, waiting))
        ends = _ends(record, [StreamEnd(waiting.offset, StreamKey(key), waiting.time_ms) for key in streams])
        arrived = arrived._replace(ends=(*ends, *_ends(record, batch.ends)))
        for _, readings in _by_offset(batch):
            arrived = arrived._replace(readings=readings)
        return arrived._replace(letter=dead_letter(record, rejects[0])) if rejects else arrived

    def _filled_in(
        self, record: Fetched, time_ms: int, births: Births
    ) -> tuple[bytes | None, Sequence[tuple[str, Birth]]]:
        """The value with what births say, and the sources that are dead by it. Raises RejectedReading."""
        (key,), (value,), topic = record.keys, record.values, record.partition.topic
        if type(key) is not bytes or type(value) is not bytes or len(value) > self._decoder.rules.max_batch_bytes:
            return value, ()
        place = _topic_of(key)
        if place is None or value.startswith(sparkplug.STATES):
            return value, ()
        message = Message(place["type"], place["source"], sparkplug.payload_of(value), time_ms)
        died = births.take(message)
        changed = births.fill_in(message, needs_names=self._needs_names[topic])
        return message.payload.SerializeToString() if changed else value, died

    def _streams_of(self, source: str, birth: Birth, death: WaitingMessage) -> Iterator[bytes]:
        """The streams that a birth's metrics are read as, whatever their mapping makes of them."""
        for first in range(0, len(birth.metrics), METRICS_AT_ONCE):
            some = birth.metrics[first : first + METRICS_AT_ONCE]
            key, value = sparkplug.data_of(source, some, death.time_ms)
            batch, _ = self._decoder.decode(death.record._replace(keys=[key], values=[value]))
            yield from batch.keys

    def _arrived(self, fetched: Fetched, last_ms: int) -> Iterator[ArrivedRecord]:
        batch, rejects = self._decoder.decode(fetched)
        self.skipped += batch.skipped
        letters = {int(fetched.offsets[reject.record]): dead_letter(fetched, reject) for reject in rejects}
        found, ends = dict(_by_offset(batch)), {end.offset: _ends(fetched, [end]) for end in batch.ends}
        for offset in sorted({*found, *letters, *ends}):
            readings, ended = found.get(offset, ()), ends.get(offset, ())
            times_ms = [*(one.time_ms for one in readings[:1]), *(one.time_ms for one in ended), last_ms]
            last_ms = times_ms[0]
            yield ArrivedRecord(last_ms, fetched.partition, offset, readings, letters.get(offset), ended)

    def _waiting(self, fetched: Fetched, last_ms: int) -> Iterator[WaitingMessage]:
        for n, (key, offset, time_ms) in enumerate(
            zip(fetched.keys, fetched.offsets.tolist(), fetched.times_ms.tolist(), strict=True)
        ):
            last_ms = last_ms if time_ms < 0 else time_ms
            place = _topic_of(key)
            record = fetched.part(n, n + 1)
            yield WaitingMessage(last_ms, fetched.partition, offset, rank(place["type"] if place else ""), record)


def _topic_of(key: bytes | None) -> dict[str, str] | None:
    """The topic that a message was published to; None: the key is none."""
    try:
        found: dict[str, str] | None = sparkplug.topic_of(key)
    except RejectedReading:
        return None
    return found


def reading_record(features: Sequence[str], reading: RekeyedReading | RekeyedEnd) -> Record:
    """As it is written."""
    if isinstance(reading, RekeyedEnd):
        value = encode_silent(reading.time_ms)
    else:
        value = encode_reading(features, reading.time_ms, reading.values)
    time_ms = reading.record_time_ms if reading.record_time_ms >= 0 else None
    return Record(reading.key, value, ((SOURCE, reading.source.encode()),), time_ms)


def _ends(fetched: Fetched, ends: Iterable[StreamEnd]) -> tuple[RekeyedEnd, ...]:
    """What is written of streams that one of the records ends."""
    topic, number = fetched.partition
    return tuple(
        RekeyedEnd(
            end.key,
            end.time_ms,
            int(fetched.times_ms[np.searchsorted(fetched.offsets, end.offset)]),
            f"{topic}/{number}/{end.offset}/{index}",
        )
        for index, end in enumerate(ends)
    )


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
