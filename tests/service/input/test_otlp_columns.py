"""Requests of OTLP in Protobuf read all at once: what each is by itself, or it is left."""

from collections.abc import Sequence
from random import Random
from typing import Any

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValue, KeyValueList
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric, NumberDataPoint

from docs.payloads import OTLP_JSON, OTLP_PROTOBUF
from service.input.otlp import documents_of, messages_of
from service.input.otlp_columns import walk_of
from tests.fuzzing import INPUTS
from tests.service.input import walking
from tests.service.input.walking import harmed, root_of

SETTING = "input.topics.plant"
NAMES = (
    *("name", "unit", "kind", "scalar", "source", "resource", "scope", "temporality", "monotonic", "series"),
    *("attributes", "time", "value", "count", "none"),
)
SHAPES = (
    root_of(*((name,) for name in NAMES)),
    root_of(("source",), ("series",), ("time",), values=("value",), features=("value",)),
    root_of(("resource", "host.name"), ("attributes", "place"), ("attributes", "none"), ("value",)),
)
T = 1_767_571_200_000_000_000


def compared(root: Any, values: Sequence[bytes]) -> tuple[int, int]:
    walk = walk_of(root, messages_of(SETTING))
    assert walk is not None
    return walking.compared(walk, documents_of(SETTING), root, values)


def value_of(rng: Random, depth: int = 0) -> Any:
    kinds = [AnyValue(string_value=rng.choice(("p7", "größe", ""))), AnyValue(int_value=rng.choice((0, -7, 2**63 - 1)))]
    kinds += [
        AnyValue(double_value=rng.choice((1.5, -0.0))),
        AnyValue(bool_value=True),
        AnyValue(bytes_value=b"\xff"),
        AnyValue(),
    ]
    if depth < 2:
        kinds.append(AnyValue(array_value=ArrayValue(values=[value_of(rng, depth + 1)] * rng.randrange(3))))
        kinds.append(AnyValue(kvlist_value=KeyValueList(values=attributes_of(rng, depth + 1))))
    return rng.choice(kinds)


def attributes_of(rng: Random, depth: int = 0) -> list[Any]:
    names = rng.sample(("host.name", "service.name", "place", "n"), rng.choice((0, 1, 1, 2)))
    return [KeyValue(key=name, value=value_of(rng, depth)) for name in names]


def request_of(rng: Random, sound: bool) -> Any:
    """sound: of gauges and sums alone, each with what exporters write."""
    request = ExportMetricsServiceRequest()
    for _ in range(rng.choice((1, 1, 2))):
        of_resource = request.resource_metrics.add()
        of_resource.resource.attributes.extend(attributes_of(rng))
        of_resource.schema_url = rng.choice(("", "http://x"))
        of_scope = of_resource.scope_metrics.add()
        of_scope.scope.name = rng.choice(("", "plant", "größe"))
        of_scope.scope.attributes.extend(attributes_of(rng))
        for _ in range(rng.choice((1, 2, 3))):
            metric = of_scope.metrics.add(name=rng.choice(("temp", "°")), unit=rng.choice(("", "Cel")), description="x")
            add_points(rng, metric, sound)
    return request


def add_points(rng: Random, metric: Any, sound: bool) -> None:
    if not sound and rng.random() < 0.1:
        metric.histogram.data_points.add(time_unix_nano=T, count=3, sum=1.5)
        return
    data = metric.gauge if rng.random() < 0.5 else metric.sum
    if data is metric.sum:
        data.aggregation_temporality, data.is_monotonic = rng.randrange(3), rng.random() < 0.5
    for _ in range(rng.choice((1, 2))):
        point = data.data_points.add(time_unix_nano=rng.choice((T, 1, 2**63 - 1)), start_time_unix_nano=T)
        point.attributes.extend(attributes_of(rng))
        point.flags = rng.choice((0, 0, 1, 2))
        if rng.random() < 0.6:
            point.as_double = rng.choice((61.0, -0.0, float("nan")))
        elif rng.random() < 0.8:
            point.as_int = rng.choice((0, -7, 2**63 - 1))
        if not sound and rng.random() < 0.1:
            point.exemplars.add(as_double=1.0)
        if not sound and rng.random() < 0.1:
            point.time_unix_nano = rng.choice((0, 2**63))


@pytest.mark.thorough
@pytest.mark.slow
@pytest.mark.parametrize("root", SHAPES)
def test_requests_sound_or_harmed_are_read_as_each_is_by_itself(root: Any) -> None:
    rng = Random(13)
    sound = [request_of(rng, sound=False).SerializeToString() for _ in range(2_000)]
    assert compared(root, sound)[0] > 500
    assert compared(root, [harmed(rng, rng.choice(sound)) for _ in range(2 * INPUTS)])[0] > 300


def test_all_requests_of_gauges_and_sums_are_walked() -> None:
    rng = Random(14)
    assert compared(SHAPES[0], [request_of(rng, sound=True).SerializeToString() for _ in range(300)]) == (300, 0)
    assert compared(SHAPES[0], [OTLP_PROTOBUF, OTLP_JSON, b"", b"\n {}", b"\n\x00"]) == (1, 1)


def with_fields(*metric_or_point: bytes, of_point: bool = False) -> bytes:
    """A request of one metric, or of one point in it, made of fields as they are."""

    def framed(tag: int, body: bytes) -> bytes:
        return bytes([tag, len(body)]) + body

    body = b"".join(metric_or_point)
    metric = b"\x0a\x04temp" + framed(0x2A, framed(0x0A, body)) if of_point else body
    return framed(0x0A, framed(0x12, framed(0x12, metric)))


def test_fields_in_another_order_or_twice_are_read_as_by_the_library_or_left() -> None:
    time, value, attribute = b"\x19" + bytes(7) + b"\x01", b"\x21" + bytes(8), b"\x3a\x05\x0a\x01a\x12\x00"
    whole, flags = b"\x31" + bytes(8), b"\x40\x01"
    parts = (time, value, attribute, whole, flags, b"\x11" + bytes(8), b"\x7a\x00", b"\xba\x01\x00", b"\x1b\x1c")
    rng = Random(15)
    for _ in range(2_000):
        fields = rng.choices(parts, k=rng.randrange(1, 6))
        compared(SHAPES[0], [with_fields(time, *fields, of_point=True), with_fields(*fields, of_point=True)])
    gauge, name = b"\x2a\x0b\x0a\x09" + time, b"\x0a\x01a"
    metrics = (
        gauge,
        name,
        b"\x3a\x0b\x0a\x09" + time,
        b"\x1a\x01u",
        b"\x62\x00",
        b"\x12\x01\xff",
        b"\x3a\x02\x10\x02",
        b"\x3a\x00",
    )
    for _ in range(2_000):
        compared(SHAPES[0], [with_fields(*rng.choices(metrics, k=rng.randrange(1, 5)))])


@pytest.mark.parametrize("depth", [10, 40])
def test_attributes_that_are_too_deep_are_left(depth: int) -> None:
    value = AnyValue(int_value=1)
    for _ in range(depth):
        value = AnyValue(array_value=ArrayValue(values=[value]))
    metric = Metric(name="temp")
    point = NumberDataPoint(time_unix_nano=T, as_int=1, attributes=[KeyValue(key="a", value=value)])
    metric.gauge.data_points.append(point)
    request = ExportMetricsServiceRequest()
    request.resource_metrics.add().scope_metrics.add().metrics.append(metric)
    walked, _ = compared(SHAPES[0], [request.SerializeToString()])
    assert walked == (depth == 10)


@pytest.mark.parametrize("names", [("name", "x"), ("scalar", "x"), ("value", "x")])
def test_a_shape_that_needs_parts_of_what_has_none_is_not_walked(names: tuple[str, str]) -> None:
    assert walk_of(root_of(names), messages_of(SETTING)) is None
