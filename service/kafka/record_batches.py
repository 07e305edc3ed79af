"""Kafka's record batches (message format 2) as columns: bytes in, keys, values, offsets and times out.

A client builds an object for every record, which takes four fifths of its time. Here the varints of all records of a
window are decoded at once with numpy, and only the keys and values become Python objects. What a batch looks like:
https://kafka.apache.org/documentation/#recordbatch. `N`: records, `B`: batches.

Exact: a record's length must lead to the next record's first byte and its fields must end where it ends. What a broker
has damaged (the checksum is wrong) raises. What a producer has written and sealed so that it cannot be read, which
brokers let through, comes as one record that is `Unreadable`, and reading carries on behind its batch.

Bounded: a megabyte of compressed records may stand for gigabytes. At most a window is decompressed at once, and a
record that is larger than `Bounds.record_bytes` is read through and held only in part, as a `Cut`.
"""

import struct
from collections import deque
from collections.abc import Iterable, Iterator

from crc32c import crc32c

from service.kafka.inflating import CODECS
from service.kafka.record_fields import BadRecords, varint
from service.kafka.record_windows import Batch, Bounds, OpenBatch, RecordColumns, Single, Window, all_records, joined

# base offset, length, leader epoch, magic, crc, attributes, last offset delta, base and max timestamp, producer id and
# epoch, base sequence, records
HEADER = struct.Struct(">qiibIhiqqqhii")
LENGTH_END = 12  # the length counts from here
MAGIC_AT = 16
CRC_FROM = 21
CODEC, LOG_APPEND_TIME, TRANSACTIONAL, CONTROL = 0x07, 0x08, 0x10, 0x20
ABORT_MARKER = 0


class CorruptBatch(Exception):
    """The bytes are not those that were written, or of a format that is not known here."""


def all_of_format_2(data: bytes | memoryview) -> bool:
    """Whether every whole batch in a fetch response is of this format."""
    return all(data[start + MAGIC_AT] == 2 for start, _ in _bounds(memoryview(data)))


class BatchReader:
    """Hands out the records of one partition's fetch response, some at a time.

    aborted: (first offset, producer id) of each aborted transaction; their records and all control records are left
    out. next_offset: where the partition goes on after what was taken. A corrupt batch raises CorruptBatch once the
    records before it have been taken.
    """

    def __init__(
        self,
        data: bytes | memoryview,
        fetch_offset: int,
        aborted: Iterable[tuple[int, int]],
        bounds: Bounds | None = None,
    ) -> None:
        self.next_offset = fetch_offset
        self.leader_epoch = -1
        self.exhausted = False
        self._fetch_offset = fetch_offset
        self._bounds = bounds or Bounds()
        self._error: CorruptBatch | None = None
        self._end_offset = fetch_offset
        self._end_epoch = -1
        self._batches = self._readable(memoryview(data), sorted(aborted))
        self._ahead = self._next_batch()
        self._opened: deque[OpenBatch] = deque()  # larger than a window, or with something amiss
        self._window: Window | Single | None = None

    def take(self, limit: int | None = None, max_bytes: int | None = None) -> RecordColumns:
        """The next records, at most `limit`, and at most `max_bytes` unless it is a single one.

        None are left when `exhausted` is set; until then there is at least one, or a corrupt batch raises.
        """
        parts: list[RecordColumns] = []
        count, size = 0, 0
        while (limit is None or count < limit) and (max_bytes is None or size < max_bytes):
            self._window = self._window or self._next_window()
            if self._window is None:
                break
            room = None if max_bytes is None else max_bytes - size
            most = None if limit is None else limit - count
            columns = self._window.take(most, room, at_least=0 if parts else 1)
            if not len(columns.offsets):
                break
            parts.append(columns)
            count, size = count + len(columns.offsets), size + columns.size
            self.next_offset, self.leader_epoch = int(columns.offsets[-1]) + 1, self._window.epoch
            self._window = self._window if self._window.left else None
        if self._nothing_left():
            if self._error is None:
                self.exhausted = True
                self.next_offset, self.leader_epoch = self._end_offset, self._end_epoch
            elif not parts:
                raise self._error
        return joined(parts)

    def _nothing_left(self) -> bool:
        while self._opened and self._opened[0].done:
            self._opened.popleft()
        return self._window is None and not self._opened and self._ahead is None

    def _next_batch(self) -> Batch | None:
        try:
            return next(self._batches, None)
        except CorruptBatch as error:
            self._error = error
            return None

    def _readable(self, data: memoryview, aborted: list[tuple[int, int]]) -> Iterator[Batch]:
        """The batches whose records are to be handed out; raises at a corrupt one."""
        aborting: set[int] = set()
        for start, end in _bounds(data):
            base, _, epoch, magic, crc, attributes, last_delta, time, max_time, producer, _, _, count = (
                HEADER.unpack_from(data, start) if end - start >= HEADER.size else _too_short(data, start, end)
            )
            if magic != 2:
                raise CorruptBatch(f"batch at offset {base}: format {magic}, expected 2")
            if crc32c(data[start + CRC_FROM : end]) != crc:
                raise CorruptBatch(f"batch at offset {base}: its checksum is not that of its bytes")
            records = data[start + HEADER.size : end]
            codec = attributes & CODEC
            if codec not in CODECS:
                raise CorruptBatch(f"batch at offset {base}: codec {codec}, expected one of 0 to {max(CODECS)}")
            while aborted and producer >= 0 and aborted[0][0] <= base + last_delta:
                aborting.add(aborted.pop(0)[1])
            wanted = False
            if attributes & CONTROL:
                if producer in aborting and _control_type(records) == ABORT_MARKER:
                    aborting.discard(producer)
            else:
                wanted = not (attributes & TRANSACTIONAL and producer in aborting)
            self._end_offset, self._end_epoch = base + last_delta + 1, epoch
            if wanted and (count or len(records)) and base + last_delta >= self._fetch_offset:
                appended = bool(attributes & LOG_APPEND_TIME)
                yield Batch(
                    base, base + last_delta, time, max_time, appended, epoch, count, codec, records, data[start:end]
                )

    def _next_window(self) -> Window | Single | None:
        """Some of the next records that are wanted; None where there are no more."""
        while self._opened or self._ahead is not None:
            window = self._opened[0].next_window() if self._opened else self._open_some()
            if window is None and self._opened and self._opened[0].done:
                self._opened.popleft()
            elif window is not None and window.begin_at(self._fetch_offset):
                return window
        return None

    def _open_some(self) -> Window | None:
        """All records of the next few batches, where they are small; what cannot be taken so is left opened."""
        batches: list[OpenBatch] = []
        size = 0
        while self._ahead is not None and size <= self._bounds.window_bytes // 2:
            batch = OpenBatch(self._ahead, self._bounds)
            self._ahead = self._next_batch()
            if not batch.is_whole:
                self._opened.append(batch)
                break
            batches.append(batch)
            size += len(batch.plain)
        window = all_records(batches, self._bounds.record_bytes) if batches else None
        if window is None:
            self._opened.extendleft(reversed(batches))
        return window


def _bounds(data: memoryview) -> Iterator[tuple[int, int]]:
    """Start and end of each whole batch; the last one of a fetch may be cut off and is left out."""
    start = 0
    while start + LENGTH_END <= len(data):
        end = start + LENGTH_END + int.from_bytes(data[start + 8 : start + LENGTH_END], "big", signed=True)
        if end > len(data):
            return
        if end <= start + MAGIC_AT:
            _too_short(data, start, end)
        yield start, end
        start = end


def _too_short(data: memoryview, start: int, end: int) -> tuple[int, ...]:
    base = int.from_bytes(data[start : start + 8], "big", signed=True)
    raise CorruptBatch(f"batch at offset {base}: {end - start} bytes, a header takes {HEADER.size}")


def _control_type(records: memoryview) -> int:
    """0 for an abort marker, 1 for a commit marker: the second half of a control record's key."""
    try:
        at = varint(records, 0)[1] + 1  # length, attributes
        for _ in range(3):  # time delta, offset delta, key length
            at = varint(records, at)[1]
    except BadRecords as error:
        raise CorruptBatch(f"a control record: {error}") from error
    return int.from_bytes(records[at + 2 : at + 4], "big")
