"""OTLP: what OpenTelemetry's own SDK and exporter write is read, and what is not of it is refused."""

import builtins
from random import Random
from typing import Any

import pytest
from google.protobuf.json_format import MessageToJson
from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics
from opentelemetry.proto.metrics.v1.metrics_pb2 import NumberDataPoint
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.resources import Resource

from docs.payloads import OTLP_JSON, OTLP_PROTOBUF
from service.errors import RefusedSetting
from service.input.guess import guess
from service.input.otlp import documents_of
from service.input.presets import PRESETS
from service.input.reasons import Reason
from tests.fuzzing import INPUTS
from tests.service.input.otlp_samples import exported, in_json, in_protobuf
from tests.service.input.test_mapping import NOW_MS, decode, readings, refusal

OTLP: dict[str, Any] = dict(PRESETS["otlp"])
OTLP["select"] = ("scalar",)
VALUE = ("value",)
PUMP = {"service.name": "pump", "host.name": "edge-1"}


def of_points(*points: tuple[str, dict[str, Any], float], resource: dict[str, Any] | None = None) -> Any:
    return exported(PUMP if resource is None else resource, points, NOW_MS * 1_000_000)


def test_the_documents_have_the_bytes_that_the_exporter_writes() -> None:
    request = exported({"service.name": "p7"}, [("temp", {}, 61.0), ("press", {}, 4.1)], 1_767_571_200_000_000_000)
    assert in_protobuf(request) == OTLP_PROTOBUF
    assert in_json(request).replace(b" ", b"").replace(b"61.0", b"61") == OTLP_JSON


@pytest.mark.parametrize("written", [in_protobuf, in_json])
def test_the_points_of_a_metric_are_streams_by_all_their_attributes(written: Any) -> None:
    request = of_points(
        ("temp", {"place": "inlet", "n": 3}, 61.5), ("temp", {"place": "outlet", "hot": True}, 62), ("flow", {}, -0.5)
    )
    assert readings(written(request), OTLP, features=VALUE) == [
        ("edge-1/pump/temp{n=3,place=inlet}", NOW_MS, [61.5]),
        ("edge-1/pump/temp{hot=true,place=outlet}", NOW_MS, [62.0]),
        ("edge-1/pump/flow", NOW_MS, [-0.5]),
    ]


def test_a_request_that_begins_as_json_may_be_protobuf() -> None:
    """A line's end is the tag of a resource's metrics, and a brace their size."""
    requests = [in_protobuf(of_points(("t" * size, {}, 1.5), resource={"service.name": "p"})) for size in range(1, 120)]
    (value,) = (request for request in requests if request[:2] == b"\n{")
    ((name, _, values),) = readings(value, OTLP, features=VALUE)
    assert (name[:3], values) == ("p/t", [1.5])


@pytest.mark.parametrize("written", [in_protobuf, in_json])
def test_gauges_and_sums_of_the_sdk_are_read_and_histograms_are_skipped(written: Any) -> None:
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader], Resource(PUMP), shutdown_on_exit=False)
    meter = provider.get_meter("plant")
    meter.create_gauge("temp", unit="Cel").set(61.5)
    meter.create_counter("parts").add(7)
    meter.create_up_down_counter("level").add(-3)
    meter.create_histogram("cycle").record(1.5)
    measured = reader.get_metrics_data()
    assert measured is not None
    value = written(encode_metrics(measured))
    provider.shutdown()
    mapped = {**OTLP, "stream": ("name", "kind", "temporality || 'none'")}
    batch, rejects = decode([value], mapped, VALUE, times_ms=-1)
    assert (rejects, batch.skipped) == ([], 1)
    assert dict(zip(batch.keys, batch.readings.values.tolist(), strict=True)) == {
        b"temp/gauge/none": [61.5],
        b"parts/sum/cumulative": [7.0],
        b"level/sum/cumulative": [-3.0],
    }
    of_histogram = {**OTLP, "select": ("kind == 'histogram'",), "values": "sum"}
    batch, rejects = decode([value], of_histogram, VALUE, times_ms=-1)
    assert (rejects, batch.readings.values.tolist()) == ([], [[1.5]])


def documents(value: bytes) -> list[Any]:
    return list(documents_of("plant")(value))


def test_json_has_the_documents_that_protobuf_has() -> None:
    """Whatever the SDK writes, and what protobuf's own JSON makes of it: the first is the oracle of the second."""
    reader = InMemoryMetricReader()
    attributes: dict[str, Any] = {**PUMP, "n": 2**53 + 1, "hot": True, "share": 0.1, "many": ["a", "b"], "none": "null"}
    provider = MeterProvider([reader], Resource(attributes), shutdown_on_exit=False)
    meter = provider.get_meter("plant")
    meter.create_gauge("temp", unit="Cel").set(61.5, {"place": "inlet\u00fc", "n": -3})
    meter.create_counter("parts").add(2**62, {"delta": 1.5})
    meter.create_histogram("cycle").record(1.5)
    collected = reader.get_metrics_data()
    assert collected is not None
    request = encode_metrics(collected)
    provider.shutdown()
    broken = request.resource_metrics[0].scope_metrics[0].metrics.add(name="broken").gauge.data_points
    for number in (float("nan"), float("inf"), float("-inf")):
        broken.add(as_double=number, time_unix_nano=2**63)
    value = request.resource_metrics[0].resource.attributes.add(key="more").value
    value.kvlist_value.values.add(key="raw").value.bytes_value = b"\x00\xff"
    value.kvlist_value.values.add(key="nothing")
    found = documents(in_protobuf(request))
    assert [one["name"] for one in found] == ["temp", "parts", "cycle", *["broken"] * 3]
    assert found[0]["resource"]["more"] == {"raw": "00ff", "nothing": None}
    for enums in (True, False):
        assert repr(documents(MessageToJson(request, use_integers_for_enums=enums).encode())) == repr(found)


def test_a_point_without_a_recorded_value_is_missing() -> None:
    request = of_points(("temp", {}, 61.5))
    point: NumberDataPoint = request.resource_metrics[0].scope_metrics[0].metrics[0].gauge.data_points[0]
    point.flags = 1
    assert readings(in_protobuf(request), OTLP, features=VALUE) == [("edge-1/pump/temp", NOW_MS, [None])]


@pytest.mark.parametrize(
    ("value", "reason", "said"),
    [
        (b"", Reason.BAD_OTLP, "no metrics in 0 bytes, expected those of OTLP"),
        (b"{}", Reason.BAD_OTLP, "no metrics in 2 bytes"),
        (b'{"resourceLogs": []}', Reason.BAD_OTLP, "logs and traces are not read"),
        (b'{"resourceMetrics": 7}', Reason.BAD_OTLP, "no metrics of OTLP: "),
        (b"{" * 10_000, Reason.BAD_OTLP, "no metrics of OTLP: "),
        (in_protobuf(of_points(("temp", {}, 1)))[:-4], Reason.BAD_OTLP, "no metrics of OTLP: "),
        (in_protobuf(of_points(("temp", {}, 1), resource={})), Reason.BAD_KEY, "nothing at source"),
        (in_protobuf(exported(PUMP, [("temp", {}, 1)], 0)), Reason.BAD_TIMESTAMP, "nothing at time"),
        (in_protobuf(exported(PUMP, [("temp", {}, 1)], NOW_MS)), Reason.BAD_TIMESTAMP, "looks like milliseconds"),
    ],
)
def test_what_is_no_metric_or_lacks_something_is_refused(value: bytes, reason: Reason, said: str) -> None:
    found, detail = refusal(value, OTLP, features=VALUE)
    assert (found, said in detail) == (reason, True), detail


def test_a_resource_without_a_name_is_guessed_to_have_streams_by_series() -> None:
    found = guess(None, in_protobuf(of_points(("temp", {}, 61.5), resource={"a": 1})))
    assert found is not None
    assert found.settings == {"preset": "otlp", "stream": "series"}


def test_without_the_library_the_setting_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    imported = builtins.__import__

    def without(name: str, *more: Any) -> Any:
        if name.startswith("opentelemetry"):
            raise ModuleNotFoundError(name=name)
        return imported(name, *more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(RefusedSetting, match=r"plant\.format: found otlp, expected .* pip install 'telltale\[otlp\]'"):
        decode([], OTLP, VALUE)
    found = guess(None, OTLP_PROTOBUF)
    assert found is not None
    assert (found.settings, found.needs) == (None, "pip install 'telltale[otlp]'")


@pytest.mark.parametrize("written", [in_protobuf, in_json])
def test_no_bytes_raise_anything_but_a_refusal(written: Any) -> None:
    good = written(of_points(("temp", {"place": "inlet"}, 61.5), ("flow", {}, 2)))
    random, values = Random(17), list[bytes]()
    for _ in range(INPUTS):
        value = bytearray(good)
        for _ in range(random.randrange(4)):
            at = random.randrange(len(value))
            value[at : at + random.randrange(3)] = random.randbytes(random.randrange(3))
        values.append(bytes(value))
    batch, rejects = decode(values, OTLP, VALUE)
    assert len(rejects) > INPUTS / 10
    assert len(batch.keys) > INPUTS / 10
