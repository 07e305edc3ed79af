"""Metrics of OpenTelemetry (OTLP), Protobuf or JSON, to documents: one for each point of each metric.

Written by the Kafka exporter of the OpenTelemetry Collector (`otlp_proto`, `otlp_json`) and by Telegraf. A point of a
gauge or a sum is a number; histograms and summaries are documents with `scalar` false, which the preset leaves out.
Source: opentelemetry-proto 1.x, metrics.proto.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import msgspec

from service.errors import RefusedSetting, RejectedReading
from service.input.otlp_json import request_of
from service.input.reasons import Reason

NUMBERS = ("gauge", "sum")
NO_RECORDED_VALUE = 1  # a flag of a point: what was measured is not there any more
SOURCES = ("host.name", "service.name", "service.instance.id")  # what tells resources apart
TEMPORALITIES = ("unspecified", "delta", "cumulative")
INSTALL = "pip install 'telltale[otlp]'"
BYTE_ORDER_MARK = b"\xef\xbb\xbf"

Documents = Callable[[bytes], Iterable[Any]]


def documents_of(setting: str) -> Documents:
    """Reads requests of OTLP. Raises RefusedSetting where the library is missing that knows their form.

    A document: name, unit and kind of the metric; value, time (ns) and attributes of the point; attributes of its
    resource (`resource`), and those of SOURCES in them, joined (`source`); `series`, the name with all attributes.
    """
    messages = messages_of(setting)

    def documents(value: bytes) -> Iterator[Any]:
        try:
            request = _request(value, messages)
        except (messages.error, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise RejectedReading(Reason.BAD_OTLP, f"no metrics of OTLP: {error} in {len(value)} bytes") from error
        return _points(request, len(value))

    return documents


def _request(value: bytes, messages: "Messages") -> Any:
    """In JSON or Protobuf. Both may begin with a line's end and a brace: Protobuf's is the tag and the size 123."""
    text = value.removeprefix(BYTE_ORDER_MARK)
    if text.lstrip()[:1] != b"{":
        return messages.request.FromString(value)
    try:
        return request_of(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        if value[:1] != b"\n":
            raise
        return messages.request.FromString(value)


class Messages(NamedTuple):
    """Classes of the library's messages, and what they raise."""

    request: Any
    resource: Any
    scope: Any
    point: Any
    error: type[Exception]


def messages_of(setting: str) -> Messages:
    """Raises RefusedSetting where the library is missing."""
    try:
        from google.protobuf.message import DecodeError  # noqa: PLC0415  (most need no OTLP)
        from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (  # noqa: PLC0415
            ExportMetricsServiceRequest,
        )
        from opentelemetry.proto.common.v1.common_pb2 import InstrumentationScope  # noqa: PLC0415
        from opentelemetry.proto.metrics.v1.metrics_pb2 import NumberDataPoint  # noqa: PLC0415
        from opentelemetry.proto.resource.v1.resource_pb2 import Resource  # noqa: PLC0415
    except ImportError:
        raise RefusedSetting(
            f"{setting}.format: found otlp, expected the package opentelemetry-proto as well: {INSTALL}"
        ) from None
    return Messages(ExportMetricsServiceRequest, Resource, InstrumentationScope, NumberDataPoint, DecodeError)


def _points(request: Any, size: int) -> Iterator[dict[str, Any]]:
    metrics = 0
    for of_resource in request.resource_metrics:
        resource = attributes_of(of_resource.resource.attributes)
        source = source_of(resource)
        for of_scope in of_resource.scope_metrics:
            for metric in of_scope.metrics:
                metrics += 1
                shared = {"source": source, "resource": resource, "scope": of_scope.scope.name}
                yield from _of_metric(metric, shared)
    if not metrics:
        raise RejectedReading(
            Reason.BAD_OTLP, f"no metrics in {size} bytes, expected those of OTLP; logs and traces are not read"
        )


def _of_metric(metric: Any, shared: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    kind = metric.WhichOneof("data")
    if kind is None:
        return
    data, name = getattr(metric, kind), metric.name
    about = {"name": name, "unit": metric.unit, "kind": kind, "scalar": kind in NUMBERS, **shared}
    if hasattr(data, "aggregation_temporality"):
        about["temporality"] = _temporality(data.aggregation_temporality)
    if kind == "sum":
        about["monotonic"] = data.is_monotonic
    for point in data.data_points:
        attributes = attributes_of(point.attributes)
        yield {
            **about,
            "series": series_of(name, attributes),
            "attributes": attributes,
            "time": point.time_unix_nano or None,
            **(_number(point) if kind in NUMBERS else {"count": point.count, "sum": point.sum}),
        }


def _temporality(given: int | str) -> str:
    """JSON may have its name: AGGREGATION_TEMPORALITY_DELTA."""
    if isinstance(given, str) and not given.isdecimal():
        return given.rpartition("_")[2].lower()
    return TEMPORALITIES[int(given) % len(TEMPORALITIES)]


def _number(point: Any) -> dict[str, Any]:
    field = point.WhichOneof("value")
    return {"value": None if field is None or point.flags & NO_RECORDED_VALUE else getattr(point, field)}


def source_of(resource: Mapping[str, Any]) -> str | None:
    """What tells a resource apart from others, by its attributes."""
    return "/".join(_text(resource[name]) for name in SOURCES if name in resource) or None


def attributes_of(given: Any) -> dict[str, Any]:
    return {one.key: _plain(one.value) for one in given} if given else {}


def _plain(value: Any) -> Any:
    field = value.WhichOneof("value")
    if field is None:
        return None
    found = getattr(value, field)
    if field == "array_value":
        return [_plain(one) for one in found.values]
    if field == "kvlist_value":
        return attributes_of(found.values)
    return found.hex() if isinstance(found, bytes) else found


def series_of(name: str, attributes: Mapping[str, Any]) -> str:
    """All that tells the points of one metric apart, in an order of its own: `cpu.time{cpu=0,state=user}`."""
    if not attributes:
        return name
    return f"{name}{{{','.join(f'{key}={_text(attributes[key])}' for key in sorted(attributes))}}}"


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
