"""What OpenTelemetry's own exporter writes."""

from collections.abc import Mapping, Sequence
from typing import Any

from google.protobuf.json_format import MessageToJson
from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics
from opentelemetry.sdk.metrics.export import Gauge, Metric, MetricsData, NumberDataPoint, ResourceMetrics, ScopeMetrics
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope


def exported(
    resource: Mapping[str, Any], points: Sequence[tuple[str, Mapping[str, Any], int | float]], time_ns: int
) -> Any:
    """The exporter's request of gauges: name, attributes and value of each."""
    metrics = [
        Metric(name, None, None, Gauge([NumberDataPoint(attributes, 0, time_ns, value)]))
        for name, attributes, value in points
    ]
    of_scope = ScopeMetrics(InstrumentationScope("plant"), metrics, "")
    return encode_metrics(MetricsData([ResourceMetrics(Resource(resource), [of_scope], "")]))


def in_protobuf(request: Any) -> bytes:
    return bytes(request.SerializeToString())


def in_json(request: Any) -> bytes:
    return bytes(MessageToJson(request, indent=None), "utf-8")
