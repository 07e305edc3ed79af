"""What is said of a record that cannot be read: the mapping that reads it, and only one that does."""

import gzip
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from docs.payloads import PAYLOADS, REGISTRY, Payload, readings
from service.input.formats import RecordRules, TopicMapping
from service.input.guess import guess
from service.input.hints import Hints
from service.input.reasons import Reason
from service.input.rejects import Reject
from service.input.wire import Decoder
from service.log.port import Fetched, Partition

NOW_MS = 1_767_571_200_000
DAY_MS = 86_400_000
TOPIC = "plant"
# What only a person knows: a zone, which of several names, and what stands for a missing value.
LEFT_TO_PEOPLE = {
    "local time": "{time_zone: UTC}",
    "Debezium": "{preset: debezium, key_format: json, stream: [$key.id]}",
    "a word or a number for a missing value": "{}",
    "switches": "{}",
}


def rejects_of(
    value: bytes | None, key: bytes | None = b"p7", features: tuple[str, ...] = ("temp", "press")
) -> list[Reject]:
    """Of a topic without a mapping."""
    fetched = Fetched(Partition(TOPIC, 0), [key], [value], np.array([0]), np.array([NOW_MS]), 1, 1)
    return Decoder(features, DAY_MS, 30 * 365 * DAY_MS).decode(fetched)[1]


def refusal(value: Any, key: bytes | None = b"p7", features: tuple[str, ...] = ("temp", "press")) -> Reject:
    (reject,) = rejects_of(value if isinstance(value, bytes | None) else json.dumps(value).encode(), key, features)
    return reject


# Nothing in plain Avro or Protobuf says what it is.
@pytest.mark.parametrize("payload", [p for p in PAYLOADS if "schema_file" not in p.mapping], ids=lambda p: p.what)
def test_the_mapping_that_a_payload_needs_is_guessed(payload: Payload) -> None:
    names = (*payload.headers, *(["ce_specversion"] if payload.headers else []))
    found = guess(payload.key, payload.value, names, REGISTRY)
    assert found is not None
    if payload.what in LEFT_TO_PEOPLE:
        assert found.yaml == LEFT_TO_PEOPLE[payload.what]
    else:
        assert repr(readings(payload._replace(mapping=found.yaml))) == repr(readings(payload))


@pytest.mark.parametrize("payload", [p for p in PAYLOADS if not p.headers], ids=lambda payload: payload.what)
def test_no_payload_is_misread_and_a_dead_letter_says_what_reads_it(payload: Payload) -> None:
    rejects = rejects_of(payload.value, payload.key, payload.features)
    if not payload.mapping:
        assert rejects == []
    elif payload.what == "OPC UA":
        assert "input.topics.plant: {time: SourceTimestamp, values: Value" in rejects[0].detail
    elif "schema_file" in payload.mapping or "avro" in payload.mapping:
        assert len(rejects) == 1
        assert payload.value[:1] != b"\0" or "input.topics.plant: {format: avro}" in rejects[0].detail
    elif payload.what not in ("a word or a number for a missing value", "switches"):
        assert "; input.topics.plant: {" in rejects[0].detail
        assert " reads it" in rejects[0].detail


def test_all_metrics_of_a_device_do_not_become_one_stream() -> None:
    value = {"name": "POWER_FACTOR", "value": 0.99, "timestamp": NOW_MS, "quality": "BAD"}
    reject = refusal(value, b"edge-1", ("value",))
    assert reject.reason is Reason.BAD_KEY
    assert reject.detail == (
        "the value is of the name 'POWER_FACTOR', which the key edge-1 does not name: all metrics with this key would "
        "be one stream; input.topics.plant: {values: value, quality: quality, good: good, stream: [$key, name]} "
        "reads it"
    )
    value["name"] = 7
    assert rejects_of(json.dumps(value).encode(), b"edge-1", ("value",)) == []


@pytest.mark.parametrize("key", [b"edge-1/power_factor", b"POWER_FACTOR"])
def test_a_metric_that_its_key_names_is_read(key: bytes) -> None:
    value = json.dumps({"name": "POWER_FACTOR", "value": 0.99, "timestamp": NOW_MS}).encode()
    assert rejects_of(value, key, ("value",)) == []


def test_seconds_are_no_january_of_1970() -> None:
    reject = refusal({"timestamp": NOW_MS // 1000, "values": [1, 2]})
    assert reject.reason is Reason.PAST_TIMESTAMP
    assert reject.detail.endswith("; input.topics.plant: {time_unit: s} reads it")


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (None, "the record has no value; input.topics.plant: {tombstones: ignore} skips it"),
        (
            b"\0\0\0\0\x0c\x0cp7",
            "input.topics.plant: {format: avro}; if it is Protobuf, {format: protobuf}",
        ),
        ({"timestamp": "2026-01-05", "temp": 1}, "; input.topics.plant: {time_zone: UTC, values: '@'} reads it"),
        ({"timestamp": "13/01/2026 01:00", "temp": 1}, "{time_format: '%d/%m/%Y %H:%M', time_zone: UTC, values: '@'}"),
    ],
)
def test_a_hint_ends_the_detail(value: Any, said: str) -> None:
    if isinstance(value, dict) and "13/01" in value["timestamp"]:
        found = guess(b"p7", json.dumps(value).encode())
        assert found is not None
        assert found.yaml == said, "it is far ahead of its record"
    else:
        assert refusal(value).detail.endswith(said)


@pytest.mark.parametrize(
    ("value", "read_by"),
    [
        # Without its labels the metric of all machines would be one stream.
        (
            {"metric": "temp", "timestamp": NOW_MS, "value": 61, "tags": {"host": "h1", "rack": "2"}},
            "{values: value, stream: [tags.host, tags.rack, metric]}",
        ),
        (
            {"device": "p7", "date": "2026-01-05", "time": "00:00:00", "temp": 61},
            """{time: 'join(`"T"`, [date, time])', time_zone: UTC, values: '@', stream: [device]}""",
        ),
        (
            {"device": "p7", "time": 20260105000000, "temp": 61},
            "{time: time, time_format: '%Y%m%d%H%M%S', time_zone: UTC, values: '@', stream: [device]}",
        ),
        (
            {"entity_id": "boiler", "state": "61.5", "last_changed": "2026-01-05T00:00:00+00:00"},
            "{time: last_changed, values: state, decimal: '.', stream: [entity_id]}",
        ),
        # Counters beside the object that holds the values, and any text that is the one time.
        (
            {
                "time": "2026-01-05T00:00:00+00:00",
                "deviceInfo": {"deviceName": "p7"},
                "fCnt": 1,
                "rssi": -90,
                "object": {"temp": 61},
            },
            "{values: object, time: time, stream: [deviceInfo.deviceName]}",
        ),
        (
            {
                "thingId": "plant:p7",
                "revision": 7,
                "stamp": "2026-01-05T00:00:00Z",
                "features": {"temp": {"properties": {"value": 61}}},
            },
            "{values: {temp: features.temp.properties.value}, time: stamp, stream: [thingId]}",
        ),
        (
            {"device": "p7", "readings": [{"time": "2026-01-05T00:00:00Z", "value": 61}]},
            "{readings: readings, time: time, values: value, stream: [$record.device]}",
        ),
        (
            {"device": "p7", "at": NOW_MS, "payload": '{"temp": 61}'},
            "{readings: payload, time: $time, values: '@', stream: [$record.device]}",
        ),
        (61.5, "{time: $time, values: '@', stream: [$topic]}"),
        ("61,5", "{time: $time, values: '@', decimal: ',', stream: [$topic]}"),
    ],
)
def test_where_a_record_says_what_it_is_of_and_when_is_guessed(value: Any, read_by: str) -> None:
    found = guess(None, json.dumps(value).encode())
    assert found is not None
    assert found.yaml == read_by
    mapping = found.mapping(TOPIC)
    assert mapping is not None
    fetched = Fetched(
        Partition(TOPIC, 0), [None], [json.dumps(value).encode()], np.array([0]), np.array([NOW_MS]), 1, 1
    )
    names = ("state",) if isinstance(value, dict) and "state" in value else ("temp",)
    batch, rejects = Decoder(names, DAY_MS, DAY_MS, RecordRules(mappings={TOPIC: mapping})).decode(fetched)
    assert (batch.readings.times_ms.tolist(), rejects) == ([NOW_MS], [])


def test_ticks_of_dotnet_are_no_nanoseconds_of_1990() -> None:
    found = guess(b"p7", b'{"timestamp":639031680000000000,"value":61}')
    assert found is not None
    assert found.yaml == "{time_format: dotnet, values: value}"
    reject = refusal({"timestamp": 639_031_680_000_000_000, "values": [1, 2]})
    assert reject.detail.endswith("input.topics.plant: {time_format: dotnet} reads it")


@pytest.mark.parametrize(
    ("texts", "decimal"),
    [
        (("1.230",), None),  # which may be 1230, or 1.23
        (("1,230", "980"), None),
        (("1.230", "0.5"), "."),
        (("1.230", "9,5"), ","),
        (("1.234.567",), ","),
        (("61", "RUN"), "."),
        (("61,2", "4,1"), ","),
    ],
)
def test_a_decimal_sign_is_guessed_where_some_number_tells(texts: tuple[str, ...], decimal: str | None) -> None:
    value = json.dumps({"timestamp": NOW_MS, "values": dict(enumerate(texts))}).encode()
    found = guess(b"p7", value)
    assert found is not None
    assert (found.settings or {}).get("decimal") == decimal
    if decimal is None:
        rules = RecordRules(mappings={TOPIC: TopicMapping("input.topics.plant")})
        fetched = Fetched(Partition(TOPIC, 0), [b"p7"], [value], np.array([0]), np.array([NOW_MS]), 1, 1)
        (reject,) = Decoder(("0",), DAY_MS, DAY_MS, rules).decode(fetched)[1]
        assert "which may be of thousands: input.topics.plant.decimal says which sign is the decimal" in reject.detail


PLAIN = b'{"timestamp": 1, "values": [1, 2]}'


@pytest.mark.parametrize("mapped", [False, True])
@pytest.mark.parametrize(
    ("value", "said"),
    [
        (gzip.compress(PLAIN, mtime=0), "is packed by gzip, which is not read: let Kafka's producer compress"),
        (PLAIN.decode().encode("utf-16"), "the value is text in UTF-16, expected UTF-8"),
        (PLAIN.decode().encode("utf-16-le"), "the value is text in UTF-16, expected UTF-8"),
        (b" ", "the value is empty"),
        (b"<r t='1'/>", "the value is XML, which is not read"),
        (b"p7;1767571200000;61,2\r\n", "the value is a line of cells, such as CSV, which is read of files alone"),
        (b"," * 10_000, "the value is a line of cells, such as CSV, which is read of files alone"),
    ],
    ids=["gzip", "utf-16", "utf-16-le", "empty", "xml", "csv", "commas"],
)
def test_what_a_value_is_that_is_no_json_is_said(value: bytes, said: str, mapped: bool) -> None:
    rules = RecordRules(mappings={TOPIC: TopicMapping("input.topics.plant", values="@")} if mapped else {})
    fetched = Fetched(Partition(TOPIC, 0), [b"p7"], [value], np.array([0]), np.array([NOW_MS]), 1, 1)
    (reject,) = Decoder(("temp",), DAY_MS, DAY_MS, rules).decode(fetched)[1]
    assert reject.reason == Reason.BAD_JSON
    assert reject.detail.endswith(said)


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"readings",
        b"{}",
        b"[]",
        b'{"timestamp":',
        {"timestamp": "01/02/2026 01:00", "values": [1, 2]},  # a day or a month
        {"timestamp": NOW_MS, "values": ["x", 2]},
        {"timestamp": NOW_MS * 1000, "other": [1, 2]},
        {"timestamp": "1980-01-01T00:00:00Z", "values": [1, 2]},
        {"timestamp": NOW_MS, "values": [1]},
    ],
)
def test_where_no_mapping_is_known_to_read_it_none_is_named(value: Any) -> None:
    assert "reads it" not in refusal(value).detail


@pytest.mark.slow
@given(
    key=st.none() | st.binary(max_size=12) | st.sampled_from([b'"p"', b'{"id":1}', b"{}"]),
    value=st.binary(max_size=40)
    | st.recursive(
        st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=8),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    [
                        "timestamp",
                        "time",
                        "values",
                        "value",
                        "fields",
                        "tags",
                        "metrics",
                        "payload",
                        "schema",
                        "after",
                        "op",
                    ]
                )
                | st.text(max_size=3),
                inner,
                max_size=4,
            )
        ),
        max_leaves=14,
    ).map(lambda one: json.dumps(one).encode()),
)
@example(None, b'{"fields": {}, "tags": [null]}')
@example(None, b'{"fields": {}, "tags": true}')
@example(None, b'{"fields": {}, "tags": {}, "metrics": [{"tags": 1}]}')
@example(None, '{"timestamp": "²", "f": 0.0}'.encode())
@example(None, b'{"timestamp": "%s", "f": 0.0}' % (b"9" * 5000))
def test_guessing_never_raises_whatever_the_bytes(key: bytes | None, value: bytes) -> None:
    for reject in rejects_of(value, key):
        assert reject.detail
        assert "could be guessed" not in reject.detail


def test_a_guess_that_fails_harms_only_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*_: object) -> str:
        raise IndexError

    monkeypatch.setattr(Hints, "of", failing)
    assert refusal({"time": 1}).detail.endswith("; no mapping could be guessed (IndexError)")
