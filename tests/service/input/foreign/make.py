# mypy: ignore-errors
"""Bytes that other people's libraries write, for test_foreign.py: made once and kept, so that tests need none of them.

Run it in an environment of its own, in this folder:

    pip install pysparkplug==0.6.1 opentelemetry-sdk==1.45.2 opentelemetry-exporter-otlp-proto-common==1.45.2 \\
      influxdb-client==1.50.0 cloudevents==2.2.0 msgpack==1.2.4 senml==0.1.0
    python make.py
"""

import json
from pathlib import Path

import cloudevents.v1.http as cloudevents
import msgpack
import pysparkplug
import senml
from influxdb_client import Point
from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics
from opentelemetry.metrics import CallbackOptions, Observation
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.resources import Resource

HERE = Path(__file__).parent
NOW_MS = 1_767_571_200_000
BIRTH = [("Temp", pysparkplug.DataType.DOUBLE, 61.0, 1), ("Count", pysparkplug.DataType.INT32, -3, 2)]


def of_sparkplug() -> None:
    named = [pysparkplug.Metric(NOW_MS, name, kind, value=value, alias=alias) for name, kind, value, alias in BIRTH]
    by_alias = [
        pysparkplug.Metric(NOW_MS + 1000, None, kind, value=value, alias=alias) for _, kind, value, alias in BIRTH
    ]
    birth = pysparkplug.DBirth(NOW_MS, 1, tuple(named))
    data = pysparkplug.DData(NOW_MS + 1000, 2, tuple(by_alias))
    (HERE / "sparkplug-dbirth.bin").write_bytes(birth.encode(include_dtypes=True))
    (HERE / "sparkplug-ddata-by-alias.bin").write_bytes(data.encode(include_dtypes=True))


def of_opentelemetry() -> None:
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader], Resource({"service.name": "plant", "host.name": "h1"}))
    meter = provider.get_meter("pump")

    def temperature(_: CallbackOptions) -> list[Observation]:
        return [Observation(61.0, {"pump": "p7"}), Observation(20.5, {"pump": "p8"})]

    meter.create_observable_gauge("temp", [temperature], "Cel")
    meter.create_histogram("latency").record(3.0)
    request = encode_metrics(reader.get_metrics_data())
    for metric in request.resource_metrics[0].scope_metrics[0].metrics:
        for point in (*metric.gauge.data_points, *metric.histogram.data_points):
            point.time_unix_nano = NOW_MS * 10**6  # and not when this ran
    (HERE / "opentelemetry.bin").write_bytes(request.SerializeToString())


def of_influxdb() -> None:
    point = Point("opcua").tag("id", "p 7,=").field("temp", 61.0).field("press", 4.1).field("state", 'say "on"')
    line = point.time(NOW_MS * 10**6).to_line_protocol()
    (HERE / "influxdb-client.bin").write_bytes(line.encode())


def of_cloudevents() -> None:
    attributes = {"type": "reading", "source": "plant", "subject": "p7", "id": "1", "time": "2026-01-05T00:00:00Z"}
    event = cloudevents.CloudEvent(attributes, {"temp": 61.0, "press": 4.1})
    (HERE / "cloudevents-structured.bin").write_bytes(cloudevents.to_structured(event)[1])


def of_senml() -> None:
    base = senml.SenMLMeasurement(name="p7/", time=NOW_MS / 1000)
    found = [
        senml.SenMLMeasurement(name="temp", unit="Cel", value=61.0),
        senml.SenMLMeasurement(name="press", value=4.1, time=0.5),
    ]
    (HERE / "senml.bin").write_bytes(json.dumps(senml.SenMLDocument(found, base=base).to_json()).encode())


def of_msgpack() -> None:
    reading = {"timestamp": NOW_MS, "values": {"temp": 61.0, "press": None}}
    (HERE / "msgpack.bin").write_bytes(msgpack.packb(reading))


if __name__ == "__main__":
    for make in (of_sparkplug, of_opentelemetry, of_influxdb, of_cloudevents, of_senml, of_msgpack):
        make()
