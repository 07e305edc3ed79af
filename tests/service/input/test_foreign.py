"""What other people's programs and libraries write is read as it is meant: the files that foreign/make.py made."""

import math
from pathlib import Path

import pytest

from docs.payloads import NOW_MS, Payload, readings
from service.input.guess import guess
from service.input.sparkplug import payload_of, topic_of
from service.stages.rekey.births import Births, Message

HERE = Path(__file__).parent / "foreign"
SPARKPLUG_KEY = b"spBv1.0/plant/DDATA/edge/p7"
SPARKPLUG_BIRTH_KEY = b"spBv1.0/plant/DBIRTH/edge/p7"
BOTH = ("temp", "press")
ONE = ("value",)
P7, P8 = ("p7", NOW_MS, [61.0, 4.1]), ("p8", NOW_MS + 1000, [20.5, 1.2])

# Name of the file, mapping, key, features, and what is meant.
CASES = {
    "telegraf-json": ("{preset: telegraf, stream: tags.id}", None, BOTH, [("p 7", NOW_MS, [61.0, 4.1])]),
    "telegraf-json-batch": ("{preset: telegraf, stream: tags.id}", None, BOTH, [("p 7", NOW_MS, [61.0, 4.1]), P8]),
    "telegraf-influx": ("{preset: influx, stream: tags.id}", None, BOTH, [("p 7", NOW_MS, [61.0, 4.1]), P8]),
    "influxdb-client": ("{preset: influx, stream: tags.id}", None, BOTH, [("p 7,=", NOW_MS, [61.0, 4.1])]),
    "cloudevents-structured": ("{preset: cloudevents, stream: subject}", None, BOTH, [P7]),
    "msgpack": ("", b"p7", BOTH, [("p7", NOW_MS, [61.0, math.nan])]),
    "senml": ("{preset: senml}", None, ONE, [("p7/temp", NOW_MS, [61.0]), ("p7/press", NOW_MS + 500, [4.1])]),
    "sparkplug-dbirth": (
        "{preset: sparkplug}",
        SPARKPLUG_BIRTH_KEY,
        ONE,
        [("plant/edge/p7/Temp", NOW_MS, [61.0]), ("plant/edge/p7/Count", NOW_MS, [-3.0])],
    ),
}


def of_file(name: str, mapping: str, key: bytes | None, features: tuple[str, ...]) -> Payload:
    return Payload(name, (HERE / f"{name}.bin").read_bytes(), mapping, key, features)


@pytest.mark.parametrize("name", CASES)
def test_what_others_write_is_read_as_it_is_meant(name: str) -> None:
    mapping, key, features, meant = CASES[name]
    assert repr(readings(of_file(name, mapping, key, features))) == repr(meant)


@pytest.mark.parametrize("name", [name for name, (mapping, *_) in CASES.items() if mapping])
def test_its_form_is_recognised(name: str) -> None:
    mapping, key, features, _ = CASES[name]
    found = guess(key, of_file(name, mapping, key, features).value)
    assert found is not None
    assert found.yaml.startswith(mapping.partition(",")[0].rstrip("}")), "the preset is named"


def test_opentelemetrys_gauges_are_read_and_its_histograms_left_out() -> None:
    payload = of_file("opentelemetry", "{preset: otlp}", None, ONE)
    assert readings(payload) == [
        ("h1/plant/temp{pump=p7}", NOW_MS, [61.0]),
        ("h1/plant/temp{pump=p8}", NOW_MS, [20.5]),
    ]


def test_data_by_alias_is_read_by_the_birth_of_the_same_library() -> None:
    births = Births()
    for name, kind, key in (
        ("sparkplug-dbirth", "DBIRTH", SPARKPLUG_BIRTH_KEY),
        ("sparkplug-ddata-by-alias", "DDATA", SPARKPLUG_KEY),
    ):
        payload = payload_of((HERE / f"{name}.bin").read_bytes())
        message = Message(kind, topic_of(key)["source"], payload, NOW_MS)
        births.take(message)
        births.fill_in(message, needs_names=True)
    data = of_file("sparkplug-ddata-by-alias", "{preset: sparkplug}", SPARKPLUG_KEY, ONE)
    assert readings(data._replace(value=payload.SerializeToString())) == [
        ("plant/edge/p7/Temp", NOW_MS + 1000, [61.0]),
        ("plant/edge/p7/Count", NOW_MS + 1000, [-3.0]),
    ]
