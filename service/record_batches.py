"""Kafka's record batches (message format 2) as columns: bytes in, keys, values, offsets and times out.

A client builds an object for every record, which takes four fifths of its time. Here the varints of all records of a
fetch are decoded at once with numpy, and only the keys and values become Python objects. What a batch looks like:
https://kafka.apache.org/documentation/#recordbatch. `N`: records, `B`: batches.

Exact, or it raises: a record's length must lead to the next record's first byte and its fields must end where it
ends. Batches for which the fast way cannot show that are read record by record.
"""

import struct
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import numpy as np
from crc32c import crc32c
from numpy.typing import NDArray

Int64s = NDArray[np.int64]
Bytes = NDArray[np.uint8]
Decompress = Callable[[int, memoryview], bytes]

# base offset, length, leader epoch, magic, crc, attributes, last offset delta, base and max timestamp, producer id and
# epoch, base sequence, records
HEADER = struct.Struct(">qiibIhiqqqhii")
LENGTH_END = 12  # the length counts from here
MAGIC_AT = 16
CRC_FROM = 21
CODEC, LOG_APPEND_TIME, TRANSACTIONAL, CONTROL = 0x07, 0x08, 0x10, 0x20
ABORT_MARKER = 0


class CorruptBatch(Exception):
    """The bytes are not what the format says."""


class Columns(NamedTuple):
    """N records in offset order. times_ms: the broker's append time where the topic says so, else the producer's."""

    keys: list[bytes | None]
    values: list[bytes | None]
    offsets: Int64s
    times_ms: Int64s


class _Batch(NamedTuple):
    base_offset: int
    base_time_ms: int
    append_time_ms: int | None
    leader_epoch: int
    size: int  # in records
    records: bytes | memoryview


class _Index(NamedTuple):
    """Where N records' keys and values lie in the bytes (an end of -1: null), and their deltas."""

    key_starts: Int64s
    key_ends: Int64s
    value_starts: Int64s
    value_ends: Int64s
    offset_deltas: Int64s
    time_deltas: Int64s


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
        self, data: bytes | memoryview, fetch_offset: int, aborted: Iterable[tuple[int, int]], decompress: Decompress
    ) -> None:
        self.next_offset = fetch_offset
        self.leader_epoch = -1
        self.exhausted = False
        self._error: CorruptBatch | None = None
        self._end_offset = fetch_offset
        self._end_epoch = -1
        batches = self._readable(memoryview(data), sorted(aborted), decompress)
        self._bytes = b"".join(batch.records for batch in batches)
        index, batches = self._indexed(batches)
        counts = [batch.size for batch in batches]
        self._index = index
        self._offsets = index.offset_deltas + np.repeat(_int64s(b.base_offset for b in batches), counts)
        own_times = index.time_deltas + np.repeat(_int64s(b.base_time_ms for b in batches), counts)
        append_times = np.repeat(_int64s(-1 if b.append_time_ms is None else b.append_time_ms for b in batches), counts)
        stamped = np.repeat(np.array([b.append_time_ms is not None for b in batches], dtype=np.bool_), counts)
        self._times_ms = np.where(stamped, append_times, own_times)
        self._epochs = [batch.leader_epoch for batch in batches]
        self._batch_ends = np.cumsum(counts)
        wanted = self._offsets >= fetch_offset  # a fetch from the middle of a batch brings all of it
        self._taken = int(wanted.argmax()) if wanted.any() else len(wanted)

    def take(self, limit: int | None = None) -> Columns:
        """The next records, at most `limit`; fewer only at the end, which sets `exhausted`."""
        if self._error is not None and self._taken == len(self._offsets):
            raise self._error
        first, total = self._taken, len(self._offsets)
        last = total if limit is None else min(first + limit, total)
        self._taken = last
        if last == total and self._error is None:
            self.exhausted = True
            self.next_offset, self.leader_epoch = self._end_offset, self._end_epoch
        elif last > first:
            self.next_offset = int(self._offsets[last - 1]) + 1
            self.leader_epoch = self._epochs[int(np.searchsorted(self._batch_ends, last - 1, side="right"))]
        index = self._index
        return Columns(
            _slices(self._bytes, index.key_starts[first:last], index.key_ends[first:last]),
            _slices(self._bytes, index.value_starts[first:last], index.value_ends[first:last]),
            self._offsets[first:last],
            self._times_ms[first:last],
        )

    def _readable(self, data: memoryview, aborted: list[tuple[int, int]], decompress: Decompress) -> list[_Batch]:
        """The batches whose records are to be handed out; stops at a corrupt one."""
        batches: list[_Batch] = []
        aborting: set[int] = set()
        try:
            for start, end in _bounds(data):
                base, _, epoch, magic, crc, attributes, last_delta, time, max_time, producer, _, _, count = (
                    HEADER.unpack_from(data, start) if end - start >= HEADER.size else _too_short(data, start, end)
                )
                if magic != 2:
                    raise CorruptBatch(f"batch at offset {base}: format {magic}, expected 2")
                if crc32c(data[start + CRC_FROM : end]) != crc:
                    raise CorruptBatch(f"batch at offset {base}: its checksum is not that of its bytes")
                records = data[start + HEADER.size : end]
                while aborted and producer >= 0 and aborted[0][0] <= base + last_delta:
                    aborting.add(aborted.pop(0)[1])
                if attributes & CONTROL:
                    if producer in aborting and _control_type(records) == ABORT_MARKER:
                        aborting.discard(producer)
                elif not (attributes & TRANSACTIONAL and producer in aborting):
                    codec = attributes & CODEC
                    appended = max_time if attributes & LOG_APPEND_TIME else None
                    plain = decompress(codec, records) if codec else records
                    batches.append(_Batch(base, time, appended, epoch, count, plain))
                self._end_offset, self._end_epoch = base + last_delta + 1, epoch
        except CorruptBatch as error:
            self._error = error
        return batches

    def _indexed(self, batches: list[_Batch]) -> tuple[_Index, list[_Batch]]:
        """The index of all records, and the batches it covers: those before a corrupt one."""
        index = _fast_index(self._bytes, batches)
        if index is not None:
            return index, batches
        rows: list[tuple[int, int, int, int, int, int]] = []
        start = 0
        for number, batch in enumerate(batches):
            end = start + len(batch.records)
            try:
                rows += _exact_rows(self._bytes, start, end, batch)
            except CorruptBatch as error:
                self._error = error
                batches = batches[:number]
                break
            start = end
        columns = np.array(rows, dtype=np.int64).reshape(-1, 6).T
        return _Index(*columns), batches


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
    data = bytes(records)
    at = _varint(data, 0)[1] + 1  # length, attributes
    for _ in range(3):  # time delta, offset delta, key length
        at = _varint(data, at)[1]
    return int.from_bytes(data[at + 2 : at + 4], "big")


def _fast_index(data: bytes, batches: list[_Batch]) -> _Index | None:
    """Decode the varints of all records at once; None where anything does not add up."""
    total = sum(batch.size for batch in batches)
    if total == 0 or any(batch.size < 0 for batch in batches):
        return None
    padded = np.frombuffer(data + bytes(16), dtype=np.uint8)
    starts = _guessed_starts(data, padded, total)
    if starts is None:
        starts = _walked_starts(data, total)
    if starts is None:
        return None
    ends = np.append(starts[1:], len(data))
    firsts = np.cumsum([0] + [batch.size for batch in batches])[:-1]
    borders = np.cumsum([0] + [len(batch.records) for batch in batches])[:-1]
    if not np.array_equal(np.append(starts, len(data))[firsts], borders):
        return None
    _, at = _varints(padded, starts)
    if (padded[at] >= 0x80).any():  # attributes: one byte, unused
        return None
    time_deltas, at = _varints(padded, at + 1)
    offset_deltas, at = _varints(padded, at)
    key_lengths, key_starts = _varints(padded, at)
    key_ends = key_starts + np.maximum(key_lengths, 0)
    value_lengths, value_starts = _varints(padded, key_ends)
    value_ends = value_starts + np.maximum(value_lengths, 0)
    headers, at = _varints(padded, value_ends)
    # Each field lies behind the one before it, so only the last can reach past the record's end.
    whole = (key_ends >= key_starts) & (value_ends >= value_starts) & (headers >= 0)
    whole &= np.where(headers == 0, at == ends, at < ends)
    if not whole.all():
        return None
    key_ends[key_lengths < 0] = -1
    value_ends[value_lengths < 0] = -1
    return _Index(key_starts, key_ends, value_starts, value_ends, offset_deltas, time_deltas)


def _guessed_starts(data: bytes, padded: Bytes, total: int) -> Int64s | None:
    """Where the records start, if they all end like the first (a JSON value's last byte, no headers), else None.

    A guess, then a proof: every record's length must lead exactly to the next one's start.
    """
    length, at = _varint(data, 0)
    first_end = at + length
    if not 2 <= first_end <= len(data) or data[first_end - 1] != 0:
        return None
    ends = np.flatnonzero((padded[1 : len(data)] == 0) & (padded[: len(data) - 1] == data[first_end - 2])) + 2
    if len(ends) != total:
        return None
    starts = np.concatenate(([0], ends[:-1]))
    lengths, at_body = _varints(padded, starts)
    return starts if np.array_equal(at_body + lengths, ends) else None


def _walked_starts(data: bytes, total: int) -> Int64s | None:
    """Where the records start, from length to length; None if they do not fill the bytes exactly."""
    starts = []
    at = 0
    try:
        for _ in range(total):
            starts.append(at)
            low = data[at]
            if low < 0x80:
                at += 1 + (low >> 1)
            else:
                length, body = _varint(data, at)
                at = body + length
    except (IndexError, CorruptBatch):
        return None
    return np.array(starts, dtype=np.int64) if at == len(data) else None


def _varints(padded: Bytes, at: Int64s) -> tuple[Int64s, Int64s]:
    """Decode N zigzag varints at N places: the values, and the places after them. Places out of range give nonsense."""
    limit = len(padded) - 1
    byte = padded[np.clip(at, 0, limit)]
    raw = (byte & 0x7F).astype(np.uint64)
    after = at + 1
    more = np.flatnonzero(byte >= 0x80)
    shift = 7
    while len(more) and shift < 64:
        byte = padded[np.clip(after[more], 0, limit)]
        raw[more] |= (byte & 0x7F).astype(np.uint64) << np.uint64(shift)
        after[more] += 1
        more = more[byte >= 0x80]
        shift += 7
    return ((raw >> np.uint64(1)) ^ (~(raw & np.uint64(1)) + np.uint64(1))).view(np.int64), after


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """Decode one zigzag varint: the value, and the place after it."""
    raw = shift = 0
    while True:
        if at >= len(data) or shift > 63:
            raise CorruptBatch(f"a number at byte {at} does not end")
        byte = data[at]
        at += 1
        raw |= (byte & 0x7F) << shift
        if byte < 0x80:
            return (raw >> 1) ^ -(raw & 1), at
        shift += 7


def _exact_rows(data: bytes, start: int, end: int, batch: _Batch) -> list[tuple[int, int, int, int, int, int]]:
    """The index of one batch, record by record and header by header."""
    rows = []
    at = start
    for _ in range(batch.size):
        length, body = _varint(data, at)
        _, at = _varint(data, body)  # attributes
        time_delta, at = _varint(data, at)
        offset_delta, at = _varint(data, at)
        key, at = _field(data, at)
        value, at = _field(data, at)
        headers, at = _varint(data, at)
        for _ in range(headers):
            name, at = _field(data, at)
            if name[1] < 0:
                raise CorruptBatch(f"batch at offset {batch.base_offset}: a header without a name")
            _, at = _field(data, at)
        if headers < 0 or at - body != length or at > end:
            raise CorruptBatch(f"batch at offset {batch.base_offset}: a record of {at - body} bytes says {length}")
        rows.append((*key, *value, offset_delta, time_delta))
    if at != end:
        raise CorruptBatch(f"batch at offset {batch.base_offset}: {end - at} bytes after its {batch.size} records")
    return rows


def _field(data: bytes, at: int) -> tuple[tuple[int, int], int]:
    """Start and end (-1: null) of a field with its length before it, and the place after it."""
    length, start = _varint(data, at)
    return ((start, -1), start) if length < 0 else ((start, start + length), start + length)


def _slices(data: bytes, starts: Int64s, ends: Int64s) -> list[bytes | None]:
    pairs = zip(starts.tolist(), ends.tolist(), strict=True)
    if (ends < 0).any():
        return [None if end < 0 else data[start:end] for start, end in pairs]
    return [data[start:end] for start, end in pairs]


def _int64s(values: Iterable[int]) -> Int64s:
    return np.fromiter(values, dtype=np.int64)
