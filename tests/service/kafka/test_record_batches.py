"""Record batches as columns: the same as what the client's own decoder makes of the same bytes."""

import contextlib
import hashlib
import struct
import tracemalloc
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import lz4.frame
import numpy as np
import pytest
import snappy
from crc32c import crc32c
from hypothesis import given, settings
from hypothesis import strategies as st
from kafka.codec import gzip_encode, lz4_encode, snappy_encode, zstd_encode
from kafka.consumer.fetcher import Fetcher
from kafka.errors import CorruptRecordError
from kafka.protocol.consumer import IsolationLevel
from kafka.record import MemoryRecords
from kafka.record.default_records import DefaultRecordBatchBuilder
from kafka.record.util import decode_varint
from kafka.structs import TopicPartition

from service.kafka.record_batches import HEADER, BatchReader, CorruptBatch, all_of_format_2
from service.kafka.record_fields import HEADER_COST, MAX_HEADERS
from service.kafka.record_windows import Bounds
from service.log.port import Cut, KeptHeaders, Unreadable

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


def batch(
    messages: Sequence[Message], codec: int = 0, producer: int = -1, extra_attributes: int = 0, last_offset: int = -1
) -> bytes:
    """A batch as a broker stores it: base offset, last offset and attributes set, checksum computed again."""
    builder = DefaultRecordBatchBuilder(2, codec, producer >= 0, producer, 0, 0 if producer >= 0 else -1, 1 << 31)
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
    data: bytes,
    fetch_offset: int,
    aborted: Sequence[Aborted] = (),
    limit: int | None = None,
    max_bytes: int | None = None,
    bounds: Bounds | None = None,
) -> tuple[list[Row], int, int]:
    reader = BatchReader(data, fetch_offset, [(a.first_offset, a.producer_id) for a in aborted], bounds)
    rows: list[Row] = []
    while not reader.exhausted:
        columns = reader.take(limit, max_bytes)
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


@pytest.mark.slow
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
    reader = BatchReader(good + bytes(bad), 0, [])
    assert len(reader.take().keys) == 5
    assert (reader.next_offset, reader.exhausted) == (5, False)
    with pytest.raises(CorruptBatch, match="offset 5: its checksum"):
        reader.take()
    with pytest.raises(CorruptRecordError):
        theirs(bytes(bad), 5)


# --- what a producer may seal into a batch


def read_all(data: bytes, fetch_offset: int = 0, limit: int | None = None, bounds: Bounds | None = None) -> list[Row]:
    return ours(data, fetch_offset, limit=limit, bounds=bounds)[0]


@pytest.mark.parametrize("limit", [None, 1, 4])
@pytest.mark.parametrize(("at", "value", "good"), [(61, 0x04, 0), (61, 0xFF, 0), (65, 0x7E, 0), (62, 0x80, 5)])
def test_records_that_do_not_add_up_come_as_one_and_reading_carries_on_behind_them(
    at: int, value: int, good: int, limit: int | None
) -> None:
    """A byte changed before the checksum was made: lengths that lead nowhere; attributes are not looked at."""
    before, bad, after = batch(json_messages(5)), bytearray(batch(json_messages(5, 5))), batch(json_messages(5, 10))
    bad[at] = value
    spoilt = sealed(bad)
    rows = read_all(before + spoilt + after, limit=limit)
    assert rows[:5] == theirs(before, 0)[0]
    assert rows[-5:] == theirs(after, 10)[0]
    if good:
        assert len(rows) == 15
        return
    ((key, value_, offset, _),) = rows[5:-5]
    assert isinstance(value_, Unreadable)
    assert (key, offset, bytes(value_), value_.size) == (None, 5, spoilt, len(spoilt))
    assert value_.sha256 == hashlib.sha256(spoilt).hexdigest()
    assert value_.detail.startswith("offsets 5 to 9: the batch cannot be read: ")


def test_records_before_what_cannot_be_read_are_handed_out() -> None:
    messages = json_messages(5)
    bad = bytearray(batch(messages))
    at = bad.index(b"sensor-000003") - 1
    bad[at] = 0x7E
    rows = read_all(sealed(bad) + batch(json_messages(2, 5)))
    assert [row[2] for row in rows] == [0, 1, 2, 3, 5, 6]
    assert isinstance(rows[3][1], Unreadable)
    assert "offsets 3 to 4: " in rows[3][1].detail
    assert [row[2] for row in read_all(sealed(bad), 3)] == [3]
    assert read_all(sealed(bad), 4) == []


@pytest.mark.parametrize("count", [4, 6, 0x01000005])
def test_a_batch_that_counts_its_records_wrongly_loses_none_that_has_an_offset(count: int) -> None:
    bad = bytearray(batch(json_messages(5)))
    struct.pack_into(">i", bad, 57, count)
    rows = read_all(sealed(bad) + batch(json_messages(1, 5)))
    assert [row[2] for row in rows] == [0, 1, 2, 3, 4, 5]
    assert isinstance(rows[4][1], Unreadable) == (count == 4)


def test_an_offset_beyond_its_batch_is_not_believed() -> None:
    """A broker takes it, of a batch that is not compressed; the next batch begins behind the count of its records."""
    bad = bytearray(batch([Message(0, 1, b"k", b"v", [])]))
    bad[64] = 0x0A  # its offset delta: 5
    rows = read_all(sealed(bad) + batch(json_messages(3, 1)))
    assert [row[2] for row in rows] == [0, 1, 2, 3]
    assert isinstance(rows[0][1], Unreadable)


def compressed(codec: int, records: bytes, count: int) -> bytes:
    """A batch of `count` records with these bytes as what is compressed."""
    data = bytearray(batch(json_messages(count))[: HEADER.size]) + records
    struct.pack_into(">i", data, 8, len(data) - 12)
    return sealed(data, codec)


def records_of(count: int) -> bytes:
    return batch(json_messages(count))[HEADER.size :]


Encode = Callable[[bytes], bytes]
LEGAL: dict[str, tuple[int, Encode]] = {
    "gzip and what is none": (1, lambda records: gzip_encode(records) + b"what is none"),
    "two members of gzip": (1, lambda records: gzip_encode(records[:90]) + gzip_encode(records[90:])),
    "lz4 and what is none": (3, lambda records: lz4_encode(records) + b"what is none"),
    "linked blocks of lz4": (3, lambda records: lz4.frame.compress(records, block_linked=True)),
    "two frames of zstd": (4, lambda records: zstd_encode(records[:90]) + zstd_encode(records[90:])),
    "a frame of zstd to be skipped": (
        4,
        lambda records: struct.pack("<II", 0x184D2A50, 4) + b"skip" + zstd_encode(records),
    ),
    "one block of snappy": (2, snappy.compress),
    "two streams of snappy": (2, lambda records: snappy_encode(records[:90]) + snappy_encode(records[90:])),
}


@pytest.mark.parametrize("name", LEGAL)
def test_what_brokers_take_is_read(name: str) -> None:
    codec, encode = LEGAL[name]
    after = batch(json_messages(2, 9))
    assert (
        read_all(compressed(codec, encode(records_of(9)), 9) + after) == theirs(batch(json_messages(9)) + after, 0)[0]
    )


ILLEGAL: dict[str, tuple[int, Encode]] = {
    "not gzip": (1, lambda records: b"not gzip"),
    "gzip without its end": (1, lambda records: gzip_encode(records)[:-30]),
    "not snappy": (2, lambda records: b"\xff" * 40),
    "snappy that says it is four gigabytes": (
        2,
        lambda records: b"\xff\xff\xff\xff\x0f" + snappy.compress(records)[2:],
    ),
    "a block of snappy without its end": (2, lambda records: snappy_encode(records)[:-30]),
    "not lz4": (3, lambda records: b"not lz4"),
    "lz4 without its end": (3, lambda records: lz4_encode(records)[:-30]),
    "a wrong checksum in lz4": (3, lambda records: lz4.frame.compress(records, content_checksum=True)[:-1] + b"?"),
    "not zstd": (4, lambda records: b"not zstd"),
    "zstd without its end": (4, lambda records: zstd_encode(records)[:-30]),
    "nothing": (4, lambda records: b""),
}


@pytest.mark.parametrize("name", ILLEGAL)
def test_what_cannot_be_decompressed_is_one_record_and_reading_carries_on_behind_it(name: str) -> None:
    codec, encode = ILLEGAL[name]
    spoilt = compressed(codec, encode(records_of(9)), 9)
    rows = read_all(spoilt + batch(json_messages(2, 9)))
    unreadable = [row for row in rows if isinstance(row[1], Unreadable)]
    assert [row[2] for row in rows[-3:]] == [unreadable[0][2], 9, 10]
    assert len(unreadable) == 1
    assert rows == read_all(spoilt + batch(json_messages(2, 9)), limit=1)


def test_a_codec_that_is_not_known_is_refused() -> None:
    with pytest.raises(CorruptBatch, match="codec 5, expected one of 0 to 4"):
        read_all(compressed(5, b"new", 9))


def attributes_at(data: bytes) -> list[int]:
    """Where the attributes of each record lie, in a batch that is not compressed."""
    places, at = [], HEADER.size
    while at < len(data):
        length, body = decode_varint(data, at)
        places.append(body)
        at = body + length
    return places


@pytest.mark.slow
@settings(max_examples=200, deadline=None)
@given(st.integers(61, 400), st.integers(0, 255))
def test_a_changed_byte_is_read_as_the_client_reads_it_or_said_to_be_unreadable(at: int, value: int) -> None:
    whole = batch([*json_messages(4), Message(4, 5, b"k", b"v", [("name", b"value")])])
    data = bytearray(whole)
    at = min(at, len(data) - 1)
    data[at] = value
    rows, next_offset, _ = ours(sealed(data), 0)
    assert next_offset == 5
    assert [row[2] for row in rows] == list(range(len(rows)))
    if at in attributes_at(whole):  # a byte, of which the client makes a varint
        assert rows == theirs(whole, 0)[0]
    elif len(rows) == 5 and not isinstance(rows[4][1], Unreadable):
        with contextlib.suppress(CorruptRecordError, UnicodeDecodeError):  # it decodes headers, too
            assert rows == theirs(sealed(data), 0)[0]


# --- what is held at once

KIB, MIB = 1024, 1024 * 1024


@pytest.mark.thorough
@pytest.mark.slow
@settings(max_examples=200, deadline=None)
@given(partitions(), st.data())
def test_any_window_and_any_bound_of_a_take_read_the_same(
    case: tuple[bytes, list[Aborted], int], data: st.DataObject
) -> None:
    bytes_, aborted, end = case
    fetch_offset = data.draw(st.integers(struct.unpack_from(">q", bytes_)[0], end))
    window = data.draw(st.integers(1, 400))
    limit, max_bytes = data.draw(st.integers(1, 9)), data.draw(st.integers(1, 1_000))
    found = ours(bytes_, fetch_offset, aborted, limit, max_bytes, Bounds(1_000_000, window))
    assert found == theirs(bytes_, fetch_offset, aborted)


@pytest.mark.thorough
@pytest.mark.slow
@settings(max_examples=200, deadline=None)
@given(partitions(), st.integers(1, 400), st.integers(20, 600))
def test_of_a_record_over_the_bound_the_beginning_is_kept_with_its_length_and_digest(
    case: tuple[bytes, list[Aborted], int], window: int, record_bytes: int
) -> None:
    bytes_, aborted, _ = case
    first = struct.unpack_from(">q", bytes_)[0]
    rows, next_offset, _ = ours(bytes_, first, aborted, bounds=Bounds(record_bytes, window))
    expected = theirs(bytes_, first, aborted)
    assert next_offset == expected[1]
    for row, whole in zip(rows, expected[0], strict=True):
        assert row[2:] == whole[2:]
        for found, all_of_it, share in ((row[0], whole[0], 4), (row[1], whole[1], 2)):
            if isinstance(found, Cut):
                assert all_of_it is not None
                assert found == all_of_it[: record_bytes // share]
                assert (found.size, found.sha256) == (len(all_of_it), hashlib.sha256(all_of_it).hexdigest())
            else:
                assert found == all_of_it
    assert rows == ours(bytes_, first, aborted, bounds=Bounds(record_bytes, 10_000_000))[0]


def blanks(count: int, size: int, codec: int) -> bytes:
    """A batch of records that compress to almost nothing, between two that are readings."""
    reading = json_messages(1)[0]
    middle = [Message(n, reading.time_ms, b"k", b" " * size, []) for n in range(1, count + 1)]
    return batch([reading, *middle, reading._replace(offset=count + 1)], codec)


@pytest.mark.slow
@pytest.mark.parametrize("codec", [1, 2, 3, 4])
def test_a_batch_that_stands_for_far_more_than_it_is_takes_a_few_windows_of_memory(codec: int) -> None:
    data = blanks(2_000, 60 * KIB, codec)  # 117 MiB
    tracemalloc.start()
    reader = BatchReader(data, 0, [])
    count = 0
    while not reader.exhausted:
        columns = reader.take(20_000, 8 * MIB)
        assert sum(len(value or b"") for value in columns.values) <= 8 * MIB
        count += len(columns.keys)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 2_002
    assert peak < 48 * MIB + 2 * len(data)


@pytest.mark.slow
@pytest.mark.parametrize("codec", [0, 1, 2, 3, 4])
def test_a_record_over_the_bound_is_never_held_whole_and_its_neighbours_come(codec: int) -> None:
    data = blanks(1, 100 * MIB if codec in (1, 3, 4) else 10 * MIB, codec)
    size = 100 * MIB if codec in (1, 3, 4) else 10 * MIB
    tracemalloc.start()
    rows = read_all(data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [row[2] for row in rows] == [0, 1, 2]
    value = rows[1][1]
    assert isinstance(value, Cut)
    assert (value, value.size) == (b" " * MIB, size)
    assert value.sha256 == hashlib.sha256(b" " * size).hexdigest()
    assert [rows[0][1], rows[2][1]] == [json_messages(1)[0].value] * 2
    assert peak < 32 * MIB + 2 * len(data)


# --- headers


@pytest.mark.parametrize("codec", [0, 4])
@pytest.mark.parametrize("window", [1, 100, 4 * MIB])
def test_the_headers_of_a_record_are_found_by_its_offset(codec: int, window: int) -> None:
    headers: list[tuple[str, bytes | None]] = [("a", b"1"), ("", b""), ("a", None), ("ü" * 40, b"x" * 200)]
    messages = [message._replace(headers=headers[: n % 5]) for n, message in enumerate(json_messages(20))]  # type: ignore[arg-type]
    reader = BatchReader(batch(messages[:11], codec) + batch(messages[11:], codec), 3, [], Bounds(10_000, window))
    seen = []
    while not reader.exhausted:
        columns = reader.take(6)
        seen += [(offset, columns.headers(offset)) for offset in columns.offsets.tolist()]
    assert seen == [(n, KeptHeaders(tuple(headers[: n % 5]))) for n in range(3, 20)]


def test_a_name_that_is_not_utf_8_is_kept_readable() -> None:
    data = bytearray(batch([Message(0, 1, b"k", b"v", [("name", b"value")])]))
    at = data.index(b"name")
    data[at : at + 2] = b"\xff\xfe"
    columns = BatchReader(sealed(data), 0, []).take()
    assert columns.headers(0) == KeptHeaders((("\\xff\\xfeme", b"value"),))


@pytest.mark.parametrize("bounds", [Bounds(), Bounds(100_000)])
def test_of_a_million_headers_the_first_are_kept_and_the_others_counted(bounds: Bounds) -> None:
    reader = BatchReader(batch([Message(0, 1, b"k", b"v", [("", b"")] * 200_000)]), 0, [], bounds)
    columns = reader.take()
    assert (columns.keys, columns.values) == ([b"k"], [b"v"])
    assert columns.headers(0) == KeptHeaders((("", b""),) * MAX_HEADERS, 200_000 - MAX_HEADERS)


def test_a_header_that_is_too_large_is_left_out_with_those_behind_it() -> None:
    headers = [("small", b"1"), ("large", b"x" * 900_000), ("other", b"2")]
    columns = BatchReader(batch([Message(0, 1, b"k", b"v", headers)]), 0, [], Bounds(100_000)).take()
    assert columns.headers(0) == KeptHeaders((("small", b"1"),), 2)


def test_headers_count_for_what_a_take_may_bring() -> None:
    messages = [message._replace(headers=[("", b"")] * 100) for message in json_messages(50)]
    reader = BatchReader(batch(messages), 0, [])
    assert len(reader.take(None, 100 * HEADER_COST * 5).keys) == 4
    assert len(reader.take(None, 1).keys) == 1


def test_an_older_format_is_recognised() -> None:
    data = bytearray(batch(json_messages(2)))
    assert all_of_format_2(bytes(data))
    data[16] = 1
    assert not all_of_format_2(batch(json_messages(2)) + bytes(data))


def test_columns_are_int64() -> None:
    columns = BatchReader(batch(json_messages(3)), 0, []).take()
    assert columns.offsets.dtype == columns.times_ms.dtype == np.int64
