"""Records of many readings: in every format the same readings come out as from a record each."""

import base64
import math
import random
import struct
import tracemalloc
from collections.abc import Callable, Sequence
from itertools import combinations, pairwise
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from service.input.flaws import MAX_VALUE
from service.input.formats import MOST_READINGS, InputFormat, RecordRules
from service.input.names import names_in
from service.input.reading_batch import ReadingBatch
from service.input.reasons import Reason
from service.input.rejects import Reject
from service.input.wire import Decoder, encode_reading
from service.input.writing import encode_readings
from service.log.port import Fetched, Partition
from tests.service.input.arrow_samples import REFUSED, SAMPLES, TIMES_MS, VALUES

FEATURES = ("flow", "pressure")
HERE = Partition("plant", 1)
NOW_MS = 1_790_000_000_000
DAY_MS = 86_400_000
YEAR_MS = 365 * DAY_MS
FORMATS = (InputFormat.JSON, InputFormat.MSGPACK, InputFormat.ARROW)


def fetched(values: Sequence[bytes | None], keys: Sequence[bytes | None] | None = None, record_ms: int = -1) -> Fetched:
    """Records at offsets 10, 13, 16, ..."""
    count = len(values)
    offsets, times_ms = np.arange(count, dtype=np.int64) * 3 + 10, np.full(count, record_ms, dtype=np.int64)
    given_keys: list[bytes | None] = [b"pump"] * count if keys is None else list(keys)
    return Fetched(HERE, given_keys, list(values), offsets, times_ms, 3 * count + 10, 3 * count + 10)


def decoder(features: Sequence[str] = FEATURES, rules: RecordRules | None = None) -> Decoder:
    return Decoder(features, DAY_MS, 30 * YEAR_MS, rules or RecordRules())


def refused(value: bytes | None, key: bytes | None = b"pump", **more: Any) -> tuple[Reason, str]:
    """Why none of a record can be read."""
    batch, (reject,) = decoder(**more).decode(fetched([value], [key]))
    assert batch.keys == []
    return reject.reason, reject.detail


def readings(count: int, features: int = 2, seed: int = 0) -> tuple[list[int], Any]:
    chance = np.random.default_rng(seed)
    values = chance.normal(size=(count, features))
    values[chance.random(values.shape) < 0.1] = np.nan
    return [NOW_MS + 1_000 * n for n in range(count)], values


def bits(batch: ReadingBatch) -> list[tuple[bytes, int, bytes]]:
    """Stream, time and values of each reading; of what is missing no bits."""
    values = batch.readings.values.numpy()
    return [
        (bytes(key), time, struct.pack(f"{len(row)}d", *(math.nan if math.isnan(one) else one for one in row)))
        for key, time, row in zip(batch.keys, batch.readings.times_ms.tolist(), values.tolist(), strict=True)
    ]


def one_by_one(features: Sequence[str], times_ms: Sequence[int], values: Any, keys: Sequence[bytes]) -> ReadingBatch:
    sent = [encode_reading(features, time, row.tolist()) for time, row in zip(times_ms, values, strict=True)]
    batch, rejects = decoder(features).decode(fetched(sent, keys))
    assert rejects == []
    return batch


# --- what is read


@pytest.mark.parametrize("written", FORMATS)
@pytest.mark.parametrize("count", [1, 2, 15, 16, 100])
@pytest.mark.parametrize("features", [("flow",), FEATURES, tuple(f"f{n}" for n in range(17))])
def test_many_readings_are_read_as_one_by_one(written: InputFormat, count: int, features: Sequence[str]) -> None:
    times_ms, values = readings(count, len(features))
    value = encode_readings(written, features, times_ms, values)
    batch, rejects = decoder(features).decode(fetched([value]))
    assert rejects == []
    assert bits(batch) == bits(one_by_one(features, times_ms, values, [b"pump"] * count))
    assert batch.readings.offsets.tolist() == [10] * count
    assert batch.indices.tolist() == list(range(count))
    assert batch.record_times_ms.tolist() == [-1] * count


@pytest.mark.parametrize("written", FORMATS)
def test_a_record_may_hold_readings_of_many_streams_whatever_its_key(written: InputFormat) -> None:
    times_ms, values = readings(40)
    streams = [f"pump/{n % 7}-ü" for n in range(40)]
    value = encode_readings(written, FEATURES, times_ms, values, streams)
    wanted = bits(one_by_one(FEATURES, times_ms, values, [stream.encode() for stream in streams]))
    for key in (b"hall 3", None, b"\0\0\0\7"):
        batch, rejects = decoder().decode(fetched([value], [key]))
        assert rejects == []
        assert bits(batch) == wanted


@pytest.mark.parametrize("pack", [msgspec.json.encode, msgspec.msgpack.encode])
@pytest.mark.parametrize(
    "message",
    [
        {"timestamps": [1, 2], "values": {"flow": [1.5, None], "pressure": [2, -3]}},
        {"timestamps": [1, 2], "values": [[1.5, 2], [None, -3.0]], "unit": "bar"},
        {"timestamps": [1.75, 2.0], "values": [[1.5, 2], [None, -3]]},
        {"timestamps": ["1970-01-01T00:00:00.001Z", "1970-01-01T01:00:00.002+01:00"], "values": [[1.5, 2], [None, -3]]},
        {"stream": "pump", "timestamps": [1, 2], "values": {"pressure": [2, -3], "flow": [1.5, None], "x": ["?"]}},
        {"stream": ["pump", "pump"], "timestamps": [1, 2], "values": [[1.5, 2], [None, -3]]},
    ],
)
def test_every_form_of_columns_is_read(pack: Callable[[Any], bytes], message: Any) -> None:
    batch, rejects = decoder().decode(fetched([pack(message)]))
    assert rejects == []
    assert (batch.keys, batch.readings.times_ms.tolist()) == ([b"pump"] * 2, [1, 2])
    assert batch.readings.values.nan_to_num(7.0).tolist() == [[1.5, 2.0], [7.0, -3.0]]


@pytest.mark.parametrize(
    "message",
    [
        {"timestamp": 5, "values": {"flow": 1.5, "pressure": None}},
        {"timestamp": 5.5, "values": [1.5, math.nan]},
        {"timestamp": "1970-01-01T00:00:00.005Z", "values": [1.5, None], "timestamps": [1]},
    ],
)
def test_one_reading_in_messagepack_is_read_as_in_json_alone_and_among_others(message: Any) -> None:
    value = msgspec.msgpack.encode(message)
    for others in ([], [b"{"], [encode_reading(FEATURES, 5, [1.5, math.nan])]):
        batch, rejects = decoder().decode(fetched([value, *others]))
        assert len(batch.keys) + len(rejects) == 1 + len(others)
        assert batch.readings.times_ms[0] == 5
        assert batch.readings.values[0].nan_to_num(7.0).tolist() == [1.5, 7.0]


NUMBERS = st.one_of(
    st.floats(-MAX_VALUE, MAX_VALUE), st.floats(-100, 100, width=32), st.integers(-(2**63), 2**64 - 1), st.none()
)


@pytest.mark.slow
@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4_000_000_000_000), NUMBERS, NUMBERS), min_size=1, max_size=40), st.booleans())
def test_numbers_that_are_written_in_any_way_are_those_of_json(
    rows: list[tuple[int, float | None, float | None]], by_name: bool
) -> None:
    times, first, second = (list(column) for column in zip(*rows, strict=True))
    values = {"flow": first, "pressure": second} if by_name else [list(row) for row in zip(first, second, strict=True)]
    sent = [pack({"timestamps": times, "values": values}) for pack in (msgspec.json.encode, msgspec.msgpack.encode)]
    of_files = Decoder(FEATURES, DAY_MS)
    (json, no_rejects), (packed, none_either) = (of_files.decode(fetched([value])) for value in sent)
    assert no_rejects == none_either == []
    assert bits(json) == bits(packed)


def test_records_of_all_formats_stand_side_by_side_in_their_order() -> None:
    times_ms, values = readings(60)
    cuts = [0, 1, 8, 9, 30, 31, 32, 60]
    records = [
        encode_readings(FORMATS[n % 3], FEATURES, times_ms[begin:end], values[begin:end])
        for n, (begin, end) in enumerate(pairwise(cuts))
    ]
    batch, (reject,) = decoder().decode(fetched([*records[:4], b"not a reading", *records[4:]]))
    assert (reject.record, reject.reason) == (4, Reason.BAD_JSON)
    assert bits(batch) == bits(one_by_one(FEATURES, times_ms, values, [b"pump"] * 60))
    assert batch.readings.offsets.tolist() == sorted(batch.readings.offsets.tolist())
    assert [int(index) for index in batch.indices[-29:]] == [0, *range(28)]


@pytest.mark.parametrize("name", SAMPLES)
def test_arrow_as_another_library_writes_it_is_read(name: str) -> None:
    sample = SAMPLES[name]
    batch, rejects = decoder().decode(fetched([base64.b64decode(sample.value)]))
    assert rejects == []
    assert batch.readings.times_ms.tolist() == [TIMES_MS[n] for n in sample.rows]
    wanted = [[math.nan if (n, k) in sample.missing else VALUES[n][k] for k in range(2)] for n in sample.rows]
    assert torch.equal(
        batch.readings.values.nan_to_num(7.0), torch.tensor(wanted).double().reshape(-1, 2).nan_to_num(7.0)
    )
    assert batch.keys == [b"pump"] * len(sample.rows) if sample.streams is None else list(sample.streams)


@pytest.mark.parametrize("name", REFUSED)
def test_arrow_that_is_not_read_is_refused_with_what_helps(name: str) -> None:
    value, reason, detail = REFUSED[name]
    assert refused(base64.b64decode(value)) == (reason, detail)


def test_streams_are_looked_up_once_a_run_with_the_same_result() -> None:
    """Also where a record is empty, some readings are bad, or a batch is cut between records."""
    times_ms, values = readings(9)
    values[2, 0] = values[3, 1] = 1e39
    sizes = [9, 1, 4, 0, 9, 2]
    sent = [
        encode_readings(InputFormat.ARROW if n % 2 else InputFormat.MSGPACK, FEATURES, times_ms[:size], values[:size])
        for n, size in enumerate(sizes)
    ]
    keys = [b"a", b"b", b"a", b"c", b"b", b"b"]
    batch, rejects = decoder().decode(fetched(sent, keys))
    assert [reject.record for reject in rejects] == [0, 2, 4]
    assert batch.runs is not None
    looked_up: list[bytes] = []

    def find(names: Sequence[bytes]) -> torch.Tensor:
        looked_up.extend(names)
        return torch.tensor([b"abc".index(name) for name in names], dtype=torch.int64)

    assert batch.slots(find).tolist() == find(batch.keys).tolist()
    assert looked_up[:5] == [b"a", b"b", b"a", b"b", b"b"], "of five records with readings"
    borders = [0, *(np.flatnonzero(np.diff(batch.readings.offsets)) + 1).tolist(), len(batch.keys)]
    for first, last in combinations(borders, 2):
        part = batch.between(first, last)
        assert bits(part) == bits(batch)[first:last]
        assert part.slots(find).tolist() == find(part.keys).tolist()


# --- what is refused


PACKED = msgspec.msgpack.encode


@pytest.mark.parametrize(
    ("value", "reason", "detail"),
    [
        (PACKED({"values": [1, 2]}), Reason.BAD_TIMESTAMP, "Object missing required field `timestamp`"),
        (PACKED({"timestamps": [1]}), Reason.WRONG_FEATURES, 'no "values", expected flow, pressure'),
        (
            PACKED({"timestamps": [1], "values": {"flow": [1]}}),
            Reason.WRONG_FEATURES,
            "Object missing required field `pressure`, in values",
        ),
        (
            PACKED({"timestamps": [1], "values": [[1]]}),
            Reason.WRONG_FEATURES,
            "reading 0: 1 values, the checkpoint expects 2: flow, pressure",
        ),
        (PACKED({"timestamps": [1, 2], "values": [[1, 2]]}), Reason.WRONG_FEATURES, "1 values, but 2 timestamps"),
        (
            PACKED({"timestamps": [1, 2], "values": {"flow": [1.0, 2.0], "pressure": [1.0]}}),
            Reason.WRONG_FEATURES,
            "1 values of pressure, but 2 timestamps",
        ),
        (
            PACKED({"timestamps": [1, True], "values": [[1, 2], [1, 2]]}),
            Reason.BAD_TIMESTAMP,
            "Expected `int | float | datetime`, got `bool` - at `$[1]`, in timestamps",
        ),
        (
            PACKED({"timestamps": [1], "values": {"flow": ["1"], "pressure": [1]}}),
            Reason.NOT_A_NUMBER,
            "Expected `float | null`, got `str` - at `$[0]`, in values of flow",
        ),
        (
            PACKED({"timestamps": [1], "values": [[1, "2"]]}),
            Reason.NOT_A_NUMBER,
            "Expected `float | null`, got `str` - at `$[0][1]`, in values",
        ),
        (
            PACKED({"stream": 5, "timestamps": [1], "values": [[1, 2]]}),
            Reason.BAD_KEY,
            "Expected `str | array`, got `int` - at `$.stream`",
        ),
        (
            PACKED({"stream": ["a"], "timestamps": [1, 2], "values": [[1, 2]] * 2}),
            Reason.BAD_KEY,
            "1 streams, but 2 timestamps",
        ),
        (PACKED({"timestamps": [1], "values": [[1, 2]]})[:-1], Reason.BAD_MSGPACK, "Input data was truncated"),
        (
            PACKED({"timestamps": [1], "values": [[1, 2]]}) + b"\0",
            Reason.BAD_MSGPACK,
            "MessagePack data is malformed: trailing characters (byte 25)",
        ),
        (b"\xff\xff\xff\xff\x00\x10", Reason.BAD_ARROW, "6 bytes: no whole message at byte 0"),
    ],
)
def test_what_cannot_be_decoded_at_all_is_refused_with_the_reason(value: bytes, reason: Reason, detail: str) -> None:
    assert refused(value) == (reason, detail)


@pytest.mark.parametrize("written", FORMATS)
def test_of_a_record_the_good_readings_are_judged_and_the_bad_ones_named(written: InputFormat) -> None:
    times_ms, values = readings(8)
    times_ms[1], times_ms[4], times_ms[6] = -5, NOW_MS + 2 * DAY_MS, 1_767_571_200
    values[3, 1] = 1e39
    value = encode_readings(written, FEATURES, times_ms, values)
    batch, (reject,) = decoder().decode(fetched([value], record_ms=NOW_MS))
    assert batch.indices.tolist() == [0, 2, 5, 7]
    assert (reject.record, reject.reason) == (0, Reason.BAD_TIMESTAMP)
    assert reject.detail == (
        "4 of 8 readings refused, the others are judged. "
        "Reading 1: timestamp -5 ms, expected 0 to 253402300799999; "
        "reading 3: pressure is 1e+39, expected at most 3.4e+38 either side of 0; "
        "reading 4: timestamp 1790172800000 is 172800 s ahead of its record's, "
        "expected at most 86400 s (limits.max_future_s); and 1 more"
    )


def test_a_bad_name_among_good_ones_costs_its_own_readings_alone() -> None:
    times_ms, values = readings(4)
    value = encode_readings(InputFormat.MSGPACK, FEATURES, times_ms, values, ["a", "", "b", "c\n"])
    batch, (reject,) = decoder().decode(fetched([value]))
    assert batch.keys == [b"a", b"b"]
    assert (reject.reason, "Reading 1: key of 0 bytes, expected 1 to 256; reading 3: " in reject.detail) == (
        Reason.BAD_KEY,
        True,
    )


def test_a_single_bad_reading_is_refused_as_in_json() -> None:
    for message in ({"timestamp": 1, "values": [1, 1e39]}, {"timestamp": -1, "values": [1, 2]}, {"timestamp": 1}):
        assert refused(msgspec.msgpack.encode(message)) == refused(msgspec.json.encode(message))


def test_a_record_that_names_no_stream_needs_a_key_that_does() -> None:
    value = encode_readings(InputFormat.MSGPACK, FEATURES, *readings(3))
    assert refused(value, key=None)[0] == Reason.MISSING_KEY
    assert refused(value, key=b"\xff")[0] == Reason.BAD_KEY


@pytest.mark.parametrize("written", FORMATS)
def test_more_readings_than_a_record_may_hold_are_refused(written: InputFormat) -> None:
    rules = RecordRules(max_readings=10)
    fits, too_many = (encode_readings(written, FEATURES, *readings(count)) for count in (10, 11))
    assert decoder(rules=rules).decode(fetched([fits]))[1] == []
    detail = "11 readings, expected at most 10 (limits.max_readings)"
    assert refused(too_many, rules=rules) == (Reason.TOO_MANY_READINGS, detail)


def test_a_reading_takes_a_few_bytes_at_least() -> None:
    value = msgspec.msgpack.encode({"timestamps": [1] * 1_000, "values": {"flow": [None] * 1_000}})
    reason, detail = refused(value, features=["flow"])
    assert (reason, detail) == (
        Reason.TOO_MANY_READINGS,
        f"1000 readings in {len(value)} bytes, expected at least 5 bytes each",
    )


def test_a_value_may_have_as_many_bytes_as_the_settings_say() -> None:
    value = encode_readings(InputFormat.MSGPACK, FEATURES, *readings(100))
    rules = RecordRules(max_batch_bytes=len(value) - 1)
    assert refused(value, rules=rules)[0] == Reason.TOO_LARGE


@pytest.mark.parametrize("written", FORMATS)
def test_a_format_that_is_set_is_the_only_one(written: InputFormat) -> None:
    for sent in FORMATS:
        value = encode_readings(sent, FEATURES, *readings(3))
        batch, rejects = decoder(rules=RecordRules(format=written)).decode(fetched([value]))
        assert (len(batch.keys), len(rejects)) == ((3, 0) if sent == written else (0, 1))


@pytest.mark.parametrize("written", FORMATS)
def test_the_names_of_the_features_are_found_in_every_format(written: InputFormat) -> None:
    for count in (1, 5):
        value = encode_readings(written, FEATURES, *readings(count))
        assert names_in(value) == FEATURES
    assert names_in(b"\xff\xff\xff\xff") == names_in(b"\x81") == names_in(b"{") == names_in(b"") == ()


# --- whatever the bytes


def readings_or_reject(values: Sequence[bytes], of: Decoder) -> tuple[ReadingBatch, list[Reject]]:
    """What is decoded, with what must be so of it whatever the bytes are."""
    batch, rejects = of.decode(fetched(values, record_ms=NOW_MS))
    count = len(batch.keys)
    assert count == len(batch.indices) == len(batch.record_times_ms) == len(batch.readings.offsets)
    assert batch.readings.values.shape == (count, len(FEATURES))
    assert not (batch.readings.values.abs() > MAX_VALUE).any()
    assert batch.readings.offsets.tolist() == sorted(batch.readings.offsets.tolist())
    assert len({reject.record for reject in rejects}) == len(rejects)
    assert (batch.indices < MOST_READINGS).all()
    return batch, rejects


SEEDS = [
    *(encode_readings(written, FEATURES, *readings(5)) for written in FORMATS),
    *(
        encode_readings(written, FEATURES, *readings(5), ["a", "b", "a", "long name of a stream", "c"])
        for written in FORMATS
    ),
    *(base64.b64decode(sample.value) for sample in SAMPLES.values()),
    *(base64.b64decode(value) for value, _, _ in REFUSED.values()),
    msgspec.msgpack.encode(
        {"timestamps": [1, 2.5, "1970-01-01T00:00:00Z"], "values": [[1, None], [2**40, -1], [0.5, 3]]}
    ),
    msgspec.msgpack.encode({"timestamp": NOW_MS, "values": [1.5, 2.0]}),
]
STRIKING = [
    b"\xff\xff\xff\x7f",
    b"\0\0\0\0",
    b"\xff\xff\xff\xff",
    b"\0\0\0\x80",
    b"\x01\0\0\0",
    b"\xff" * 8,
    b"\xdd\xff\xff\xff\xff",
]


def damaged(value: bytes, chance: random.Random) -> bytes:
    """The same with a few bytes changed, cut, doubled or replaced by striking ones."""
    data = bytearray(value)
    for _ in range(chance.randrange(1, 5)):
        at = chance.randrange(len(data) + 1)
        kind = chance.randrange(5)
        if kind == 0 and at < len(data):
            data[at] ^= 1 << chance.randrange(8)
        elif kind == 1 and at < len(data):
            data[at] = chance.randrange(256)
        elif kind == 2:
            striking = chance.choice(STRIKING)
            data[at : at + len(striking)] = striking
        elif kind == 3:
            del data[at:]
        else:
            data[at:at] = data[at : at + chance.randrange(1, 40)]
    return bytes(data)


def fuzz(rounds: int, seed: int) -> None:
    chance = random.Random(seed)
    of = decoder()
    for _ in range(rounds):
        values = [damaged(chance.choice(SEEDS), chance) for _ in range(chance.randrange(1, 20))]
        readings_or_reject(values, of)


@pytest.mark.slow
def test_damaged_records_give_readings_or_rejects_and_harm_no_neighbour() -> None:
    fuzz(300, seed=1)
    chance = random.Random(2)
    good = encode_readings(InputFormat.ARROW, FEATURES, *readings(5))
    wanted = bits(decoder().decode(fetched([good]))[0])
    for _ in range(100):
        batch, _ = readings_or_reject([damaged(chance.choice(SEEDS), chance), good], decoder())
        assert bits(batch)[-5:] == wanted


@pytest.mark.thorough
@pytest.mark.slow
def test_a_hundred_thousand_damaged_records_never_raise() -> None:
    fuzz(10_000, seed=random.SystemRandom().randrange(2**31))


@settings(deadline=None)
@given(st.binary(max_size=100), st.sampled_from([b"", b"\xff\xff\xff\xff", b"\x82\xaatimestamps", b"\x83"]))
def test_whatever_the_bytes_a_record_is_read_or_refused(value: bytes, begins: bytes) -> None:
    batch, rejects = readings_or_reject([begins + value], decoder())
    assert len(rejects) <= 1
    assert batch.keys or rejects or begins + value


def test_what_claims_to_be_large_is_refused_before_memory_is_taken_for_it() -> None:
    claims = [
        b"\x82\xaatimestamps\xdd\xff\xff\xff\xff\xa6values\xdd\xff\xff\xff\xff",
        b"\x82\xaatimestamps\x91\x01\xa6values\xdf\xff\xff\xff\xff",
        b"\xff\xff\xff\xff\xff\xff\xff\x7f",
    ]
    of = decoder()
    tracemalloc.start()
    for claim in claims:
        assert of.decode(fetched([claim]))[1]
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 1_000_000
