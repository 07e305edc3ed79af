"""Records of a mapped topic read all at once: what comes out is what comes out of each by itself."""

from collections.abc import Iterator, Sequence
from random import Random
from typing import Any

import msgspec
import numpy as np
import pytest

from docs.payloads import NOW_MS, PAYLOADS, TOPIC, Payload, decoder
from service.input.formats import MOST_READINGS, TopicMapping
from service.input.mapped_columns import MappedRecords, column_reader, paths_of
from service.input.mapping import FEW_RECORDS
from service.input.paths import Around, path
from service.input.shapes import Names
from service.input.wire import Decoder
from service.log.port import Cut, Fetched, KeptHeaders, Partition

RECORDS = 4 * FEW_RECORDS
NOTHING = Around("", None, {}, None, None)
NESTED = b'{"timestamp":1767571200000,"values":{"temp":61,"press":4.1},"meta":{"ok":1,"q":"GOOD","site":"a"},"id":"p7"}'
MORE = (
    Payload(
        "a quality for each feature",
        NESTED,
        "{stream: [meta.site, id], quality: {temp: meta.q, press: meta.ok}, good: [GOOD, 1], select: meta}",
    ),
    Payload("a path for each feature", NESTED, "{stream: id, values: {temp: values.temp, press: values.press}}"),
    Payload(
        "what is around the readings",
        b'{"id":"p7","ts":1767571200,"m":[{"v":61},{"v":null},{"v":"61.5"}]}',
        '{readings: m, stream: [$topic, $record.id], time: $record.ts, time_unit: s, values: v, decimal: "."}',
        features=("value",),
    ),
    Payload(
        "keys that are chosen",
        b'{"timestamp":1767571200000,"v":1}',
        "{key_format: json, select: $key.on, stream: $key.id, values: v, tombstones: ignore}",
        b'{"id":"a","on":true}',
        ("value",),
    ),
    Payload(
        "what is either here or there",
        b'{"timestamp":1767571200000,"v":1,"a":{"b":"p7"},"c":"p8","on":true}',
        '{stream: "a.b || c || \'none\'", select: "on && c != a.b || v == `0`", values: v, '
        "quality: \"!(c == 'p9')\", good: [1]}",
        features=("v",),
    ),
    Payload(
        "a key that is either here or there",
        b'{"timestamp":1767571200000,"v":1,"on":true}',
        '{key_format: json, stream: "$key.a || b", values: v, select: "!(on == `false`)"}',
        b'{"b":"p7"}',
        ("v",),
    ),
    Payload(
        "a part of an array",
        b'{"timestamp":1767571200000,"v":[1,2],"id":"p7"}',
        '{stream: id, values: {a: "v[0]"}}',
        features=("a",),
    ),
    Payload(
        "labels",
        b'{"batch":{"site":"a","on":true},"m":[{"timestamp":1767571200000,"v":1,"id":"p7","line":3,"t":{"as":"x"}}]}',
        "{readings: m, key_format: json, stream: id, values: v, labels: {site: $record.batch.site, "
        'line: line, asset: t.as, either: "line || id", key: $key.hall, unit: $header.unit, topic: $topic, '
        "running: $record.batch.on}}",
        b'{"hall":"h2"}',
        ("v",),
        headers={"unit": b"bar"},
    ),
    Payload(
        "MessagePack",
        msgspec.msgpack.encode({"timestamp": NOW_MS, "values": {"temp": 61.5, "press": None}, "id": "p7"}),
        "{format: msgpack, stream: id}",
    ),
)
MAPPED = [payload for payload in (*PAYLOADS, *MORE) if payload.mapping]
TOKENS = (
    *(b"null", b"true", b'""', b'"x"', b"0", b"-1", b"1.5", b"-0.0", b"1e400", b"123456789012345678901", b"[]", b"{}"),
    *(b"[1,2]", b"NaN", b'"61,2"', b'"GOOD"', b"1767571200", b"1767571200000.5", b'"2026-01-05T00:00:00Z"', b'"\xff"'),
    *(b'"20260105"', b'"1767571200.25"', b'" 2026-01-05 00:00"', b'"\\ud800"', b"9" * 400, b'{"temp":1}', b"-9999"),
)
KEYS = (
    None,
    b"",
    b"p8",
    b"\xff",
    b'"p8"',
    b'{"id":7}',
    b"\0\0\0\0\x0b\x04p8",
    b"spBv1.0/g/NDATA/n",
    b"x" * 300,
    bytes(8),
)


def fetched(payload: Payload, records: Sequence[tuple[bytes | None, bytes | None, int]], first: int = 0) -> Fetched:
    """Records of key, value and time, at offsets from `first`."""
    kept = KeptHeaders(tuple(payload.headers.items()))
    keys, values = [key for key, _, _ in records], [value for _, value, _ in records]
    times_ms = np.array([time for _, _, time in records])
    offsets = np.arange(first, first + len(records))
    return Fetched(
        Partition(TOPIC, 0), keys, values, offsets, times_ms, 999, 999, lambda n: kept if n % 7 else KeptHeaders()
    )


def outcome(reads: Decoder, batch: Fetched) -> tuple[dict[int, list[Any]], dict[int, Any], int]:
    """By offset: the readings to the bit, and what is said of those that are refused; and how many are skipped."""
    read, rejects = reads.decode(batch)
    found: dict[int, list[Any]] = {}
    offsets, times, values = (column.tolist() for column in read.readings)
    labels = [None] * len(offsets) if read.labels is None else read.labels
    for key, offset, index, time, row, record_ms, named in zip(
        read.keys, offsets, read.indices.tolist(), times, values, read.record_times_ms.tolist(), labels, strict=True
    ):
        found.setdefault(offset, []).append((key, index, time, [value.hex() for value in row], record_ms, named))
    said = {int(batch.offsets[reject.record]): (reject.reason, reject.detail) for reject in rejects}
    return found, said, read.skipped


def harmed(rng: Random, value: bytes) -> bytes:
    """A value with some bytes, or a part of it that stands for a value, replaced."""
    for _ in range(rng.randint(1, 2)):
        at = rng.randrange(len(value) or 1)
        colon = value.find(b":", at)
        if rng.random() < 0.6 and colon >= 0:
            ends = [end for end in (value.find(sign, colon) for sign in (b",", b"}", b"]")) if end >= 0]
            value = value[: colon + 1] + rng.choice(TOKENS) + value[min(ends, default=len(value)) :]
        else:
            part = rng.choice((b"", bytes([rng.randrange(256)]), b"}\n{", value[at : at + 4] * 2))
            value = value[:at] + part + value[at + rng.randint(0, 2) :]
    return value


def records_of(rng: Random, payload: Payload) -> Iterator[tuple[bytes | None, bytes | None, int]]:
    for _ in range(RECORDS):
        value: bytes | None = payload.value if rng.random() < 0.4 else harmed(rng, payload.value)
        if rng.random() < 0.04:
            value = rng.choice((None, Cut(payload.value[:8], 100_000, "00"), b""))
        key = payload.key if rng.random() < 0.85 else rng.choice(KEYS)
        yield key, value, rng.choice((NOW_MS, NOW_MS, -1, NOW_MS - 10**9))


@pytest.mark.parametrize("payload", MAPPED, ids=lambda payload: payload.what)
def test_records_read_all_at_once_are_what_each_is_by_itself(payload: Payload) -> None:
    rng, reads = Random(payload.what), decoder(payload)
    for _ in range(2):
        records = list(records_of(rng, payload))
        apart = [outcome(reads, fetched(payload, [one], n)) for n, one in enumerate(records)]
        found, said, skipped = outcome(reads, fetched(payload, records))
        assert found == {n: rows for one, _, _ in apart for n, rows in one.items()}
        assert said == {n: why for _, one, _ in apart for n, why in one.items()}
        assert skipped == sum(one for _, _, one in apart)


def read_apart(payload: Payload) -> int:
    """How many of some sound records are left to be read one at a time."""
    mapping = decoder(payload).rules.mappings[TOPIC]
    reader = column_reader(mapping, paths_of(mapping, payload.features), payload.features, MOST_READINGS)
    if reader is None:
        return RECORDS
    times_ms, headers = np.full(RECORDS, NOW_MS), [payload.headers] * RECORDS
    records = MappedRecords([payload.key] * RECORDS, [payload.value] * RECORDS, times_ms, lambda _: headers)
    return int(reader.read(TOPIC, records, np.ones(RECORDS, np.bool_)).left.sum())


@pytest.mark.parametrize("payload", MAPPED, ids=lambda payload: payload.what)
def test_sound_records_are_read_all_at_once_where_all_paths_are_names_or_formulas(payload: Payload) -> None:
    in_text = {"JSON in base64 in an envelope, Azure's IoT Hub", "JSON as text within JSON", "JSON twice"}
    unusual = {"NaN", "a part of an array", *in_text}  # no word of JSON; an expression
    assert read_apart(payload) == (RECORDS if payload.what in unusual else 0)


def test_a_number_beyond_a_double_harms_only_where_something_looks_at_it() -> None:
    document = b'{"timestamp":1767571200000,"id":"p7","v":1,"more":%s}'
    (reads,) = (decoder(Payload("", b"", "{stream: id, values: v}", features=("value",))),)
    payload = PAYLOADS[0]
    for beyond in (b"1e400", b"-1e400", b"9" * 5_000):
        for count in (1, RECORDS):
            found, said, _ = outcome(reads, fetched(payload, [(None, document % beyond, NOW_MS)] * count))
            assert (len(found), said) == (count, {})
    found, said, _ = outcome(
        reads, fetched(payload, [(None, b'{"timestamp":1767571200000,"id":"p7","v":1e400}', NOW_MS)])
    )
    assert (found, said[0][0]) == ({}, "out_of_range")


def test_a_mapping_that_needs_an_object_whole_and_in_parts_is_read_one_at_a_time() -> None:
    whole = TopicMapping("input.topics.plant", stream=("tags", "tags.id"))
    assert column_reader(whole, paths_of(whole, ("temp",)), ("temp",), MOST_READINGS) is None


VALUES: tuple[Any, ...] = (None, False, True, 0, 1, -1.5, "", "x", [], [0], {}, {"b": 1}, float("nan"), 0.0)
EXPRESSIONS = (
    *(
        "a || b",
        "a && b",
        "!a",
        "!(a && b)",
        "a == b",
        "a != b",
        "a.b || b",
        "a || b || 'x'",
        "'x' == a",
        "a != `null`",
    ),
    *("a == `0`", "a == `1`", "a != `true`", "a == `false`", "a == `[0]`", "a == `{}`", "!a || a == b && 'y'"),
)


@pytest.mark.parametrize("text", EXPRESSIONS)
def test_an_expression_of_columns_is_what_the_library_finds_of_each_reading(text: str) -> None:
    readings = [{"a": one, "b": other} for one in VALUES for other in VALUES]
    one = path(text)
    assert one.formula is not None

    def get(names: Names) -> list[Any]:
        return [path(".".join(names)).find(reading, NOTHING) for reading in readings]

    assert list(map(repr, one.formula.column(get))) == [repr(one.find(reading, NOTHING)) for reading in readings]


@pytest.mark.parametrize(
    "text", ["a[0]", "a > b", "length(a)", "a || b[0]", "'x'", "a | b", "{a: b}", "`1` || `2`", "a || @", "a > `null`"]
)
def test_other_expressions_are_asked_of_each_reading(text: str) -> None:
    assert path(text).formula is None
