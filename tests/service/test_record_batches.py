"""Record batches as columns: the same as what the client's own decoder makes of the same bytes."""

import struct
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pytest
from crc32c import crc32c
from hypothesis import given, settings
from hypothesis import strategies as st
from kafka.codec import gzip_decode, lz4_decode, snappy_decode, zstd_decode
from kafka.consumer.fetcher import Fetcher
from kafka.errors import CorruptRecordError
from kafka.protocol.consumer import IsolationLevel
from kafka.record import MemoryRecords
from kafka.record.default_records import DefaultRecordBatchBuilder
from kafka.structs import TopicPartition

from service.record_batches import BatchReader, CorruptBatch, all_of_format_2

CODECS = {1: gzip_decode, 2: snappy_decode, 3: lz4_decode, 4: zstd_decode}
LOG_APPEND_TIME, CONTROL = 0x08, 0x20

Row = tuple[bytes | None, bytes | None, int, int]


class Aborted(NamedTuple):
    first_offset: int
    producer_id: int


class Message(NamedTuple):
    offset: int
    time_ms: int
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes]]


def decompress(codec: int, data: memoryview) -> bytes:
    return bytes(CODECS[codec](bytes(data)))


def batch(
    messages: Sequence[Message], codec: int = 0, producer: int = -1, extra_attributes: int = 0, last_offset: int = -1
) -> bytes:
    """A batch as a broker stores it: base offset, last offset and attributes set, checksum anew."""
    builder = DefaultRecordBatchBuilder(2, codec, producer >= 0, producer, 0, 0 if producer >= 0 else -1, 1 << 24)
    base = messages[0].offset
    for m in messages:
        builder.append(m.offset - base, m.time_ms, m.key, m.value, m.headers)
    data = bytearray(builder.build())
    struct.pack_into(">q", data, 0, base)
    struct.pack_into(">i", data, 12, 5)  # leader epoch
    struct.pack_into(">i", data, 23, max(last_offset, messages[-1].offset) - base)
    return sealed(data, extra_attributes)


def sealed(data: bytearray, extra_attributes: int = 0) -> bytes:
    attributes = struct.unpack_from(">h", data, 21)[0] | extra_attributes
    struct.pack_into(">h", data, 21, attributes)
    struct.pack_into(">I", data, 17, crc32c(bytes(data[21:])))
    return bytes(data)


def marker(offset: int, producer: int, committed: bool) -> bytes:
    key, value = struct.pack(">hh", 0, int(committed)), struct.pack(">hi", 0, 0)
    return batch([Message(offset, 1, key, value, [])], 0, producer, CONTROL)


def theirs(data: bytes, fetch_offset: int, aborted: Sequence[Aborted] = ()) -> tuple[list[Row], int, int]:
    """What the client hands out: rows, next offset, leader epoch."""
    records: Any = Fetcher.PartitionRecords(
        fetch_offset,
        TopicPartition("t", 0),
        MemoryRecords(data),
        isolation_level=IsolationLevel.READ_COMMITTED,
        aborted_transactions=list(aborted),
    )
    rows = [(r.key, r.value, r.offset, r.timestamp) for r in records.take(None)]
    if records:
        records.take(None)  # raises what it has put off
    return rows, records.next_fetch_offset, records.leader_epoch


def ours(
    data: bytes, fetch_offset: int, aborted: Sequence[Aborted] = (), limit: int | None = None
) -> tuple[list[Row], int, int]:
    reader = BatchReader(data, fetch_offset, [(a.first_offset, a.producer_id) for a in aborted], decompress)
    rows: list[Row] = []
    while not reader.exhausted:
        columns = reader.take(limit)
        assert limit is None or len(columns.keys) <= limit
        rows += zip(columns.keys, columns.values, columns.offsets.tolist(), columns.times_ms.tolist(), strict=True)
        if not reader.exhausted:
            assert reader.next_offset == rows[-1][2] + 1
    return rows, reader.next_offset, reader.leader_epoch


def json_messages(count: int, start: int = 0) -> list[Message]:
    return [
        Message(
            start + i,
            1_700_000_000_000 + i * 37,
            b"sensor-%06d" % i,
            b'{"timestamp":%d,"values":[1.5,%d]}' % (i, i),
            [],
        )
        for i in range(count)
    ]


short_bytes = st.one_of(
    st.none(), st.binary(max_size=80), st.just(b'{"value":1}'), st.binary(min_size=60, max_size=300)
)
# The client's own builder refuses what is beyond its buffers, so times stay in a range that brokers take.
times = st.one_of(st.integers(0, 2**41), st.integers(1_700_000_000_000, 1_700_000_100_000))


@st.composite
def partitions(draw: st.DrawFn) -> tuple[bytes, list[Aborted], int]:
    """The bytes of a fetch response: batches with gaps, codecs, headers, transactions; what was aborted; the end."""
    data, offset = b"", draw(st.integers(0, 2**40))
    aborted: list[Aborted] = []
    open_since: dict[int, int] = {}
    for _ in range(draw(st.integers(1, 5))):
        offset += draw(st.integers(0, 3))
        if draw(st.booleans()) and open_since:
            producer = draw(st.sampled_from(sorted(open_since)))
            committed = draw(st.booleans())
            if not committed:
                aborted.append(Aborted(open_since[producer], producer))
            del open_since[producer]
            data += marker(offset, producer, committed)
            offset += 1
            continue
        messages = []
        for _ in range(draw(st.integers(1, 12))):
            headers = draw(st.lists(st.tuples(st.text(max_size=5), st.binary(max_size=5)), max_size=2))
            messages.append(Message(offset, draw(times), draw(short_bytes), draw(short_bytes), headers))
            offset += draw(st.sampled_from([1, 1, 1, 2, 70]))
        producer = draw(st.sampled_from([-1, 7, 8]))
        if producer >= 0:
            open_since.setdefault(producer, messages[0].offset)
        append_time = draw(st.sampled_from([0, LOG_APPEND_TIME]))
        data += batch(messages, draw(st.integers(0, 4)), producer, append_time, offset - 1)
    aborted += [Aborted(first, producer) for producer, first in open_since.items() if draw(st.booleans())]
    return data, aborted, offset


@settings(max_examples=200, deadline=None)
@given(partitions(), st.data())
def test_every_fetch_reads_as_the_client_reads_it(case: tuple[bytes, list[Aborted], int], data: st.DataObject) -> None:
    bytes_, aborted, end = case
    first = struct.unpack_from(">q", bytes_)[0]
    fetch_offset = data.draw(st.integers(first, end))
    limit = data.draw(st.one_of(st.none(), st.integers(1, 9)))
    cut = data.draw(st.sampled_from([0, 0, 1, 30]))
    bytes_ = bytes_[: len(bytes_) - cut]
    assert all_of_format_2(bytes_)
    assert ours(bytes_, fetch_offset, aborted, limit) == theirs(bytes_, fetch_offset, aborted)


@pytest.mark.parametrize("codec", range(5))
def test_regular_batches_of_every_codec(codec: int) -> None:
    data = b"".join(batch(json_messages(300, start), codec) for start in (0, 300, 600))
    rows, next_offset, epoch = ours(data, 450)
    assert rows == theirs(data, 450)[0]
    assert (len(rows), next_offset, epoch) == (450, 900, 5)


def test_bytes_that_look_like_a_record_end_do_not_mislead() -> None:
    tricky = [Message(i, 1, b"k}\x00", b'{"a":"}\x00}\x00"}' * (i % 3), []) for i in range(50)]
    data = batch(tricky)
    assert ours(data, 0) == theirs(data, 0)


def test_a_record_without_key_and_value() -> None:
    data = batch([Message(3, 9, None, None, []), Message(4, 9, None, b"", [])])
    assert ours(data, 3)[0] == [(None, None, 3, 9), (None, b"", 4, 9)]


def test_a_batch_that_compaction_has_emptied_moves_the_offset_on() -> None:
    data = bytearray(batch(json_messages(1))[:61])
    struct.pack_into(">i", data, 8, 61 - 12)
    struct.pack_into(">i", data, 23, 9)
    struct.pack_into(">i", data, 57, 0)
    assert ours(sealed(data), 0) == ([], 10, 5)
    assert ours(sealed(data) + batch(json_messages(2, 10)), 0) == theirs(sealed(data) + batch(json_messages(2, 10)), 0)


def test_a_wrong_checksum_is_refused_after_the_records_before_it() -> None:
    good, bad = batch(json_messages(5)), bytearray(batch(json_messages(5, 5)))
    bad[-3] ^= 1
    reader = BatchReader(good + bytes(bad), 0, [], decompress)
    assert len(reader.take().keys) == 5
    assert (reader.next_offset, reader.exhausted) == (5, False)
    with pytest.raises(CorruptBatch, match="offset 5: its checksum"):
        reader.take()
    with pytest.raises(CorruptRecordError):
        theirs(bytes(bad), 5)


@pytest.mark.parametrize(("at", "value"), [(61, 0x04), (61, 0xFF), (65, 0x7E), (57, 0x01), (60, 0x06)])
def test_records_that_do_not_add_up_are_refused(at: int, value: int) -> None:
    """A byte changed before the checksum was made: lengths that lead nowhere, counts that are wrong."""
    good, bad = batch(json_messages(5)), bytearray(batch(json_messages(5, 5)))
    bad[at] = value
    reader = BatchReader(good + sealed(bad), 0, [], decompress)
    assert len(reader.take().keys) == 5
    with pytest.raises(CorruptBatch, match=r"offset 5|number"):
        reader.take()


@settings(max_examples=200, deadline=None)
@given(st.integers(61, 400), st.integers(0, 255))
def test_a_changed_byte_is_read_as_the_client_reads_it_or_refused_by_both(at: int, value: int) -> None:
    data = bytearray(batch([*json_messages(4), Message(4, 5, b"k", b"v", [("name", b"value")])]))
    data[min(at, len(data) - 1)] = value
    whole = sealed(data)
    try:
        expected = theirs(whole, 0)
    except (CorruptRecordError, UnicodeDecodeError):
        expected = None
    try:
        found = ours(whole, 0)
    except CorruptBatch:
        assert expected is None
    else:
        assert expected is None or found == expected


def test_an_older_format_is_recognised() -> None:
    data = bytearray(batch(json_messages(2)))
    assert all_of_format_2(bytes(data))
    data[16] = 1
    assert not all_of_format_2(batch(json_messages(2)) + bytes(data))


def test_columns_are_int64() -> None:
    columns = BatchReader(batch(json_messages(3)), 0, [], decompress).take()
    assert columns.offsets.dtype == columns.times_ms.dtype == np.int64
