"""Bytes to readings and rejects, and back: whatever a producer writes, it harms no other record."""

import gzip
import itertools
import json
import math
import struct
import uuid
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import UNSET

from models.data.rfc3339 import rfc3339
from models.data.stream_key import MAX_KEY_BYTES, flaw_of
from models.data.time_units import MAX_TIMESTAMP_MS
from models.detection.alarm import Change, OpenedBy, Severity
from models.detection.detector import Fate, Readings, Transition, Verdicts
from models.detection.kinds import Guess, Kind
from service.input.events import Event, decode_event, encode_event, event
from service.input.flaws import MAX_VALUE
from service.input.reading_batch import ReadingBatch, StreamKey
from service.input.reasons import Reason
from service.input.rejects import Reject, dead_letter
from service.input.wire import MAX_VALUE_BYTES, Decoder, encode_reading
from service.log.port import Fetched, Partition, Record
from tests.fuzzing import INPUTS
from tests.records import headers_of
from tests.service.input.walking import harmed

FEATURES = ("flow", "pressure")
HERE = Partition("plant.readings", 3)
NOW_MS = 1_790_000_000_000
DAY_MS = 86_400_000
YEAR_MS = 365 * DAY_MS
VALID = b'{"timestamp":1790000000000,"values":{"flow":1.5,"pressure":-2e3}}'


def fetched(
    values: Sequence[bytes | None], keys: Sequence[bytes | None] | None = None, times_ms: Sequence[int] | None = None
) -> Fetched:
    """Records at offsets 10, 13, 16, ...; without timestamps unless told."""
    count = len(values)
    return Fetched(
        HERE,
        list(keys) if keys is not None else [b"pump"] * count,
        list(values),
        np.arange(count, dtype=np.int64) * 3 + 10,
        np.array(times_ms if times_ms is not None else [-1] * count, dtype=np.int64),
        3 * count + 10,
        3 * count + 10,
    )


def decoder(features: Sequence[str] = FEATURES) -> Decoder:
    return Decoder(features, DAY_MS, max_past_ms=30 * YEAR_MS)


def read(value: bytes, features: Sequence[str] = FEATURES) -> tuple[int, list[float]]:
    """Time and values of a message that can be read."""
    batch, rejects = decoder(features).decode(fetched([value]))
    assert rejects == []
    return int(batch.readings.times_ms[0]), batch.readings.values[0].tolist()


def refused(value: bytes | None, features: Sequence[str] = FEATURES, key: bytes | None = b"pump") -> tuple[Reason, str]:
    """Why a record cannot be read."""
    batch, (reject,) = decoder(features).decode(fetched([value], [key]))
    assert batch.keys == []
    assert reject.record == 0
    return reject.reason, reject.detail.partition("; input.topics.")[0]  # test_hints.py has the rest


def same(found: Sequence[float], expected: Sequence[float]) -> bool:
    """Equal to the bit, NaN and the sign of zero too."""
    return struct.pack(f"{len(found)}d", *found) == struct.pack(f"{len(expected)}d", *expected)


# --- what is accepted


@pytest.mark.parametrize(
    ("value", "features", "expected"),
    [
        (b'{"timestamp":1,"values":{"flow":1.5,"pressure":2}}', FEATURES, [1.5, 2.0]),
        (b'{"timestamp":1,"values":{"pressure":2,"flow":1.5}}', FEATURES, [1.5, 2.0]),
        (b'{"values":{"flow":1.5,"pressure":2},"timestamp":1}', FEATURES, [1.5, 2.0]),
        (b'{"timestamp":1,"values":[1.5,2]}', FEATURES, [1.5, 2.0]),
        (b'{"timestamp":1,"value":1.5}', ["flow"], [1.5]),
        (b'{"timestamp":1,"values":[1.5]}', ["flow"], [1.5]),
        (b'{"timestamp":1,"values":{"flow":1.5}}', ["flow"], [1.5]),
        (b' {\n"timestamp" : 1 ,\t"values": [ 1.5 , 2 ]\r}\n', FEATURES, [1.5, 2.0]),
        (b'{"timestamp":1,"values":[-0.0,1e-50]}', FEATURES, [-0.0, 1e-50]),
        (b'{"timestamp":1,"values":[3.4e38,-3.4e38]}', FEATURES, [3.4e38, -3.4e38]),
        (b'{"timestamp":1,"values":[9007199254740993,1E2]}', FEATURES, [9007199254740992.0, 100.0]),
        ('{"timestamp":1,"values":{"\\u00b0C":1,"Δp":2}}'.encode(), ["°C", "Δp"], [1.0, 2.0]),
        (b'{"timestamp":1,"values":{"values":1,"value":2,"f0":3}}', ["values", "value", "f0"], [1.0, 2.0, 3.0]),
    ],
)
def test_every_form_of_values_is_read(value: bytes, features: Sequence[str], expected: list[float]) -> None:
    time_ms, values = read(value, features)
    assert time_ms == 1
    assert same(values, expected)


@pytest.mark.parametrize(
    ("written", "time_ms"),
    [
        ("0", 0),
        ("1790000000000", 1_790_000_000_000),
        ("1790000000000.75", 1_790_000_000_000),
        ("1.79e12", 1_790_000_000_000),
        (str(MAX_TIMESTAMP_MS), MAX_TIMESTAMP_MS),
        ('"1970-01-01T00:00:00Z"', 0),
        ('"2026-01-31T23:59:00Z"', 1_769_903_940_000),
        ('"2026-01-31t23:59:00.5z"', 1_769_903_940_500),
        ('"2026-01-31T23:59:00.123456Z"', 1_769_903_940_123),
        ('"2026-02-01T01:59:00+02:00"', 1_769_903_940_000),
        ('"2026-01-31T18:29:00-05:30"', 1_769_903_940_000),
        ('"9999-12-31T23:59:59.999Z"', MAX_TIMESTAMP_MS),
    ],
)
def test_every_form_of_timestamp_is_read(written: str, time_ms: int) -> None:
    assert read(f'{{"timestamp":{written},"values":[1,2]}}'.encode())[0] == time_ms


@pytest.mark.parametrize(
    ("value", "features", "expected"),
    [
        (b'{"timestamp":1,"values":{"flow":null,"pressure":2}}', FEATURES, [math.nan, 2.0]),
        (b'{"timestamp":1,"values":[1,null]}', FEATURES, [1.0, math.nan]),
        (b'{"timestamp":1,"values":[null,null]}', FEATURES, [math.nan, math.nan]),
        (b'{"timestamp":1,"value":null}', ["flow"], [math.nan]),
    ],
)
def test_null_is_a_missing_value(value: bytes, features: Sequence[str], expected: list[float]) -> None:
    assert same(read(value, features)[1], expected)


@pytest.mark.parametrize(
    "value",
    [
        b'{"timestamp":1,"values":[1,2],"unit":"bar"}',
        b'{"deep":{"a":[[[{"b":null}]]]},"timestamp":1,"values":[1,2],"":0}',
        b'{"timestamp":1,"values":{"flow":1,"pressure":2,"colour":"red","__proto__":{}}}',
        b'{"timestamp":1,"timestamp_unit":"ms","values":[1,2],"Value":"x"}',
    ],
)
def test_unknown_fields_are_ignored(value: bytes) -> None:
    assert read(value) == (1, [1.0, 2.0])


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b'{"timestamp":1,"timestamp":2,"values":[1,2]}', (2, [1.0, 2.0])),
        (b'{"timestamp":1,"values":[1,2],"values":{"flow":3,"pressure":4}}', (1, [3.0, 4.0])),
        (b'{"timestamp":1,"values":{"flow":1,"pressure":2,"flow":9}}', (1, [9.0, 2.0])),
    ],
)
def test_of_a_key_written_twice_the_last_counts(value: bytes, expected: tuple[int, list[float]]) -> None:
    assert read(value) == expected


@pytest.mark.parametrize(
    "key",
    [
        b"p",
        b"k" * MAX_KEY_BYTES,
        "°" * (MAX_KEY_BYTES // 2),
        "pompe n°1",
        "ポンプ/一号",
        b"42",
        b'a "quoted" name',
        b'"half quoted',
        b'"',
        b"{6F9619FF-8B86-D011-B42D-00CF4FC964FF}",
        b"[hall 3] pump",
        b"[hall 3]",
        b"$SYS/broker/uptime",
        "\u202eright-to-left",
        b'quote" brace}',
        b"../../etc/passwd",
        b"<script>alert(1)</script>",
        b"__proto__",
        b" ",
    ],
)
def test_any_text_of_1_to_256_bytes_names_a_stream(key: bytes | str) -> None:
    name = key.encode() if isinstance(key, str) else key
    batch, rejects = decoder().decode(fetched([VALID], [name]))
    assert (batch.keys, rejects) == ([name], [])


# --- what is not, and why


TEXT = "expected the stream's name as text, as a StringSerializer writes it (Kafka Connect: StringConverter)"
EXTRACT = "Kafka Connect's ExtractField$Key takes a field out of it"
REGISTRY = (
    "the key begins with a zero byte and the schema id 7, as the Avro, Protobuf and JSON Schema serializers of a schema"
    f" registry write it: {TEXT}"
)


@pytest.mark.parametrize(
    ("key", "reason", "detail"),
    [
        (None, Reason.MISSING_KEY, "the record has no key, expected the stream's name"),
        (b"", Reason.BAD_KEY, "key of 0 bytes, expected 1 to 256"),
        (b"k" * 257, Reason.BAD_KEY, "key of 257 bytes, expected 1 to 256"),
        (b"k" * 1_000_000, Reason.BAD_KEY, "key of 1000000 bytes, expected 1 to 256"),
        (b"\xff", Reason.BAD_KEY, "the key is not UTF-8"),
        ("pompe n°1".encode("latin-1"), Reason.BAD_KEY, "the key is not UTF-8"),
        (b"\xc0\xaf", Reason.BAD_KEY, "the key is not UTF-8"),
        (b"\xed\xa0\x80", Reason.BAD_KEY, "the key is not UTF-8"),
        (b"cr\r\nlf", Reason.BAD_KEY, rf"the key cr\x0d\x0alf has the control character U+000D at character 2: {TEXT}"),
        (b"pump-1\n", Reason.BAD_KEY, rf"the key pump-1\x0a has the control character U+000A at character 6: {TEXT}"),
        (b"\x7f", Reason.BAD_KEY, rf"the key \x7f has the control character U+007F at character 0: {TEXT}"),
        (b"a\xc2\x85", Reason.BAD_KEY, rf"the key a\x85 has the control character U+0085 at character 1: {TEXT}"),
        (b"\x0cpump-1", Reason.BAD_KEY, rf"the key \x0cpump-1 has the control character U+000C at character 0: {TEXT}"),
        (b"\0\0\0\7", Reason.BAD_KEY, f"the key is 4 bytes, as the integer 7 is serialized: {TEXT}"),
        (bytes(7) + b"A", Reason.BAD_KEY, f"the key is 8 bytes, as the integer 65 is serialized: {TEXT}"),
        (b"\0\0\0\0\7\x0cpump-1", Reason.BAD_KEY, REGISTRY),
        (b"\0\0\0\0\7\x04p1", Reason.BAD_KEY, REGISTRY),
        (b"\0\0\0\0\7\xe8\x07" + b"p" * 200, Reason.BAD_KEY, REGISTRY),
        (
            b'"pump-1"',
            Reason.BAD_KEY,
            f'the key "pump-1" is in JSON quotes, as a JSON serializer writes a text: {TEXT}',
        ),
        (b'{"id":1}', Reason.BAD_KEY, f'the key {{"id":1}} is a JSON object: {TEXT}; {EXTRACT}'),
        (b' ["a", 1] ', Reason.BAD_KEY, f'the key  ["a", 1]  is a JSON array: {TEXT}; {EXTRACT}'),
    ],
)
def test_a_key_that_names_no_stream_is_refused(key: bytes | None, reason: Reason, detail: str) -> None:
    assert refused(VALID, key=key) == (reason, detail)


@pytest.mark.parametrize(
    ("value", "reason", "detail"),
    [
        (None, Reason.MISSING_VALUE, "the record has no value"),
        (b"x" * 65_537, Reason.TOO_LARGE, "65537 bytes, expected at most 65536"),
        (b"", Reason.BAD_JSON, "Input data was truncated; the value is empty"),
        (b"[]", Reason.BAD_JSON, "Expected `object`, got `array`"),
        (b"readings", Reason.BAD_JSON, "JSON is malformed: invalid character (byte 0)"),
        (b"{}", Reason.BAD_TIMESTAMP, "Object missing required field `timestamp`"),
        (
            b'{"timestamp":-1,"values":[1,2]}',
            Reason.BAD_TIMESTAMP,
            "timestamp -1 ms, expected 0 to 253402300799999",
        ),
        (
            b'{"timestamp":"2026-01-31T23:59:00","values":[1,2]}',
            Reason.BAD_TIMESTAMP,
            "timestamp 2026-01-31T23:59:00 has no offset from UTC",
        ),
        (b'{"timestamp":1}', Reason.WRONG_FEATURES, 'no "values", expected flow, pressure'),
        (
            b'{"timestamp":1,"values":[1,2,3]}',
            Reason.WRONG_FEATURES,
            "3 values, the checkpoint expects 2: flow, pressure",
        ),
        (b'{"timestamp":1,"value":1}', Reason.WRONG_FEATURES, "1 values, the checkpoint expects 2: flow, pressure"),
        (
            b'{"timestamp":1,"values":{"flow":1}}',
            Reason.WRONG_FEATURES,
            "Object missing required field `pressure` - at `$.values`",
        ),
        (
            b'{"timestamp":1,"values":[1,"2"]}',
            Reason.NOT_A_NUMBER,
            "Expected `float | null`, got `str` - at `$.values[1]`",
        ),
        (
            b'{"timestamp":1,"values":{"flow":1,"pressure":true}}',
            Reason.NOT_A_NUMBER,
            "Expected `float | null`, got `bool` - at `$.values.pressure`",
        ),
        (
            b'{"timestamp":1,"values":[1,-1e39]}',
            Reason.OUT_OF_RANGE,
            "pressure is -1e+39, expected at most 3.4e+38 either side of 0",
        ),
    ],
)
def test_a_reject_says_what_was_found_and_what_was_expected(value: bytes | None, reason: Reason, detail: str) -> None:
    assert refused(value) == (reason, detail)


def test_a_reading_from_the_future_of_its_record_is_refused() -> None:
    def decode(ahead_ms: int, record_ms: int = NOW_MS) -> tuple[ReadingBatch, list[Reject]]:
        value = encode_reading(FEATURES, NOW_MS + ahead_ms, [1.0, 2.0])
        return decoder().decode(fetched([value], times_ms=[record_ms]))

    assert decode(DAY_MS)[1] == []
    assert decode(-20 * DAY_MS)[1] == []
    (reject,) = decode(DAY_MS + 1)[1]
    assert reject.reason == Reason.FUTURE_TIMESTAMP
    assert reject.detail == (
        f"timestamp {NOW_MS + DAY_MS + 1} is 86400 s ahead of its record's, expected at most 86400 s"
        " (limits.max_future_s)"
    )
    assert decode(400 * DAY_MS, record_ms=-1)[1] == []


SECONDS_READ = "timestamp 1767571200 looks like seconds: expected milliseconds; as milliseconds it is"


@pytest.mark.parametrize(
    ("written", "record_ms", "reason", "detail"),
    [
        (
            "1767571200",
            NOW_MS,
            Reason.PAST_TIMESTAMP,
            (
                f"{SECONDS_READ} 1970-01-21T10:59:31.200Z, 1788232429 s behind its record's, "
                "expected at most 946080000 s (limits.max_past_s)"
            ),
        ),
        ("1767571200.25", NOW_MS, Reason.PAST_TIMESTAMP, None),
        (
            "1767571200",
            -1,
            Reason.PAST_TIMESTAMP,
            f"{SECONDS_READ} 1970-01-21T10:59:31.200Z, and its record has no time",
        ),
        (
            "1767571200000000",
            NOW_MS,
            Reason.BAD_TIMESTAMP,
            "timestamp 1767571200000000 looks like microseconds: expected milliseconds",
        ),
        ("1767571200000000.5", -1, Reason.BAD_TIMESTAMP, None),
        (
            "1767571200000000000",
            -1,
            Reason.BAD_TIMESTAMP,
            "timestamp 1767571200000000000 looks like nanoseconds: expected milliseconds",
        ),
        (
            '"1980-01-01T00:00:00Z"',
            NOW_MS,
            Reason.PAST_TIMESTAMP,
            (
                "timestamp 315532800000; as milliseconds it is 1980-01-01T00:00:00.000Z, "
                "1474467200 s behind its record's, expected at most 946080000 s (limits.max_past_s)"
            ),
        ),
    ],
)
def test_a_time_far_from_its_records_is_refused_and_the_likely_unit_is_named(
    written: str, record_ms: int, reason: Reason, detail: str | None
) -> None:
    bad = b'{"timestamp":%b,"values":[1,2]}' % written.encode()
    batch, (reject,) = decoder().decode(fetched([VALID, bad, VALID], times_ms=[NOW_MS, record_ms, NOW_MS]))
    assert (reject.record, reject.reason) == (1, reason)
    assert len(batch.keys) == 2
    found = reject.detail.partition("; input.topics.")[0]
    assert "looks like" in found if detail is None else found == detail


def test_a_history_of_thirty_years_is_read() -> None:
    oldest = NOW_MS - 30 * YEAR_MS
    values = [encode_reading(FEATURES, time, [1.0, 2.0]) for time in (oldest, oldest - 1)]
    batch, (reject,) = decoder().decode(fetched(values, times_ms=[NOW_MS] * 2))
    assert batch.readings.times_ms.tolist() == [oldest]
    assert (reject.record, reject.reason) == (1, Reason.PAST_TIMESTAMP)


def test_a_clock_that_begins_at_zero_is_read_where_records_have_no_time() -> None:
    batch, rejects = Decoder(FEATURES, DAY_MS).decode(fetched([b'{"timestamp":1767571200,"values":[1,2]}']))
    assert (batch.readings.times_ms.tolist(), rejects) == ([1_767_571_200], [])


NESTED = b'{"timestamp":1,"values":[1,2],"x":%b}'
CORPUS: dict[str, tuple[bytes, Reason]] = {
    # nothing, or nothing like an object
    "white space": (b" \t\r\n", Reason.BAD_JSON),
    "null": (b"null", Reason.BAD_JSON),
    "a scalar": (b"1.5", Reason.BAD_JSON),
    "a string": (b'"pump"', Reason.BAD_JSON),
    "an array of messages": (b"[" + VALID + b"]", Reason.BAD_JSON),
    # almost JSON
    "two documents": (VALID + VALID, Reason.BAD_JSON),
    "trailing garbage": (VALID + b"x", Reason.BAD_JSON),
    "a comment": (VALID + b" // note", Reason.BAD_JSON),
    "a trailing comma": (b'{"timestamp":1,"values":[1,2],}', Reason.BAD_JSON),
    "single quotes": (b"{'timestamp':1,'values':[1,2]}", Reason.BAD_JSON),
    "bare keys": (b"{timestamp:1,values:[1,2]}", Reason.BAD_JSON),
    # encodings
    "latin-1": ('{"timestamp":1,"values":{"°C":1}}'.encode("latin-1"), Reason.WRONG_FEATURES),
    "utf-16": (VALID.decode().encode("utf-16"), Reason.BAD_JSON),
    "utf-32": (VALID.decode().encode("utf-32"), Reason.BAD_JSON),
    "a byte order mark": (b"\xef\xbb\xbf" + VALID, Reason.BAD_JSON),
    "an escaped lone surrogate": (NESTED % rb'"\ud800"', Reason.BAD_JSON),
    "a raw control character": (NESTED % b'"\x00"', Reason.BAD_JSON),
    # other formats
    "avro": (b"\x00\x00\x00\x00\x01" + b"\x02\x06foo", Reason.BAD_JSON),
    "gzip": (gzip.compress(VALID, mtime=0), Reason.BAD_JSON),
    "msgpack of another checkpoint": (
        b"\x82\xa9timestamp\x01\xa5value\xcb?\xf8\x00\x00\x00\x00\x00\x00",
        Reason.WRONG_FEATURES,
    ),
    "msgpack that breaks off": (b"\x82\xa9timestamp\x01\xa5value", Reason.BAD_MSGPACK),
    "the beginning of an Arrow stream": (b"\xff\xff\xff\xff\x10\x00\x00\x00", Reason.BAD_ARROW),
    "an Arrow file": (b"ARROW1\x00\x00" + bytes(40), Reason.BAD_ARROW),
    "xml": (b"<reading/>", Reason.BAD_JSON),
    # timestamps
    "no timestamp": (b'{"values":[1,2]}', Reason.BAD_TIMESTAMP),
    "a null timestamp": (b'{"timestamp":null,"values":[1,2]}', Reason.BAD_TIMESTAMP),
    "a boolean timestamp": (b'{"timestamp":true,"values":[1,2]}', Reason.BAD_TIMESTAMP),
    "a number as text for a timestamp": (b'{"timestamp":"1790000000000","values":[1,2]}', Reason.BAD_TIMESTAMP),
    "a date": (b'{"timestamp":"2026-01-31","values":[1,2]}', Reason.BAD_TIMESTAMP),
    "an empty timestamp": (b'{"timestamp":"","values":[1,2]}', Reason.BAD_TIMESTAMP),
    "the 31st of February": (b'{"timestamp":"2026-02-31T00:00:00Z","values":[1,2]}', Reason.BAD_TIMESTAMP),
    "before 1970": (b'{"timestamp":"1969-12-31T23:59:59.999Z","values":[1,2]}', Reason.BAD_TIMESTAMP),
    "the year 1": (b'{"timestamp":"0001-01-01T00:00:00+23:59","values":[1,2]}', Reason.BAD_TIMESTAMP),
    "after the year 9999": (b'{"timestamp":%d,"values":[1,2]}' % (MAX_TIMESTAMP_MS + 1), Reason.BAD_TIMESTAMP),
    "2 to the 53": (b'{"timestamp":9007199254740992,"values":[1,2]}', Reason.BAD_TIMESTAMP),
    "2 to the 64": (b'{"timestamp":18446744073709551616,"values":[1,2]}', Reason.BAD_TIMESTAMP),
    "a huge float as time": (b'{"timestamp":1e300,"values":[1,2]}', Reason.BAD_TIMESTAMP),
    "an infinite time": (b'{"timestamp":1e400,"values":[1,2]}', Reason.BAD_TIMESTAMP),
    "4300 digits of time": (b'{"timestamp":%b,"values":[1,2]}' % (b"9" * 4_300), Reason.BAD_TIMESTAMP),
    "60000 digits of time": (b'{"timestamp":%b,"values":[1,2]}' % (b"9" * 60_000), Reason.BAD_TIMESTAMP),
    # numbers
    "NaN": (b'{"timestamp":1,"values":[1,NaN]}', Reason.BAD_JSON),
    "Infinity": (b'{"timestamp":1,"values":[1,Infinity]}', Reason.BAD_JSON),
    "-Infinity": (b'{"timestamp":1,"values":[1,-Infinity]}', Reason.BAD_JSON),
    "1e400": (b'{"timestamp":1,"values":[1,1e400]}', Reason.NOT_A_NUMBER),
    "1e39, beyond float32": (b'{"timestamp":1,"values":[1,1e39]}', Reason.OUT_OF_RANGE),
    "5000 digits": (b'{"timestamp":1,"values":[1,%b]}' % (b"7" * 5_000), Reason.NOT_A_NUMBER),
    "400 digits": (b'{"timestamp":1,"values":[1,%b]}' % (b"7" * 400), Reason.NOT_A_NUMBER),
    "hexadecimal": (b'{"timestamp":1,"values":[1,0x1]}', Reason.BAD_JSON),
    "a leading zero": (b'{"timestamp":1,"values":[1,01]}', Reason.BAD_JSON),
    "a plus sign": (b'{"timestamp":1,"values":[1,+1]}', Reason.BAD_JSON),
    "a bare point": (b'{"timestamp":1,"values":[1,.5]}', Reason.BAD_JSON),
    "a decimal comma": (b'{"timestamp":1,"values":{"flow":1,"pressure":2,5}}', Reason.BAD_JSON),
    "a boolean": (b'{"timestamp":1,"values":[1,true]}', Reason.NOT_A_NUMBER),
    "a number as text": (b'{"timestamp":1,"values":[1,"2"]}', Reason.NOT_A_NUMBER),
    "an array for a number": (b'{"timestamp":1,"values":[1,[2]]}', Reason.NOT_A_NUMBER),
    "an object for a number": (b'{"timestamp":1,"values":{"flow":{},"pressure":1}}', Reason.NOT_A_NUMBER),
    # values
    "no values": (b'{"timestamp":1,"values":[]}', Reason.WRONG_FEATURES),
    "an empty object of values": (b'{"timestamp":1,"values":{}}', Reason.WRONG_FEATURES),
    "one value too few": (b'{"timestamp":1,"values":[1]}', Reason.WRONG_FEATURES),
    "ten thousand values": (b'{"timestamp":1,"values":[%b]}' % b",".join([b"1"] * 10_000), Reason.WRONG_FEATURES),
    "the wrong case": (b'{"timestamp":1,"values":{"Flow":1,"Pressure":2}}', Reason.WRONG_FEATURES),
    "null values": (b'{"timestamp":1,"values":null}', Reason.NOT_A_NUMBER),
    "values as text": (b'{"timestamp":1,"values":"1,2"}', Reason.NOT_A_NUMBER),
    "a number of values": (b'{"timestamp":1,"values":2}', Reason.NOT_A_NUMBER),
    # nesting
    "20000 arrays deep": (NESTED % (b"[" * 20_000 + b"]" * 20_000), Reason.BAD_JSON),
    "10000 objects deep": (NESTED % (b'{"a":' * 10_000 + b"1" + b"}" * 10_000), Reason.BAD_JSON),
    "65000 brackets": (b"[" * 65_000, Reason.BAD_JSON),
    "20000 deep where a number belongs": (
        b'{"timestamp":1,"values":[1,%b]}' % (b"[" * 20_000 + b"]" * 20_000),
        Reason.NOT_A_NUMBER,
    ),
    # sizes
    "1 MB": (b" " * 1_000_000 + VALID, Reason.TOO_LARGE),
    "10 MB": (NESTED % (b'"' + b"a" * 10_000_000 + b'"'), Reason.TOO_LARGE),
}


@pytest.mark.parametrize("name", CORPUS)
def test_a_bad_message_is_told_from_its_good_neighbours(name: str) -> None:
    value, reason = CORPUS[name]
    good = [encode_reading(FEATURES, 1_000 + n, [float(n), 0.5]) for n in range(3)]
    batch, (reject,) = decoder().decode(fetched([good[0], value, good[1], good[2]]))
    assert (reject.record, reject.reason) == (1, reason)
    assert reject.detail
    assert batch.readings.offsets.tolist() == [10, 16, 19]
    assert batch.readings.times_ms.tolist() == [1_000, 1_001, 1_002]
    assert batch.readings.values.tolist() == [[0.0, 0.5], [1.0, 0.5], [2.0, 0.5]]


@pytest.mark.parametrize(
    ("size", "accepted"), [(MAX_VALUE_BYTES - 1, True), (MAX_VALUE_BYTES, True), (MAX_VALUE_BYTES + 1, False)]
)
def test_a_message_may_have_64_kilobytes_and_not_one_more(size: int, accepted: bool) -> None:
    value = VALID + b" " * (size - len(VALID))
    if accepted:
        assert read(value) == (NOW_MS, [1.5, -2_000.0])
    else:
        assert refused(value)[0] == Reason.TOO_LARGE


def test_a_valid_message_cut_anywhere_is_refused() -> None:
    cuts: list[bytes | None] = [VALID[:n] for n in range(len(VALID))]
    batch, rejects = decoder().decode(fetched(cuts))
    assert batch.keys == []
    assert [reject.record for reject in rejects] == list(range(len(cuts)))
    assert {reject.reason for reject in rejects} == {Reason.BAD_JSON}


@pytest.mark.slow
def test_a_flipped_bit_anywhere_gives_a_reading_or_a_reject() -> None:
    flipped: list[bytes | None] = []
    for byte, bit in itertools.product(range(len(VALID)), range(8)):
        damaged = bytearray(VALID)
        damaged[byte] ^= 1 << bit
        flipped.append(bytes(damaged))
    batch, rejects = decoder().decode(fetched(flipped))
    assert len(batch.keys) + len(rejects) == len(flipped)
    assert torch.isfinite(batch.readings.values).all()
    for value in flipped:
        alone, why = decoder().decode(fetched([value]))
        assert len(alone.keys) + len(why) == 1


# --- good neighbours

finite = st.floats(-MAX_VALUE, MAX_VALUE)
numbers = st.one_of(finite, st.none(), st.integers(-(10**20), 10**20))
timestamps = st.one_of(
    st.integers(0, MAX_TIMESTAMP_MS),
    st.integers(300_000_000, 5_000_000_000),
    st.integers(NOW_MS - 31 * YEAR_MS, NOW_MS + 2 * DAY_MS),
    st.floats(0, float(MAX_TIMESTAMP_MS)),
    st.datetimes(datetime(1970, 1, 1), datetime(9999, 12, 31)).map(lambda at: at.isoformat() + "Z"),  # noqa: DTZ001
)


def messages(features: Sequence[str]) -> st.SearchStrategy[dict[str, Any]]:
    count = len(features)
    forms: list[st.SearchStrategy[dict[str, Any]]] = [
        st.fixed_dictionaries({"values": st.fixed_dictionaries(dict.fromkeys(features, numbers))}),
        st.fixed_dictionaries({"values": st.lists(numbers, min_size=count, max_size=count)}),
    ]
    if count == 1:
        forms.append(st.fixed_dictionaries({"value": numbers}))
    extra = st.dictionaries(st.sampled_from(["unit", "x", "source"]), st.one_of(st.none(), st.text(max_size=8)))
    return st.builds(lambda form, time, more: {"timestamp": time, **form, **more}, st.one_of(forms), timestamps, extra)


def encoded(features: Sequence[str]) -> st.SearchStrategy[bytes]:
    return messages(features).map(lambda message: json.dumps(message).encode())


keys = st.one_of(st.sampled_from([b"a", b"b", "ü".encode()]), st.text(min_size=1, max_size=64).map(str.encode))
keys = keys.filter(lambda key: flaw_of(key) is None)
bad_keys = st.one_of(
    st.none(),
    st.sampled_from([b"", b"\xff", b"k" * 257, b"\0\0\0\7", b"\x0cpump-1", b'"pump-1"', b"[1]", b"a\xc2\x80", b"\n"]),
    st.binary(max_size=8).filter(lambda key: flaw_of(key) is not None),
)
bad_values = st.one_of(
    st.none(), st.binary(max_size=40), st.sampled_from([v for v, _ in CORPUS.values() if len(v) < 1_000])
)


def records(features: Sequence[str]) -> st.SearchStrategy[list[tuple[bytes | None, bytes | None, int]]]:
    """(key, value, record time) of good and bad records in any mix."""
    good, times = encoded(features), st.sampled_from([-1, 0, 1_767_571_200, NOW_MS, MAX_TIMESTAMP_MS])
    return st.lists(
        st.one_of(
            st.tuples(keys, good, times),
            st.tuples(keys, good, st.just(-1)),
            st.tuples(keys, bad_values, times),
            st.tuples(bad_keys, good, times),
        ),
        min_size=1,
        max_size=12,
    )


def part_of(whole: Fetched, places: Sequence[int]) -> Fetched:
    return whole._replace(
        keys=[whole.keys[n] for n in places],
        values=[whole.values[n] for n in places],
        offsets=whole.offsets[list(places)],
        times_ms=whole.times_ms[list(places)],
    )


def agree_with_each_alone(features: Sequence[str], whole: Fetched) -> None:
    """What is decoded together is what each record decodes to by itself."""
    one = decoder(features)
    batch, rejects = one.decode(whole)
    assert batch.partition == HERE
    rejected = {reject.record: reject for reject in rejects}
    assert [reject.record for reject in rejects] == sorted(rejected)
    place = 0
    for n in range(len(whole.keys)):
        alone, why = one.decode(part_of(whole, [n]))
        if n in rejected:
            assert alone.keys == []
            assert why == [rejected[n]._replace(record=0)]
            continue
        assert why == []
        assert alone.keys == [batch.keys[place]]
        assert int(batch.readings.offsets[place]) == int(whole.offsets[n])
        assert int(batch.record_times_ms[place]) == int(whole.times_ms[n])
        assert alone.readings.times_ms[0] == batch.readings.times_ms[place]
        assert same(alone.readings.values[0].tolist(), batch.readings.values[place].tolist())
        place += 1
    assert place == len(batch.keys) == len(batch.readings.offsets) == len(batch.readings.values)


@pytest.mark.slow
@settings(deadline=None)
@given(st.data(), st.sampled_from([("flow",), FEATURES, ("value", "values", "timestamp")]))
def test_good_messages_decode_among_bad_ones_as_they_do_alone(data: st.DataObject, features: Sequence[str]) -> None:
    listed = data.draw(records(features))
    agree_with_each_alone(features, fetched(*map(list, zip(*listed, strict=True))))


@pytest.mark.slow
@settings(deadline=None)
@given(st.data(), st.sampled_from([("flow",), FEATURES]))
def test_a_flawless_batch_reads_the_same_with_a_bad_record_behind_it(
    data: st.DataObject, features: Sequence[str]
) -> None:
    values = data.draw(st.lists(encoded(features), min_size=1, max_size=12))
    of_files = Decoder(features, DAY_MS)
    flawless, no_rejects = of_files.decode(fetched(values))
    spoilt, (reject,) = of_files.decode(fetched([*values, b"{"]))
    assert no_rejects == []
    assert reject.record == len(values)
    assert flawless.keys == spoilt.keys
    for found, expected in zip(spoilt.readings, flawless.readings, strict=True):
        assert torch.equal(found.nan_to_num(7.0), expected.nan_to_num(7.0))


@pytest.mark.parametrize("write", [msgspec.json.encode, msgspec.msgpack.encode])
def test_a_message_may_say_that_its_stream_is_silent(write: Any) -> None:
    silent, reading = {"timestamp": NOW_MS, "silent": True}, {"timestamp": NOW_MS, "values": [1.0, 2.0]}
    batch, rejects = decoder().decode(fetched([write(one) for one in (reading, silent, {**reading, **silent})]))
    assert rejects == []
    assert [(end.key, end.time_ms) for end in batch.ends] == [(batch.keys[0], NOW_MS)]
    assert len(batch.keys) == 2, "values win"
    assert batch.ends[0].offset not in batch.readings.offsets.tolist()


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b'{"timestamp": %d, "silent": false}' % NOW_MS, Reason.WRONG_FEATURES),
        (b'{"timestamp": %d, "silent": "yes"}' % NOW_MS, Reason.WRONG_FEATURES),
        (b'{"silent": true}', Reason.BAD_TIMESTAMP),
        (b'{"timestamp": -1, "silent": true}', Reason.BAD_TIMESTAMP),
        (b'{"timestamp": %d, "silent": true}' % (NOW_MS + 10**10), Reason.FUTURE_TIMESTAMP),
        (b'{"timestamp": %d, "silent": true}' % (NOW_MS // 1000), Reason.PAST_TIMESTAMP),
    ],
)
def test_what_does_not_say_plainly_that_its_stream_is_silent_is_refused(value: bytes, reason: Reason) -> None:
    batch, (reject,) = decoder().decode(fetched([value], times_ms=[NOW_MS]))
    assert (batch.ends, reject.reason) == ((), reason)


class Said(msgspec.Struct, omit_defaults=True):
    """What matters in a message, of which the rest need not be text."""

    timestamp: Any = None
    silent: Any = None
    value: Any = UNSET
    values: Any = UNSET


@pytest.mark.slow
@pytest.mark.parametrize(
    ("write", "parse"),
    [
        (msgspec.json.encode, lambda value: json.loads(value.decode(errors="replace"))),
        (msgspec.msgpack.encode, lambda value: msgspec.to_builtins(msgspec.msgpack.decode(value, type=Said))),
    ],
    ids=["json", "msgpack"],
)
def test_no_bytes_end_a_stream_but_those_that_say_so(write: Any, parse: Any) -> None:
    rng, silent = Random(19), {"timestamp": NOW_MS, "silent": True}
    sound = [
        write(one)
        for one in (
            silent,
            {"silent": True, "note": "off", **silent},
            {**silent, "values": None},
            {"timestamp": NOW_MS},
        )
    ]
    values = [rng.choice((one, harmed(rng, one))) for one in rng.choices(sound, k=INPUTS)]
    batch, rejects = decoder().decode(fetched(values, times_ms=[NOW_MS] * INPUTS))
    ended = {(end.offset - 10) // 3: end.time_ms for end in batch.ends}
    assert ended.keys() | {one.record for one in rejects} == set(range(INPUTS))
    assert len(ended) + len(rejects) == INPUTS, "each is one or the other"
    for record, time_ms in ended.items():
        said = parse(values[record])
        assert (said["silent"], time_ms) == (True, int(said["timestamp"])), values[record]
        assert not said.keys() & {"value", "values"}, values[record]
    assert len(ended) > INPUTS / 20
    assert len(rejects) > INPUTS / 4


def test_a_message_with_value_and_values_reads_the_same_alone_and_among_others() -> None:
    both = b'{"timestamp":2,"value":2,"values":{"flow":99}}'
    agree_with_each_alone(["flow"], fetched([b'{"timestamp":1,"value":1}', both]))
    agree_with_each_alone(["flow"], fetched([both, b'{"timestamp":1,"value":1}']))


def test_messages_of_all_forms_stand_side_by_side() -> None:
    values = [b'{"timestamp":1,"value":1}', b'{"timestamp":1,"values":[2]}', b'{"timestamp":1,"values":{"flow":3}}']
    for order in itertools.permutations(values):
        agree_with_each_alone(["flow"], fetched(order))


@settings(deadline=None)
@given(st.binary(max_size=200), st.binary(max_size=20))
def test_whatever_the_bytes_there_is_a_reading_or_a_reject(value: bytes, key: bytes) -> None:
    batch, rejects = decoder().decode(fetched([value], [key]))
    assert len(batch.keys) + len(rejects) == 1


@pytest.mark.parametrize("name", ["timestamp", "timestamp_delta"])
def test_a_feature_whose_name_holds_timestamp_is_not_taken_for_one(name: str) -> None:
    value = json.dumps({"timestamp": 1, "values": {name: "x"}}).encode()
    assert refused(value, [name])[0] == Reason.NOT_A_NUMBER


@pytest.mark.parametrize("name", ["temp 'C'", "a/b", "größe", "f.1", "$x"])
def test_a_feature_may_have_any_name_that_a_forecaster_takes(name: str) -> None:
    assert read(encode_reading([name], 5, [1.5]), [name]) == (5, [1.5])


# --- readings, there and back


@settings(deadline=None)
@given(st.lists(st.one_of(finite, st.just(math.nan)), min_size=2, max_size=2), st.integers(0, MAX_TIMESTAMP_MS))
def test_a_reading_comes_back_as_it_was_sent(values: list[float], time_ms: int) -> None:
    batch, _ = Decoder(FEATURES, DAY_MS).decode(fetched([encode_reading(FEATURES, time_ms, values)]))
    found_ms, found = int(batch.readings.times_ms[0]), batch.readings.values[0].tolist()
    assert found_ms == time_ms
    assert same(found, [math.nan if math.isnan(value) else value for value in values])


def test_a_reading_is_sent_as_plain_json_with_null_for_what_is_missing() -> None:
    sent = json.loads(encode_reading(FEATURES, NOW_MS, [1.5, math.nan]))
    assert sent == {"timestamp": NOW_MS, "values": {"flow": 1.5, "pressure": None}}


# --- dead letters


def test_a_dead_letter_is_the_untouched_record_with_the_reason_in_its_headers() -> None:
    whole = fetched([VALID, b"\x00not json\xff"], [b"pump", b"\xfe"], [NOW_MS, NOW_MS + 5])
    _, (reject,) = decoder().decode(whole)
    assert dead_letter(whole, reject) == Record(
        b"\xfe",
        b"\x00not json\xff",
        (
            ("telltale-reason", b"bad_key"),
            ("telltale-detail", b"the key is not UTF-8"),
            ("telltale-topic", b"plant.readings"),
            ("telltale-partition", b"3"),
            ("telltale-offset", b"13"),
        ),
        NOW_MS + 5,
    )


def test_a_dead_letter_keeps_missing_parts_missing_and_its_detail_short() -> None:
    whole = fetched([None, b'{"timestamp":%b,"values":[1,2]}' % (b"9" * 4_000)], [None, b"pump"])
    _, rejects = decoder().decode(whole)
    first, second = (dead_letter(whole, reject) for reject in rejects)
    assert (first.key, first.value, first.time_ms) == (None, None, None)
    assert headers_of(first)["telltale-reason"] == b"missing_key"
    assert len(headers_of(second)["telltale-detail"]) == 1_024


# --- events

HEX = "0123456789abcdef" * 4
RETURNS_MS = (86_400_000.0, 60_000.0, 60_000.0, 7_500.0, 0.0, 0.0, 0.0, 0.0)
OPENED = Transition(
    1,
    Change.OPENED,
    Severity.MINOR,
    OpenedBy.PREDICTION,
    1.25,
    1.25,
    13,
    NOW_MS + 5_000,
    (0.75, 0.25),
    RETURNS_MS,
)


def anomaly_event(
    transition: Transition, keys: Sequence[bytes] = (b"pump", b"mill"), partition: Partition = HERE, digest: str = HEX
) -> Event:
    """A transition of the second of two readings."""
    readings = Readings(
        torch.tensor([10, 13]),
        torch.tensor([NOW_MS, NOW_MS + 5_000]),
        torch.tensor([[1.0, 2.0], [3.5, math.nan]], dtype=torch.float64),
    )
    batch = ReadingBatch(partition, [StreamKey(key) for key in keys], readings, np.array([-1, -1]), np.array([0, 0]))
    nothing = torch.zeros(2, dtype=torch.bool)
    band = torch.tensor([[1.0, 2.0], [2.5, math.nan]], dtype=torch.float64)
    verdicts = Verdicts(
        Fate(~nothing, nothing, nothing), torch.zeros(2), nothing, band, band - 1, band + 1, (transition,)
    )
    return event(batch, verdicts, transition, FEATURES, digest)


def test_an_event_says_what_was_observed_and_what_was_expected() -> None:
    data = json.loads(encode_event(anomaly_event(OPENED)).value or b"")["data"]
    assert uuid.UUID(data.pop("anomaly")).version == 5
    assert data.pop("channels") == [
        {"name": "flow", "observed": 3.5, "expected": 2.5, "lower": 1.5, "upper": 3.5, "share": 0.75},
        {"name": "pressure", "observed": None, "expected": None, "lower": None, "upper": None, "share": 0.25},
    ]
    assert data == {
        "stream": "mill",
        "status": "open",
        "severity": "minor",
        "kind": "prediction",
        "closed_as": None,
        "score": 1.25,
        "peak": 1.25,
        "opened_at": "2026-09-21T14:13:25.000Z",
        "closed_at": None,
        "return_period_s": 10_800.0,
        "witnesses": {"prediction": 86_400.0, "level": 60.0, "range": 60.0, "sudden": 7.5},
        "checkpoint": HEX,
        "topic": "plant.readings",
        "partition": 3,
        "offset": 13,
    }


@pytest.mark.parametrize(
    ("change", "kind", "status", "closed_as"),
    [
        (Change.OPENED, "opened", "open", None),
        (Change.UPDATED, "updated", "open", None),
        (Change.RECOVERED, "closed", "closed", "recovered"),
        (Change.LEVEL_SHIFT, "closed", "closed", "level_shift"),
    ],
)
def test_every_change_has_its_type_and_status(change: Change, kind: str, status: str, closed_as: str | None) -> None:
    one = anomaly_event(replace(OPENED, change=change))
    assert (one.type, one.change) == (f"telltale.anomaly.{kind}", kind)
    assert (one.data.status, one.data.closed_as) == (status, closed_as)
    assert one.data.closed_at == ("2026-09-21T14:13:25.000Z" if closed_as else None)


def test_the_range_rule_has_its_own_kind() -> None:
    assert anomaly_event(replace(OPENED, opened_by=OpenedBy.RANGE)).data.kind == "range"


@pytest.mark.parametrize("opened_by", OpenedBy)
def test_where_a_head_names_the_kind_what_opened_the_anomaly_is_told_beside_it(
    opened_by: OpenedBy,
) -> None:
    plain = replace(OPENED, opened_by=opened_by)
    named = replace(plain, guess=Guess(Kind.LEVEL_SHIFT, 0.875))
    before, after = (json.loads(encode_event(anomaly_event(one)).value or b"") for one in (plain, named))
    assert after["data"].pop("kind_probability") == 0.875
    assert after["data"].pop("opened_by") == before["data"]["kind"] == opened_by.name.lower()
    assert after["data"].pop("kind") == "level_shift"
    del before["data"]["kind"]
    assert after == before, "and nothing else is different"
    assert decode_event(encode_event(anomaly_event(named)).value or b"") == anomaly_event(named)


def test_an_event_is_a_cloudevent() -> None:
    record = encode_event(anomaly_event(OPENED))
    envelope = json.loads(record.value or b"")
    assert set(envelope) == {"specversion", "id", "source", "type", "subject", "time", "datacontenttype", "data"}
    assert envelope["specversion"] == "1.0"
    assert uuid.UUID(envelope["id"]).version == 5
    assert envelope["source"] == "/telltale/plant.readings"
    assert envelope["type"] == "telltale.anomaly.opened"
    assert datetime.fromisoformat(envelope["time"]) == datetime.fromtimestamp(NOW_MS / 1000 + 5, UTC)
    assert envelope["datacontenttype"] == "application/json"
    assert envelope["subject"].encode() == record.key == b"mill"
    assert record.headers == (("content-type", b"application/cloudevents+json"),)


@pytest.mark.parametrize("key", [b"mill", "Mühle n°1".encode(), b'\x1b[31m\r\n<b>"', b"a/opened/MINOR"])
@pytest.mark.parametrize("change", [Change.OPENED, Change.LEVEL_SHIFT])
def test_an_event_comes_back_as_it_was_sent(key: bytes, change: Change) -> None:
    one = anomaly_event(replace(OPENED, change=change), keys=(b"pump", key))
    assert decode_event(encode_event(one).value or b"") == one
    assert one.subject == one.data.stream == key.decode()


def test_a_transition_told_again_has_the_same_id_and_any_other_has_not() -> None:
    transitions = [
        replace(OPENED, change=change, severity=severity, opened_offset=opened)
        for change, severity in (
            (Change.OPENED, Severity.MINOR),
            (Change.UPDATED, Severity.MAJOR),
            (Change.UPDATED, Severity.CRITICAL),
            (Change.RECOVERED, Severity.CRITICAL),
        )
        for opened in (7, 13)
    ]
    elsewhere = [HERE, Partition("plant.readings", 4), Partition("other.readings", 3)]
    events = [
        anomaly_event(transition, (b"pump", key), partition)
        for transition in transitions
        for key in (b"mill", b"kiln")
        for partition in elsewhere
    ]
    ids = [one.id for one in events]
    assert len(set(ids)) == len(ids)
    again = anomaly_event(replace(transitions[0], score=9.9, peak=9.9), (b"pump", b"mill"), HERE, digest="0" * 64)
    assert again.id == ids[0]


def test_the_events_of_one_anomaly_name_the_same_anomaly() -> None:
    changes = (Change.OPENED, Change.UPDATED, Change.RECOVERED)
    assert len({anomaly_event(replace(OPENED, change=change)).data.anomaly for change in changes}) == 1
    assert anomaly_event(replace(OPENED, opened_offset=14)).data.anomaly != anomaly_event(OPENED).data.anomaly


@settings(deadline=None)
@given(st.integers(0, MAX_TIMESTAMP_MS))
def test_a_time_is_written_to_the_millisecond(time_ms: int) -> None:
    written = rfc3339(time_ms)
    assert written.endswith("Z")
    assert datetime.fromisoformat(written) - datetime(1970, 1, 1, tzinfo=UTC) == timedelta(milliseconds=time_ms)
