"""Windows of records: as many of a batch, or of a few small ones, as are decompressed and decoded at once.

A record that is larger than `Bounds.record_bytes` is read through and held in part. `N`: records.
"""

import hashlib
from bisect import bisect_right
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from models.data.arrays import Int64s
from service.kafka.inflating import CODECS, BadCompression
from service.kafka.record_fields import (
    HEADER_COST,
    LONGEST_VARINT,
    MAX_HEADERS,
    BadRecords,
    Index,
    fields,
    guessed_starts,
    headers_between,
    int64s,
    padded_bytes,
    sizes_of,
    slices,
    varint,
    walked_starts,
)
from service.log.port import Cut, KeptHeaders, Unreadable

WINDOW_BYTES = 4 * 1024 * 1024
LARGE_RECORDS = 512  # bytes, on average: to walk over so few records costs less than to look at all their bytes


class Bounds(NamedTuple):
    """How much is held at once. record_bytes: a larger record is held in part, up to half of that of its value."""

    record_bytes: int = 2 * 1024 * 1024
    window_bytes: int = WINDOW_BYTES


class RecordColumns(NamedTuple):
    """N records in offset order. times_ms: the broker's append time where the topic says so, else the producer's.

    headers: finds those of the record at an offset. size: bytes that they take, about.
    """

    keys: list[bytes | None]
    values: list[bytes | None]
    offsets: Int64s
    times_ms: Int64s
    headers: Callable[[int], KeptHeaders]
    size: int


class Batch(NamedTuple):
    """What a batch's header says of its records, and their bytes."""

    base_offset: int
    last_offset: int
    base_time_ms: int
    max_time_ms: int
    appended: bool  # its records have the broker's time, which is max_time_ms
    leader_epoch: int
    size: int  # in records
    codec: int
    records: memoryview  # as they are stored
    whole: memoryview  # with the batch's header


class Window:
    """Decoded records, taken from the first to the last."""

    def __init__(self, data: bytes, index: Index, batches: Sequence[Batch], counts: Sequence[int]) -> None:
        """counts: how many of the records are of each batch."""
        self._data = data
        self._index = index
        self._epochs = [batch.leader_epoch for batch in batches]
        self._batch_ends = np.cumsum(counts).tolist()
        self.offsets = index.offset_deltas + np.repeat(int64s(b.base_offset for b in batches), counts)
        times_ms = index.time_deltas + np.repeat(int64s(b.base_time_ms for b in batches), counts)
        if any(batch.appended for batch in batches):
            stamped = np.repeat(np.array([batch.appended for batch in batches], dtype=np.bool_), counts)
            times_ms = np.where(stamped, np.repeat(int64s(b.max_time_ms for b in batches), counts), times_ms)
        self._times_ms = times_ms
        self._sizes: Int64s | None = None
        self._taken = 0

    @property
    def left(self) -> int:
        return len(self.offsets) - self._taken

    @property
    def epoch(self) -> int:
        """Of the batch of the last record taken."""
        return self._epochs[bisect_right(self._batch_ends, self._taken - 1)]

    def begin_at(self, offset: int) -> bool:
        """Leave out what lies before an offset: a fetch from the middle of a batch brings all of it."""
        self._taken = int(np.searchsorted(self.offsets, offset))
        return self.left > 0

    def take(self, limit: int | None, max_bytes: int | None, at_least: int) -> RecordColumns:
        """The next records: at most `limit` of them and at most `max_bytes`, but no fewer than `at_least`."""
        first, index = self._taken, self._index
        last = len(self.offsets) if limit is None else min(first + limit, len(self.offsets))
        if self._sizes is None:
            self._sizes = sizes_of(index)
        before = int(self._sizes[first - 1]) if first else 0
        if max_bytes is not None and self._sizes[last - 1] - before > max_bytes:
            fitting = int(np.searchsorted(self._sizes, before + max_bytes, side="right"))
            last = max(first + at_least, fitting)
        self._taken = last
        return RecordColumns(
            slices(self._data, index.key_starts[first:last], index.key_ends[first:last]),
            slices(self._data, index.value_starts[first:last], index.value_ends[first:last]),
            self.offsets[first:last],
            self._times_ms[first:last],
            self.headers,
            int(self._sizes[last - 1]) - before if last > first else 0,
        )

    def headers(self, offset: int) -> KeptHeaders:
        n, index = int(np.searchsorted(self.offsets, offset)), self._index
        return headers_between(self._data, int(index.header_starts[n]), int(index.ends[n]), int(index.header_counts[n]))


class Single:
    """One record that is held in part, or what stands for records that cannot be told apart."""

    def __init__(self, columns: RecordColumns, epoch: int) -> None:
        self._columns = columns
        self.left = 1
        self.epoch = epoch

    def begin_at(self, offset: int) -> bool:
        return int(self._columns.offsets[0]) >= offset

    def take(self, limit: int | None, max_bytes: int | None, at_least: int) -> RecordColumns:  # noqa: ARG002
        if max_bytes is not None and self._columns.size > max_bytes and not at_least:
            return joined([])
        self.left = 0
        return self._columns


class OpenBatch:
    """A batch that is being decompressed: what is known of its records so far, and how to go on."""

    def __init__(self, batch: Batch, bounds: Bounds) -> None:
        self.batch = batch
        self.plain: bytes | memoryview = b""  # decompressed, and handed out up to `_at`
        self.done = False
        self._at = 0
        self._bounds = bounds
        self._left = batch.size  # records not handed out
        self._next_offset = batch.base_offset
        self._cannot_go_on: str | None = None
        self._pieces = CODECS[batch.codec](batch.records, bounds.window_bytes)
        self._ended_by: str | None = None
        self._coming = self._next_piece()
        self._more()

    @property
    def is_whole(self) -> bool:
        """Whether all of it could be decompressed at once."""
        return self._coming is None and self._ended_by is None

    def next_window(self) -> Window | Single | None:
        """The next records, as many as are decompressed; None at the end, or after it."""
        while self._left > 0 and self._cannot_go_on is None:
            try:
                record = self._complete_records() or self._large_record()
                if record is not None:
                    self.done = self._left == 0 and self._next_offset > self.batch.last_offset
                    return record
                if not self._more():
                    raise BadRecords(f"its records end where {self._left} more should follow")
            except BadRecords as error:
                self._cannot_go_on = self._ended_by or str(error)
        if self._cannot_go_on is None and (self._at < len(self.plain) or self._coming is not None):
            self._cannot_go_on = f"more bytes follow its {self.batch.size} records"
        unread = not self.done and self._cannot_go_on is not None and self._next_offset <= self.batch.last_offset
        self.done = True
        return self._unreadable(self._cannot_go_on or "") if unread else None

    def chunk(self, most: int) -> memoryview:
        """The next bytes, as many as there are at once."""
        if self._at == len(self.plain) and not self._more():
            raise BadRecords("its records end in the middle of one")
        some = memoryview(self.plain)[self._at : self._at + most]
        self._at += len(some)
        return some

    def _next_piece(self) -> bytes | memoryview | None:
        try:
            return next(self._pieces, None)
        except BadCompression as error:
            self._ended_by = str(error)
            return None

    def _more(self) -> bool:
        """Decompress a piece more; False: there is none."""
        if self._coming is None:
            return False
        rest = self.plain[self._at :]
        self.plain, self._at = b"".join((rest, self._coming)) if len(rest) else self._coming, 0
        self._coming = self._next_piece()
        return True

    def _complete_records(self) -> Window | None:
        """What lies ready; None where that is not one whole record, or the next one is too large for it."""
        starts, end = walked_starts(self.plain, self._at, self._left, self._bounds.record_bytes)
        if not starts:
            return None
        data = bytes(self.plain[self._at : end])
        begins = np.array(starts, dtype=np.int64) - self._at
        index, whole = fields(padded_bytes(data), begins, np.append(begins[1:], len(data)))
        offsets = self.batch.base_offset + index.offset_deltas
        whole &= (offsets > np.append(self._next_offset - 1, offsets[:-1])) & (offsets <= self.batch.last_offset)
        good = len(whole) if whole.all() else int(whole.argmin())
        if good < len(whole):
            self._cannot_go_on = f"record {self.batch.size - self._left + good + 1} in it does not add up"
        if good == 0:
            return None
        index = Index(*(column[:good] for column in index))
        self._at += int(index.ends[-1])
        self._left -= good
        self._next_offset = int(offsets[good - 1]) + 1
        return Window(data, index, [self.batch], [good])

    def _large_record(self) -> Single | None:
        """The next record, if it is too large to be held whole: read through to its end, and held in part."""
        if self._cannot_go_on is not None or self._at == len(self.plain):
            return None
        try:
            length, at = varint(self.plain, self._at)
        except BadRecords:
            if self._coming is None or len(self.plain) - self._at >= LONGEST_VARINT:
                raise
            return None
        if not 0 <= length < 1 << 31:
            raise BadRecords(f"a record of {length} bytes")
        if length <= self._bounds.record_bytes:
            return None
        self._at = at
        record, batch, most = _LargeRecord(self.chunk, length), self.batch, self._bounds.record_bytes
        record.pass_over(1)  # attributes
        time_ms = batch.base_time_ms + record.varint()
        offset = batch.base_offset + record.varint()
        key, value = record.field(most // 4), record.field(most // 2)
        headers = record.headers(most // 4)
        record.pass_over(record.left)
        if not self._next_offset <= offset <= batch.last_offset:
            raise BadRecords(f"a record with offset {offset}, expected {self._next_offset} to {batch.last_offset}")
        time_ms = batch.max_time_ms if batch.appended else time_ms if abs(time_ms) < 1 << 62 else -1
        self._left, self._next_offset = self._left - 1, offset + 1
        return self._single(offset, time_ms, key, value, headers)

    def _unreadable(self, why: str) -> Single:
        """What stands for all that is left of the batch."""
        first, last, whole = self._next_offset, self.batch.last_offset, self.batch.whole
        kept, digest = bytes(whole[: self._bounds.record_bytes // 2]), hashlib.sha256(whole).hexdigest()
        detail = f"offsets {first} to {last}: the batch cannot be read: {why}"
        return self._single(
            first, self.batch.max_time_ms, None, Unreadable(kept, len(whole), digest, detail), KeptHeaders()
        )

    def _single(
        self, offset: int, time_ms: int, key: bytes | None, value: bytes | None, headers: KeptHeaders
    ) -> Single:
        size = len(key or b"") + len(value or b"") + HEADER_COST * len(headers.kept)
        columns = RecordColumns([key], [value], int64s([offset]), int64s([time_ms]), lambda _: headers, size)
        return Single(columns, self.batch.leader_epoch)


class _LargeRecord:
    """Reads through the bytes of one record, and never past its end."""

    def __init__(self, chunk: Callable[[int], memoryview], length: int) -> None:
        self.left = length
        self._chunk = chunk

    def varint(self) -> int:
        raw = b""
        while not raw or raw[-1] >= 0x80:
            raw += self._bytes(1)
            if len(raw) > LONGEST_VARINT:
                break
        return varint(raw, 0)[0]

    def field(self, keep: int) -> bytes | None:
        """The next key or value; one of more than `keep` bytes as a Cut."""
        length = self.varint()
        if length < 0:
            return None
        kept = self._bytes(min(length, keep))
        if len(kept) == length:
            return kept
        digest = hashlib.sha256(kept)
        self.pass_over(length - len(kept), digest.update)
        return Cut(kept, length, digest.hexdigest())

    def headers(self, keep: int) -> KeptHeaders:
        """The first ones, up to `keep` bytes of them."""
        count = self.varint()
        if count < 0 or (count == 0) != (self.left == 0):
            raise BadRecords(f"{count} headers, and {self.left} bytes of them")
        kept: list[tuple[str, bytes | None]] = []
        while len(kept) < min(count, MAX_HEADERS):
            length = self.varint()
            if not 0 <= length <= keep:
                break
            name, keep = self._bytes(length), keep - length
            length = self.varint()
            if length > keep:
                break
            kept.append((name.decode(errors="backslashreplace"), self._bytes(length) if length >= 0 else None))
            keep -= max(0, length)
        return KeptHeaders(tuple(kept), count - len(kept))

    def pass_over(self, count: int, look: Callable[[memoryview], object] = lambda _: None) -> None:
        if count > self.left:
            raise BadRecords(f"a field of {count} bytes, {self.left} of its record are left")
        self.left -= count
        while count:
            some = self._chunk(count)
            look(some)
            count -= len(some)

    def _bytes(self, count: int) -> bytes:
        found: list[bytes] = []
        self.pass_over(count, lambda some: found.append(bytes(some)))
        return b"".join(found)


def joined(parts: Sequence[RecordColumns]) -> RecordColumns:
    """Columns one behind the other, in the order of their offsets."""
    if len(parts) == 1:
        return parts[0]
    firsts = [int(part.offsets[0]) for part in parts]
    return RecordColumns(
        [key for part in parts for key in part.keys],
        [value for part in parts for value in part.values],
        np.concatenate([part.offsets for part in parts]) if parts else int64s(()),
        np.concatenate([part.times_ms for part in parts]) if parts else int64s(()),
        lambda offset: parts[bisect_right(firsts, offset) - 1].headers(offset),
        sum(part.size for part in parts),
    )


def all_records(opened: Sequence[OpenBatch], record_bytes: int) -> Window | None:
    """All records of whole batches at once; None where anything does not add up, or one is too large."""
    batches = [one.batch for one in opened]
    total = sum(batch.size for batch in batches)
    data = b"".join(one.plain for one in opened)
    if not 0 < total < len(data) or any(batch.size < 0 for batch in batches):
        return None
    padded = padded_bytes(data)
    starts = guessed_starts(data, padded, total) if len(data) < LARGE_RECORDS * total else None
    if starts is None:
        walked, end = walked_starts(data, 0, total, record_bytes)
        if len(walked) < total or end < len(data):
            return None
        starts = np.array(walked, dtype=np.int64)
    ends = np.append(starts[1:], len(data))
    counts = np.array([batch.size for batch in batches])
    behind = np.cumsum(counts)
    if not np.array_equal(ends[behind - 1][counts > 0], np.cumsum([len(one.plain) for one in opened])[counts > 0]):
        return None
    index, whole = fields(padded, starts, ends)
    if not whole.all() or int((ends - starts).max()) > record_bytes:
        return None
    window = Window(data, index, batches, counts.tolist())
    lasts = np.repeat(int64s(batch.last_offset for batch in batches), counts)
    rise = (np.diff(window.offsets, prepend=batches[0].base_offset - 1) > 0).all()
    return window if rise and (window.offsets <= lasts).all() else None
