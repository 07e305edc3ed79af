"""Topics that are mapped: what people have on theirs, to readings; and what is said of what cannot be read."""

import base64
import json
import math
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import RefusedSetting
from service.input.formats import RecordRules, TopicMapping
from service.input.labels import label_text
from service.input.mapping import mapped_names
from service.input.reading_batch import ReadingBatch
from service.input.reasons import Reason
from service.input.rejects import Reject
from service.input.wire import Decoder
from service.log.port import Fetched, KeptHeaders, Partition
from tests.fuzzing import INPUTS
from tests.service.input.walking import harmed

FEATURES = ("temp", "press")
NOW_MS = 1_704_164_645_000  # 2024-01-02T03:04:05Z
DAY_MS = 86_400_000
TOPIC = "plant"
SETTING = "input.topics.plant"


def decode(
    values: Sequence[bytes | None],
    mapped: dict[str, Any],
    features: Sequence[str] = FEATURES,
    keys: Sequence[bytes | None] = (),
    headers: dict[str, bytes] | None = None,
    max_readings: int = 2_048,
    times_ms: int = NOW_MS,
) -> tuple[ReadingBatch, list[Reject]]:
    mapping = TopicMapping(SETTING, **mapped)
    decoder = Decoder(
        features, DAY_MS, 30 * 365 * DAY_MS, RecordRules(max_readings=max_readings, mappings={TOPIC: mapping})
    )
    count = len(values)
    kept = KeptHeaders(tuple((headers or {}).items()))
    fetched = Fetched(
        Partition(TOPIC, 0),
        list(keys or [b"p7"] * count),
        list(values),
        np.arange(count, dtype=np.int64) * 3,
        np.full(count, times_ms),
        3 * count,
        3 * count,
        lambda _offset: kept,
    )
    return decoder.decode(fetched)


def readings(value: Any, mapped: dict[str, Any], **more: Any) -> list[tuple[str, int, list[float | None]]]:
    """Stream, time and values of each reading of a record that can be read."""
    written = value if isinstance(value, bytes) else json.dumps(value).encode()
    batch, rejects = decode([written], mapped, **more)
    assert rejects == []
    return [
        (key.decode(), time_ms, [None if number != number else number for number in row])
        for key, time_ms, row in zip(
            batch.keys, batch.readings.times_ms.tolist(), batch.readings.values.tolist(), strict=True
        )
    ]


def refusal(value: Any, mapped: dict[str, Any], **more: Any) -> tuple[Reason, str]:
    written = value if isinstance(value, bytes | None) else json.dumps(value).encode()
    batch, (reject,) = decode([written], mapped, **more)
    assert batch.keys == []
    return reject.reason, reject.detail


# --- Influx's line protocol


INFLUX = {"format": "influx", "stream": ("tags.id",), "time": "time", "time_unit": "ns", "values": "fields"}


def test_lines_of_influx_are_read_with_all_that_they_escape() -> None:
    ns = NOW_MS * 1_000_000
    first = f'opcua,id=p\\ 7,site=a temp=61,n=3i,note="a=b, c" {ns}'
    lines = f"# a comment\n{first}\r\n\nopcua,id=p8 press=-4e-1,on=true {ns}\n"
    assert readings(lines.encode(), INFLUX) == [("p 7", NOW_MS, [61.0, None]), ("p8", NOW_MS, [None, -0.4])]
    assert readings(b"opcua,id=p7 temp=61i", {**INFLUX, "time": "$time"}) == [("p7", NOW_MS, [61.0, None])]


@pytest.mark.parametrize(
    ("value", "reason", "said"),
    [
        (b"opcua,id=p7 temp=61\nopcua,id=p7 temp=", Reason.BAD_INFLUX, "line 2: Failed to parse value of field"),
        (b"opcua,id=p7 temp=\xff", Reason.BAD_INFLUX, "not UTF-8"),
        (b"# none\n\n", Reason.BAD_INFLUX, "no lines in 8 bytes"),
        (b"opcua,id=p7 temp=\0", Reason.BAD_INFLUX, "line 1: Embedded NUL bytes"),
        (b"opcua,id=p7 temp=61", Reason.BAD_TIMESTAMP, "nothing at time (input.topics.plant.time), found measurement"),
        (b"opcua,id=p7 temp=61 1704164645", Reason.BAD_TIMESTAMP, "looks like seconds, expected nanoseconds"),
        (b"opcua temp=61 1704164645000000000", Reason.BAD_KEY, "nothing at tags.id (input.topics.plant.stream)"),
        (b"opcua,id=p7 temp=true 1704164645000000000", Reason.NOT_A_NUMBER, "temp is bool True"),
        (b"opcua,id=p7 flow=1 1704164645000000000", Reason.WRONG_FEATURES, "no values at fields"),
    ],
)
def test_what_is_no_line_or_lacks_something_is_refused(value: bytes, reason: Reason, said: str) -> None:
    found, detail = refusal(value, INFLUX)
    assert (found, said in detail) == (reason, True), detail


@pytest.mark.slow
def test_no_text_raises_anything_but_a_refusal() -> None:
    random, good, texts = Random(17), f'opcua,id=p7 temp=61,n=3i,s="a b",b=t {NOW_MS}000000', list[bytes]()
    for _ in range(INPUTS):
        text = list(good)
        for _ in range(random.randrange(4)):
            at = random.randrange(len(text))
            text[at : at + random.randrange(3)] = random.choices(' ,="\\ituF-+.e0\n\r\0é#', k=random.randrange(3))
        texts.append("".join(text).encode())
    batch, rejects = decode(texts, INFLUX)
    read, refused = {offset // 3 for offset in batch.readings.offsets.tolist()}, {one.record for one in rejects}
    assert read | refused == set(range(INPUTS)), "each is read or refused"
    assert INPUTS / 10 < len(read - refused) < 0.9 * INPUTS


# --- SenML


SENML: dict[str, Any] = {"format": "senml", "select": ("v != `null`",), "stream": ("n",), "time": "t", "time_unit": "s"}
SENML |= {"values": "v"}


def test_a_packs_base_holds_from_where_it_is_set() -> None:
    now_s = NOW_MS // 1000
    pack = [
        {"bn": "p7/", "bt": now_s, "bv": 100, "n": "temp", "v": -39, "t": -5},
        {"n": "press", "vs": "high"},
        {"bn": "p8/", "bv": 0},
        {"n": "temp", "v": 0, "t": 0.5},
        {"v": 7},
    ]
    assert readings(pack, SENML, features=["value"]) == [
        ("p7/temp", NOW_MS - 5000, [61.0]),
        ("p8/temp", NOW_MS + 500, [0.0]),
        ("p8/", NOW_MS, [7.0]),
    ]
    assert readings([{"n": "a", "v": 1}], {**SENML, "time": "$time"}, features=["value"]) == [("a", NOW_MS, [1.0])]


@pytest.mark.parametrize(
    ("pack", "reason", "said"),
    [
        ([{"n": "a", "v": 1, "t": -5}], Reason.BAD_TIMESTAMP, "a: the time -5 is relative to now, expected seconds"),
        ([{"n": "a", "v": "1"}], Reason.BAD_JSON, "v is '1', expected a number"),
        ([{"bn": 7, "v": 1}], Reason.BAD_JSON, "bn is 7, expected text"),
        ([{"n": "a", "v": True}], Reason.BAD_JSON, "v is True, expected a number"),
        ({"n": "a", "v": 1}, Reason.BAD_JSON, "found no array of objects, expected a pack of SenML"),
        ([{"bn": "p" * 300, "n": "a", "v": 1}], Reason.BAD_KEY, "a name of 301 characters, expected at most 256"),
        (b'[{"bt":1e9,"bv":1%s,"n":"a","v":0.5,"x":NaN}]' % (b"0" * 400), Reason.BAD_JSON, "a number and its base: "),
        ([1], Reason.BAD_JSON, "found no array of objects, expected a pack of SenML"),
        ([{"n": "a", "v": 1}], Reason.BAD_TIMESTAMP, "`$time` is the record's own time"),
    ],
)
def test_what_is_no_pack_or_has_a_time_that_is_not_known_is_refused(pack: Any, reason: Reason, said: str) -> None:
    found, detail = refusal(pack, SENML, features=["value"])
    assert (found, said in detail) == (reason, True), detail


@pytest.mark.slow
@given(
    st.lists(
        st.dictionaries(
            st.sampled_from(["bn", "bt", "bv", "n", "t", "v", "vs", "s"]),
            st.one_of(st.text(max_size=3), st.integers(), st.floats(), st.none(), st.booleans(), st.lists(st.none())),
        )
    )
)
def test_no_pack_raises_anything_but_a_refusal(pack: list[dict[str, Any]]) -> None:
    decode([json.dumps(pack).encode()], SENML, features=["value"])


# --- where stream, time and values are


def test_the_stream_may_be_in_the_value_where_there_is_no_key() -> None:
    value = {"sensorId": "s1", "timestamp": NOW_MS, "value": 40.2}
    found = readings(value, {"stream": ("sensorId",), "values": "value"}, features=["value"], keys=[None])
    assert found == [("s1", NOW_MS, [40.2])]


def test_a_name_is_joined_of_key_headers_topic_and_paths() -> None:
    value = {"tags": {"host": "h1", "id": 7}, "timestamp": NOW_MS, "values": [1, 2]}
    stream = ("$topic", "$key", "$header.site", "tags.host", "tags.id")
    found = readings(value, {"stream": stream}, headers={"site": b"north", "other": b"\xff"})
    assert found == [("plant/p7/north/h1/7", NOW_MS, [1.0, 2.0])]


@pytest.mark.parametrize(
    ("format_of_key", "key", "path", "stream"),
    [
        ("json", b'"p7"', "$key", "p7"),
        ("json", b'{"id":7}', "$key.id", "7"),
        ("json", b'{"schema":{"type":"string"},"payload":"p7"}', "$key.payload", "p7"),
        ("integer", (7).to_bytes(8), "$key", "7"),
        ("integer", (-7).to_bytes(4, signed=True), "$key", "-7"),
        ("text", "pümp".encode(), "$key", "pümp"),
    ],
)
def test_keys_may_be_json_or_integers(format_of_key: str, key: bytes, path: str, stream: str) -> None:
    mapped = {"key_format": format_of_key, "stream": (path,)}
    assert readings({"timestamp": NOW_MS, "values": [1, 2]}, mapped, keys=[key]) == [(stream, NOW_MS, [1.0, 2.0])]


@pytest.mark.parametrize(
    ("time", "mapped"),
    [
        (1_704_164_645, {"time_unit": "s"}),
        (1_704_164_645.0, {"time_unit": "s"}),
        (NOW_MS, {}),
        (float(NOW_MS), {}),
        (NOW_MS * 1_000, {"time_unit": "us"}),
        (NOW_MS * 1_000_000, {"time_unit": "ns"}),
        (str(NOW_MS), {}),
        ("1704164645.0", {"time_unit": "s"}),
        ("2024-01-02T03:04:05Z", {}),
        ("2024-01-02T04:04:05+01:00", {"time_zone": "Asia/Tokyo"}),
        ("2024-01-02T03:04:05", {"time_zone": "UTC"}),
        ("2024-01-02 04:04:05.000", {"time_zone": "Europe/Berlin"}),
        ("02.01.2024 03:04:05", {"time_format": "%d.%m.%Y %H:%M:%S", "time_zone": "UTC"}),
        ("01/02/2024 03:04:05 AM +0000", {"time_format": "%m/%d/%Y %I:%M:%S %p %z"}),
        ("20240102030405", {"time_format": "%Y%m%d%H%M%S", "time_zone": "UTC"}),
        (None, {"time": "$time"}),
    ],
)
def test_times_are_read_in_their_unit_format_and_zone(time: object, mapped: dict[str, Any]) -> None:
    assert readings({"timestamp": time, "values": [1, 2]}, mapped) == [("p7", NOW_MS, [1.0, 2.0])]


def test_nanoseconds_are_not_rounded_through_doubles() -> None:
    value = {"timestamp": 1_704_164_645_001_999_999, "values": [1, 2]}
    assert readings(value, {"time_unit": "ns"})[0][1] == NOW_MS + 1


@pytest.mark.parametrize(
    ("value", "mapped"),
    [
        ({"timestamp": NOW_MS, "temp": 61, "press": 4.5}, {"values": "@"}),
        ({"@timestamp": NOW_MS, "temp": 61, "press": 4.5}, {"values": "@", "time": '"@timestamp"'}),
        ({"timestamp": NOW_MS, "values": {"press": 4.5, "temp": 61, "hum": 3}}, {}),
        ({"timestamp": NOW_MS, "values": [61, 4.5]}, {}),
        ({"timestamp": NOW_MS, "T": {"v": 61}, "P": {"v": 4.5}}, {"values": {"temp": "T.v", "press": "P.v"}}),
        ({"timestamp": NOW_MS, "a": [{"x": [9, 61]}], "b": 4.5}, {"values": {"temp": "a[0].x[-1]", "press": "b"}}),
        ({"timestamp": NOW_MS, "values": {"temp": "61,0", "press": "+4,5"}}, {"decimal": ","}),
        ({"timestamp": NOW_MS, "values": {"temp": "6.1e1", "press": "4.5"}}, {"decimal": "."}),
    ],
)
def test_values_are_found_wherever_they_are(value: Any, mapped: dict[str, Any]) -> None:
    assert readings(value, mapped) == [("p7", NOW_MS, [61.0, 4.5])]


def test_some_of_several_features_are_enough() -> None:
    assert readings({"timestamp": NOW_MS, "values": {"temp": 61}}, {}) == [("p7", NOW_MS, [61.0, None])]


def test_what_stands_for_a_missing_value_is_one() -> None:
    mapped = {"missing": (-9999.0, 65535.0, "n/a", ""), "decimal": "."}
    for written in (-9999, -9999.0, 65535, "N/A ", "", "-9999", None):
        value = {"timestamp": NOW_MS, "values": {"temp": written, "press": 4}}
        assert readings(value, mapped) == [("p7", NOW_MS, [None, 4.0])]
    assert readings(b'{"timestamp":1704164645000,"values":{"temp":NaN,"press":4}}', {}) == [("p7", NOW_MS, [None, 4])]


def test_a_value_of_bad_quality_is_missing() -> None:
    mapped = {"stream": ("$key", "name"), "values": "value", "quality": "quality", "good": ("good", 192.0)}
    for quality, expected in (("GOOD", 0.99), ("Good", 0.99), (192, 0.99), (None, 0.99), ("BAD", None), (0, None)):
        value = {"name": "POWER_FACTOR", "value": 0.99, "timestamp": NOW_MS, "quality": quality}
        found = readings(value, mapped, features=["value"])
        assert found == [("p7/POWER_FACTOR", NOW_MS, [expected])]
    each = {"values": {"temp": "t.v", "press": "p.v"}, "quality": {"temp": "t.q"}, "good": ("ok",)}
    value = {"timestamp": NOW_MS, "t": {"v": 1, "q": "stale"}, "p": {"v": 2, "q": "stale"}}
    assert readings(value, each) == [("p7", NOW_MS, [None, 2.0])]


# --- many readings a record, and those that are meant


def test_a_record_may_hold_readings_one_below_the_other() -> None:
    both = [("p7", NOW_MS, [1.0, 2.0]), ("p7", NOW_MS + 1, [3.0, 4.0])]
    parts = [{"timestamp": NOW_MS, "values": [1, 2]}, {"timestamp": NOW_MS + 1, "values": [3, 4]}]
    lines = b"\n".join(json.dumps(part).encode() for part in parts)
    assert readings(parts, {}) == both
    assert readings(lines, {}) == readings(lines.replace(b"\n", b"\r\n\r\n"), {}) == both
    assert readings({"data": {"items": parts}}, {"readings": "data.items"}) == both
    assert readings(msgspec.msgpack.encode(parts), {"format": "msgpack"}) == both
    assert readings(b"\xef\xbb\xbf" + json.dumps(parts).encode(), {}) == both


IN_TEXT = {"readings": "body", "stream": ("$record.id",), "time": "$record.at", "values": "@"}


@pytest.mark.parametrize("count", [1, 20])  # one at a time, and all at once
@pytest.mark.parametrize("packed", [str, lambda text: base64.b64encode(text.encode()).decode()])
def test_readings_may_be_in_a_text_as_json_or_that_in_base64(packed: Callable[[str], str], count: int) -> None:
    body = packed('[{"temp": 61, "press": 4.1}, {"temp": 62}]')
    batch, rejects = decode([json.dumps({"id": "p8", "at": NOW_MS, "body": body}).encode()] * count, IN_TEXT)
    assert rejects == []
    assert batch.keys == [b"p8"] * 2 * count
    np.testing.assert_array_equal(batch.readings.values, [[61.0, 4.1], [62.0, math.nan]] * count)
    plain = {"id": "p8", "at": NOW_MS, "body": {"temp": 61, "press": 4.1}}
    assert readings(plain, IN_TEXT) == [("p8", NOW_MS, [61.0, 4.1])]
    unpadded = base64.urlsafe_b64encode(b'{"temp": 61, "press": 4.1, "note": "~~~???"}').decode().rstrip("=")
    assert readings({**plain, "body": unpadded}, IN_TEXT) == [("p8", NOW_MS, [61.0, 4.1])]
    assert readings(json.dumps(plain), IN_TEXT) == [("p8", NOW_MS, [61.0, 4.1])]


@pytest.mark.parametrize("body", ["", "hello", "aGVsbG8=", "NjE=", "61", "{", "[1", "/w=="])
def test_a_text_that_holds_no_readings_is_a_dead_letter(body: str) -> None:
    reason, detail = refusal({"id": "p8", "at": NOW_MS, "body": body}, IN_TEXT)
    assert reason == Reason.BAD_JSON
    assert body.startswith(("{", "[")) or f"at body ({SETTING}.readings), expected an object, an array" in detail


@given(st.text() | st.binary().map(lambda some: base64.b64encode(some).decode()))
def test_whatever_is_in_a_text_it_is_readings_or_a_dead_letter(body: str) -> None:
    decode([json.dumps({"id": "p8", "at": NOW_MS, "body": body}).encode()], IN_TEXT)


def test_a_reading_of_many_may_name_what_is_in_its_record() -> None:
    value = {"device": "d1", "ts": NOW_MS, "metrics": [{"name": "a", "value": 1}, {"name": "b", "value": 2}]}
    mapped = {"readings": "metrics", "stream": ("$record.device", "name"), "time": "$record.ts", "values": "value"}
    assert readings(value, mapped, features=["value"]) == [("d1/a", NOW_MS, [1.0]), ("d1/b", NOW_MS, [2.0])]


def test_what_is_not_selected_is_counted_and_no_dead_letter() -> None:
    values = [json.dumps({"kind": kind, "timestamp": NOW_MS, "values": [1, 2]}).encode() for kind in "abca"]
    batch, rejects = decode([*values, None], {"select": ("kind == 'a'",), "tombstones": "ignore"})
    assert rejects == []
    assert (batch.readings.offsets.tolist(), batch.skipped) == ([0, 9], 3)


def test_a_tombstone_is_a_dead_letter_unless_the_mapping_says_what_it_means() -> None:
    assert refusal(None, {}) == (
        Reason.MISSING_VALUE,
        (
            "the record has no value; input.topics.plant.tombstones: ignore skips it, `end` tells that its stream is "
            "silent"
        ),
    )


def test_a_tombstone_may_end_the_stream_that_its_key_names() -> None:
    one = json.dumps({"timestamp": NOW_MS, "values": [1, 2]}).encode()
    batch, rejects = decode([one, None, one], {"tombstones": "end"})
    assert (batch.readings.offsets.tolist(), batch.skipped, rejects) == ([0, 6], 0, [])
    ((offset, key, time_ms),) = batch.ends
    assert (offset, key, time_ms) == (3, batch.keys[0], NOW_MS)


def test_a_tombstone_ends_nothing_where_its_key_is_not_meant_or_the_stream_is_named_elsewhere() -> None:
    batch, rejects = decode([None], {"tombstones": "end", "select": ("$header.meant", "kind")})
    assert (batch.ends, batch.skipped, rejects) == ((), 1, [])
    batch, (reject,) = decode([None], {"tombstones": "end", "stream": ("tags.id",)})
    assert (batch.ends, reject.reason) == ((), Reason.BAD_KEY)
    assert reject.detail.startswith("nothing at tags.id (input.topics.plant.stream)")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mapped", "key"),
    [
        ({}, b"line-3/p7"),
        ({"key_format": "json", "stream": ("$key.site", "$key.id")}, b'{"site":"a","id":7}'),
        ({"key_format": "integer"}, (7).to_bytes(8)),
        ({"key_format": "sparkplug", "stream": ("$key.source",)}, b"spBv1.0/plant/DDATA/edge-1/p7"),
    ],
    ids=["text", "json", "integer", "sparkplug"],
)
def test_a_tombstone_ends_the_stream_that_a_reading_with_its_key_is_of_whatever_the_key(
    mapped: dict[str, Any], key: bytes
) -> None:
    rng, one = Random(23), json.dumps({"timestamp": NOW_MS, "values": [1, 2]}).encode()
    keys = [rng.choice((None, key, *[harmed(rng, key) for _ in range(4)])) for _ in range(INPUTS)]
    ending = {**mapped, "tombstones": "end"}
    ended, unnamed = decode([None] * INPUTS, ending, keys=keys)
    read, refused = decode([one] * INPUTS, ending, keys=keys)
    assert [(end.offset, end.key) for end in ended.ends] == list(
        zip(read.readings.offsets.tolist(), read.keys, strict=True)
    )
    assert [reject.record for reject in unnamed] == [reject.record for reject in refused]
    assert min(len(ended.ends), len(unnamed)) > INPUTS / 10


def test_of_a_record_the_good_readings_are_judged_and_the_bad_ones_named() -> None:
    parts = [{"timestamp": NOW_MS + n, "values": [n, "x" if n in (1, 3, 4, 5) else n]} for n in range(7)]
    batch, (reject,) = decode([json.dumps(parts).encode()], {})
    assert batch.indices.tolist() == [0, 2, 6], "the places in the record, as events name them"
    assert reject.reason is Reason.NOT_A_NUMBER
    assert reject.detail.startswith("4 of 7 readings refused, the others are judged. Reading 1: press is 'x'")
    assert reject.detail.endswith("; and 1 more")


def test_more_readings_than_a_record_may_hold_are_refused() -> None:
    parts = [{"timestamp": NOW_MS, "values": [1, 2]}] * 3
    reason, detail = refusal(parts, {}, max_readings=2)
    assert (reason, detail) == (Reason.TOO_MANY_READINGS, "more than 2 readings (limits.max_readings)")
    reason, _ = refusal(b"[" + b",".join([b"0"] * 1_000) + b"]", {})
    assert reason is Reason.TOO_MANY_READINGS, "a record of claims takes no more memory than it brings"


# --- what is said of what cannot be read


@pytest.mark.parametrize(
    ("value", "mapped", "reason", "said"),
    [
        (
            {"timestamp": 1_704_164_645, "values": [1, 2]},
            {},
            Reason.BAD_TIMESTAMP,
            f"seconds, expected milliseconds: {SETTING}.time_unit: s",
        ),
        (
            {"timestamp": NOW_MS, "values": [1, 2]},
            {"time_unit": "s"},
            Reason.BAD_TIMESTAMP,
            f"{SETTING}.time_unit: ms reads it",
        ),
        (
            {"timestamp": "2024-01-02T03:04:05", "values": [1, 2]},
            {},
            Reason.BAD_TIMESTAMP,
            f"{SETTING}.time_zone names its zone",
        ),
        (
            {"timestamp": "02.01.2024", "values": [1, 2]},
            {},
            Reason.BAD_TIMESTAMP,
            f"{SETTING}.time_format names its format",
        ),
        ({"timestamp": "x", "values": [1, 2]}, {"time_format": "%d"}, Reason.BAD_TIMESTAMP, "expected the format %d"),
        ({"timestamp": True, "values": [1, 2]}, {}, Reason.BAD_TIMESTAMP, "timestamp is True"),
        (
            {"measuredAt": NOW_MS, "values": [1, 2]},
            {},
            Reason.BAD_TIMESTAMP,
            f"nothing at timestamp ({SETTING}.time), found measuredAt, values",
        ),
        (
            {"timestamp": NOW_MS, "temp": 1},
            {},
            Reason.WRONG_FEATURES,
            f"no values at values ({SETTING}.values), found timestamp, temp",
        ),
        (
            {"timestamp": NOW_MS, "values": {"Temp": 1}},
            {},
            Reason.WRONG_FEATURES,
            f"({SETTING}.values): temp, press, found Temp",
        ),
        ({"timestamp": NOW_MS, "values": [1]}, {}, Reason.WRONG_FEATURES, "1 values, the checkpoint expects 2"),
        ({"timestamp": NOW_MS, "values": 1}, {}, Reason.WRONG_FEATURES, "one value at values"),
        ({"timestamp": NOW_MS, "values": ["61,2", 2]}, {}, Reason.NOT_A_NUMBER, f'{SETTING}.decimal: "," reads it'),
        ({"timestamp": NOW_MS, "values": ["bad", 2]}, {}, Reason.NOT_A_NUMBER, f"{SETTING}.missing may name"),
        ({"timestamp": NOW_MS, "values": [True, 2]}, {}, Reason.NOT_A_NUMBER, "temp is bool True"),
        ({"timestamp": NOW_MS, "values": [1e39, 2]}, {}, Reason.OUT_OF_RANGE, "temp is 1e+39"),
        ({"timestamp": NOW_MS, "values": [10**400, 2]}, {}, Reason.OUT_OF_RANGE, "temp is inf"),
        (
            {"timestamp": NOW_MS, "values": [1, 2]},
            {"stream": ("id",)},
            Reason.BAD_KEY,
            f"nothing at id ({SETTING}.stream)",
        ),
        ({"timestamp": NOW_MS, "values": [1, 2], "id": 1.5}, {"stream": ("id",)}, Reason.BAD_KEY, "float 1.5 at id"),
        (
            {"timestamp": NOW_MS, "values": [1, 2], "id": "a\n"},
            {"stream": ("id",)},
            Reason.BAD_KEY,
            "control character",
        ),
        ({"timestamp": NOW_MS + 2 * DAY_MS, "values": [1, 2]}, {}, Reason.FUTURE_TIMESTAMP, "limits.max_future_s"),
        ({"x": 1}, {"readings": "metrics"}, Reason.BAD_TIMESTAMP, f"nothing at timestamp ({SETTING}.time), found x"),
        (b"\x00\x00\x00\x00\x0c\x0cp7", {}, Reason.BAD_JSON, "the schema id 12 of a schema registry"),
        (b'{"a":1}\n{"a":', {}, Reason.BAD_JSON, ", in line 2"),
        (b"[" * 100_000, {}, Reason.BAD_JSON, ""),
        (b"[" * 60_000 + b"NaN", {}, Reason.BAD_JSON, ""),
        (
            {"timestamp": NOW_MS, "values": [1, 2]},
            {"select": ("abs(id)",)},
            Reason.WRONG_FEATURES,
            "abs(id) cannot be applied",
        ),
    ],
)
def test_a_refusal_names_the_cause_and_the_setting(
    value: Any, mapped: dict[str, Any], reason: Reason, said: str
) -> None:
    found, detail = refusal(value, mapped)
    assert found is reason
    assert said in detail


def test_a_record_without_a_key_says_which_setting_helps() -> None:
    assert refusal({"sensorId": "s1"}, {"time": "$time"}, keys=[None]) == (
        Reason.MISSING_KEY,
        f"the record has no key; {SETTING}.stream says where the stream's name is instead, found sensorId",
    )


def test_a_clock_that_begins_at_zero_is_believed_where_the_record_agrees() -> None:
    value = {"timestamp": 400_000_000, "values": [1, 2]}
    assert readings(value, {}, times_ms=400_000_000) == [("p7", 400_000_000, [1.0, 2.0])]


def test_a_feature_without_a_path_is_a_setting_that_is_refused() -> None:
    with pytest.raises(RefusedSetting, match=r"input.topics.plant.values: found temp, expected .* feature press"):
        decode([b"{}"], {"values": {"temp": "t"}})


def test_other_topics_are_read_as_ever() -> None:
    mapping = TopicMapping("input.topics.other", values="@")
    value = json.dumps({"timestamp": NOW_MS, "values": [1, 2]}).encode()
    fetched = Fetched(Partition(TOPIC, 0), [b"p"], [value], np.array([0]), np.array([NOW_MS]), 1, 1)
    batch, rejects = Decoder(FEATURES, DAY_MS, None, RecordRules(mappings={"other": mapping})).decode(fetched)
    assert (batch.keys, rejects) == ([b"p"], [])


LABELLED: dict[str, Any] = {
    "labels": {"site": "site", "line": "tags.line", "unit": "$header.unit", "n": "length(site)"}
}


@pytest.mark.parametrize(
    ("site", "found"),
    [
        ("Halle Süd", "Halle Süd"), ("x" * 100, "x" * 100), (7, "7"), (-(2**63), str(-(2**63))), (True, "true"),
        (False, "false"), ("x" * 101, None), ("", None), (None, None), (7.5, None), (2**64, None), (["a"], None),
        ({"a": 1}, None),
    ],
)  # fmt: skip
@pytest.mark.parametrize("count", [1, 40])
def test_a_label_is_a_text_a_whole_number_or_a_boolean_and_else_left_out(
    site: object, found: str | None, count: int
) -> None:
    """One record at a time and all at once."""
    mapped = {"labels": {"site": "site", "line": "tags.line", "unit": "$header.unit"}}
    value = {"timestamp": NOW_MS, "values": {"temp": 1, "press": 2}, "site": site, "tags": {"line": 3}}
    batch, rejects = decode([json.dumps(value).encode()] * count, mapped, headers={"unit": b"b\xff"})
    rest = {"line": "3", "unit": "b\ufffd"}
    assert rejects == []
    assert batch.labels == [{"site": found, **rest} if found is not None else rest] * count
    assert len(set(map(id, batch.labels or ()))) == 1


def test_half_of_a_surrogate_pair_is_no_label_as_no_event_could_have_it() -> None:
    assert (label_text("a\ud800"), label_text("a\U0001f6e2")) == (None, "a\U0001f6e2")


def test_no_reading_is_refused_for_a_label_that_cannot_be_looked_for() -> None:
    value = json.dumps({"timestamp": NOW_MS, "values": {"temp": 1, "press": 2}, "site": 7}).encode()
    batch, rejects = decode([value], LABELLED)
    assert (batch.labels, rejects) == ([{"site": "7"}], [])


def test_the_parts_of_a_batch_have_their_labels() -> None:
    written = [json.dumps({"timestamp": NOW_MS, "values": [n, n], "site": f"s{n}"}).encode() for n in range(6)]
    batch, _ = decode([*written[:2], b"{", *written[2:]], {"labels": {"site": "site"}})
    assert [one["site"] for one in batch.labels or ()] == ["s0", "s1", "s2", "s3", "s4", "s5"]
    assert batch.between(2, 4).labels == [{"site": "s2"}, {"site": "s3"}]
    assert batch.part(np.array([1, 5])).labels == [{"site": "s1"}, {"site": "s5"}]
    assert decode(written, {})[0].labels is None


def test_the_names_of_the_features_are_found_through_the_mapping() -> None:
    value = json.dumps({"metrics": [{"fields": {"temp": 1, "on": True, "press": 2}, "ts": 1}]}).encode()
    assert mapped_names(TopicMapping("", readings="metrics", values="fields"), value) == ("temp", "press")
    assert mapped_names(TopicMapping("", values={"a": "x", "b": "y"}), value) == ("a", "b")
    flat = json.dumps({"timestamp": 1, "temp": 2, "name": "x"}).encode()
    assert mapped_names(TopicMapping("", values="@"), flat) == ("temp",)
    assert mapped_names(TopicMapping("", values="temp"), flat) == ("value",)
    assert mapped_names(TopicMapping(""), b"{") == mapped_names(TopicMapping(""), flat) == ()


def list_of(value: bytes) -> list[Any]:
    """What is in an array, or in another one of an object's; anything else is one thing."""
    try:
        found = json.loads(value)
    except ValueError:
        return [value]
    within = found.get("m") or found if isinstance(found, dict) else found
    return within if isinstance(within, list) else [within]


@pytest.mark.slow
@given(
    values=st.lists(
        st.one_of(
            st.none(),
            st.binary(max_size=60),
            st.recursive(
                st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=8),
                lambda inner: (
                    st.lists(inner, max_size=4)
                    | st.dictionaries(st.sampled_from(["timestamp", "values", "temp", "press", "m", "id"]), inner)
                ),
                max_leaves=12,
            ).map(lambda one: json.dumps(one).encode()),
        ),
        min_size=1,
        max_size=4,
    ),
    mapped=st.sampled_from(
        [
            {},
            {"values": "@", "decimal": ","},
            {"readings": "m || @", "stream": ("$key", "id"), "time": "$time"},
            {"select": ("id > `1`",), "values": {"temp": "temp", "press": "m[0].press"}, "time_zone": "UTC"},
            {"format": "msgpack", "quality": "id", "good": ("a",)},
            {"labels": {"a": "id", "b": "m[0].id", "c": "length(id)", "d": "$key"}},
        ]
    ),
)
def test_whatever_the_bytes_each_record_is_readings_or_a_dead_letter_or_skipped(
    values: list[bytes | None], mapped: dict[str, Any]
) -> None:
    batch, rejects = decode(values, mapped)
    refused = {reject.record for reject in rejects}
    read = set((batch.readings.offsets.numpy() // 3).tolist())
    empty = len(values) - len(refused | read)
    none_in_it = [value for value in values if value is not None and not list_of(value)]
    assert empty <= batch.skipped + len(none_in_it)
    assert (batch.readings.times_ms >= 0).all()
