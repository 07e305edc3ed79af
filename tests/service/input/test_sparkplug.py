"""Sparkplug B: what another project's library writes is read; numbers are never taken for others."""

from random import Random
from typing import Any

import pysparkplug as sp
import pytest

from docs.payloads import SPARKPLUG
from service.input.guess import guess
from service.input.presets import PRESETS
from service.input.reasons import Reason
from tests.fuzzing import INPUTS
from tests.service.input.test_mapping import NOW_MS, decode, readings, refusal

MAPPED: dict[str, Any] = {**PRESETS["sparkplug"], "good": (192,)}
VALUE = ("value",)
KEY = b"spBv1.0/plant/DDATA/edge-1/p7"
TYPES = sp.DataType
# What each may be, with its least and largest value.
BY_NAME = {one.name: one for one in TYPES}
INTEGERS = [(BY_NAME[f"{sign}INT{bits}"], bits, sign) for bits in (8, 16, 32, 64) for sign in ("", "U")]


def metric(name: str | None, datatype: sp.DataType, value: Any, **more: Any) -> sp.Metric:
    return sp.Metric(NOW_MS, name, datatype, value=value, **more)


def data(*metrics: sp.Metric, types: bool = True) -> bytes:
    return bytes(sp.DData(timestamp=NOW_MS, seq=2, metrics=metrics).encode(include_dtypes=types))


def test_the_documents_have_the_bytes_that_the_library_writes() -> None:
    time = 1_767_571_200_000
    metrics = [sp.Metric(time, name, TYPES.DOUBLE, value=value) for name, value in (("temp", 61.0), ("press", 4.1))]
    assert sp.DData(timestamp=time, seq=2, metrics=tuple(metrics)).encode(include_dtypes=True) == SPARKPLUG
    found = guess(KEY, SPARKPLUG)
    assert found is not None
    assert found.settings == {"preset": "sparkplug"}


@pytest.mark.parametrize(("datatype", "bits", "sign"), INTEGERS)
def test_integers_of_each_size_keep_their_sign(datatype: sp.DataType, bits: int, sign: str) -> None:
    numbers = (0, 1, 2**bits - 1) if sign else (-1, -(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    value = data(*(metric("level", datatype, number) for number in numbers))
    assert [row for *_, row in readings(value, MAPPED, features=VALUE, keys=[KEY])] == [[float(n)] for n in numbers]


def test_without_its_data_type_a_number_is_read_or_refused_but_never_guessed() -> None:
    good = data(metric("level", TYPES.INT32, 7), metric("temp", TYPES.FLOAT, -0.5), types=False)
    assert [row for *_, row in readings(good, MAPPED, features=VALUE, keys=[KEY])] == [[7.0], [-0.5]]
    for datatype, shown in ((TYPES.INT32, "-5 or 4294967291"), (TYPES.INT64, "-5 or 18446744073709551611")):
        reason, detail = refusal(data(metric("level", datatype, -5), types=False), MAPPED, features=VALUE, keys=[KEY])
        assert (reason, shown in detail) == (Reason.NOT_A_NUMBER, True), detail


def test_births_and_data_are_the_same_streams_and_what_is_no_number_is_skipped() -> None:
    metrics = (
        metric("bdSeq", TYPES.INT64, 3),
        metric("Node Control/Rebirth", TYPES.BOOLEAN, False),
        metric("temp", TYPES.DOUBLE, 61.5),
        metric("state", TYPES.STRING, "on"),
        metric("state before", TYPES.STRING, None, is_null=True),
        metric("started", TYPES.DATETIME, None, is_null=True),
        metric("on", TYPES.BOOLEAN, True),
        metric("press", TYPES.DOUBLE, None, is_null=True),
    )
    birth = bytes(sp.NBirth(timestamp=NOW_MS, seq=0, metrics=metrics).encode(include_dtypes=True))
    batch, rejects = decode(
        [birth, data(metric("temp", TYPES.DOUBLE, 62.0))],
        MAPPED,
        VALUE,
        keys=[b"spBv1.0/plant/NBIRTH/edge-1", b"spBv1.0/plant/NDATA/edge-1"],
    )
    assert (rejects, batch.skipped) == ([], 6)
    assert batch.keys == [b"plant/edge-1/temp", b"plant/edge-1/press", b"plant/edge-1/temp"]
    assert str(batch.readings.values.tolist()) == "[[61.5], [nan], [62.0]]"


def test_deaths_commands_and_the_state_of_hosts_are_skipped() -> None:
    death = sp.NDeath(timestamp=NOW_MS, bd_seq_metric=metric("bdSeq", TYPES.INT64, 3)).encode(include_dtypes=True)
    values = {
        b"spBv1.0/plant/NDEATH/edge-1": death,
        b"spBv1.0/plant/DDEATH/edge-1/p7": sp.DDeath(timestamp=NOW_MS, seq=3).encode(),
        b"spBv1.0/plant/DCMD/edge-1/p7": data(metric("setpoint", TYPES.DOUBLE, 61.5)),
        b"spBv1.0/STATE/scada": b'{"online":true,"timestamp":1704164645000}',
        b"STATE/scada/1": b"ONLINE",
    }
    batch, rejects = decode(list(values.values())[:4], MAPPED, VALUE, keys=list(values)[:4])
    assert (rejects, batch.keys, batch.skipped) == ([], [], 4)


def test_a_metric_of_bad_quality_is_missing() -> None:
    payload: Any = vars(sp._payload)["protobuf"].Payload.FromString(
        data(*(metric("temp", TYPES.DOUBLE, n) for n in range(3)))
    )
    for one, quality in zip(payload.metrics, (0, 192, None), strict=True):
        if quality is not None:
            one.properties.keys.append("Quality")
            one.properties.values.add(type=TYPES.INT32, int_value=quality)
    found = readings(payload.SerializeToString(), MAPPED, features=VALUE, keys=[KEY])
    assert [row for *_, row in found] == [[None], [1.0], [2.0]]


def test_an_alias_without_a_name_is_refused_unless_streams_are_named_by_it() -> None:
    value = data(metric(None, TYPES.DOUBLE, 61.5, alias=7), metric(None, TYPES.STRING, "on", alias=8))
    reason, detail = refusal(value, MAPPED, features=VALUE, keys=[KEY])
    assert reason == Reason.UNKNOWN_ALIAS
    assert "alias 7 and no name" in detail
    assert "`telltale rekey` keeps what births say" in detail
    assert "input.topics.plant.stream: [$key.source, alias]" in detail
    by_alias = {**MAPPED, "stream": ("$key.source", "alias")}
    assert readings(value, by_alias, features=VALUE, keys=[KEY]) == [("plant/edge-1/p7/7", NOW_MS, [61.5])]


@pytest.mark.parametrize(
    ("key", "value", "reason", "said"),
    [
        (KEY, b"", Reason.BAD_SPARKPLUG, "neither metrics nor a timestamp in 0 bytes"),
        (KEY, SPARKPLUG.replace(b"temp", b"\xd3emp"), Reason.BAD_SPARKPLUG, "the name b'\\xd3emp' is not UTF-8"),
        (KEY, SPARKPLUG[:-5], Reason.BAD_SPARKPLUG, "no payload of Sparkplug B: "),
        (b"p7", SPARKPLUG, Reason.BAD_KEY, "the key is b'p7', expected a topic of Sparkplug: spBv1.0/GROUP/TYPE/NODE"),
        (None, SPARKPLUG, Reason.BAD_KEY, "nothing at $key.source"),
    ],
)
def test_what_is_no_payload_or_not_of_a_topic_is_refused(
    key: bytes | None, value: bytes, reason: Reason, said: str
) -> None:
    mapped = MAPPED if key is not None else {**MAPPED, "select": ("scalar",)}
    found, detail = refusal(value, mapped, features=VALUE, keys=[key])
    assert (found, said in detail) == (reason, True), detail


@pytest.mark.slow
def test_no_bytes_raise_anything_but_a_refusal() -> None:
    random, values = Random(17), list[bytes]()
    for _ in range(INPUTS):
        value = bytearray(SPARKPLUG)
        for _ in range(random.randrange(4)):
            at = random.randrange(len(value))
            value[at : at + random.randrange(3)] = random.randbytes(random.randrange(3))
        values.append(bytes(value))
    batch, rejects = decode(values, MAPPED, VALUE, keys=[KEY] * len(values), times_ms=1_767_571_200_000)
    assert len(rejects) > INPUTS / 20
    assert len(batch.keys) > INPUTS / 20
