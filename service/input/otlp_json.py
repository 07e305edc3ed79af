"""OTLP's metrics in JSON: structs with the fields that are read, and the `WhichOneof` that Protobuf's messages have.

Made for speed: protobuf's own json_format reads 500 requests a second. Keys are camelCase, integers of 64 bits numbers
or strings, enums numbers or names, as OTLP 1.x and protobuf's JSON say.
"""

from typing import Annotated, ClassVar

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

Int64 = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
Uint64 = Annotated[int, Meta(ge=0)]  # msgspec has no bound beyond 2 ** 63


class OneOf(Struct, rename="camel", frozen=True):
    """A message of whose fields `choices` one is set."""

    choices: ClassVar[tuple[str, ...]] = ()

    def WhichOneof(self, _: str) -> str | None:  # noqa: N802  (as Protobuf's messages call it)
        return next((name for name in self.choices if getattr(self, name) is not UNSET), None)


class AnyValue(OneOf, frozen=True):
    choices = ("string_value", "int_value", "double_value", "bool_value", "array_value", "kvlist_value", "bytes_value")

    string_value: str | UnsetType = UNSET
    int_value: Int64 | UnsetType = UNSET
    double_value: float | UnsetType = UNSET
    bool_value: bool | UnsetType = UNSET
    array_value: "ArrayValue | UnsetType" = UNSET
    kvlist_value: "Attributes | UnsetType" = UNSET
    bytes_value: bytes | UnsetType = UNSET


class ArrayValue(Struct, frozen=True):
    values: tuple[AnyValue, ...] = ()


class KeyValue(Struct, frozen=True):
    key: str = ""
    value: AnyValue = AnyValue()


class Attributes(Struct, frozen=True):
    values: tuple[KeyValue, ...] = ()


class Point(OneOf, frozen=True):
    choices = ("as_double", "as_int")

    attributes: tuple[KeyValue, ...] = ()
    time_unix_nano: Uint64 = 0
    as_double: float | UnsetType = UNSET
    as_int: Int64 | UnsetType = UNSET
    flags: int = 0
    count: Uint64 = 0
    sum: float = 0.0


class Points(Struct, rename="camel", frozen=True):
    data_points: tuple[Point, ...] = ()


class Accumulated(Points, frozen=True):
    aggregation_temporality: int | str = 0


class Sum(Accumulated, frozen=True):
    is_monotonic: bool = False


class Metric(OneOf, frozen=True):
    choices = ("gauge", "sum", "histogram", "exponential_histogram", "summary")

    name: str = ""
    unit: str = ""
    gauge: Points | UnsetType = UNSET
    sum: Sum | UnsetType = UNSET
    histogram: Accumulated | UnsetType = UNSET
    exponential_histogram: Accumulated | UnsetType = UNSET
    summary: Points | UnsetType = UNSET


class Scope(Struct, frozen=True):
    name: str = ""


class OfScope(Struct, frozen=True):
    scope: Scope = Scope()
    metrics: tuple[Metric, ...] = ()


class Resource(Struct, frozen=True):
    attributes: tuple[KeyValue, ...] = ()


class OfResource(Struct, rename="camel", frozen=True):
    resource: Resource = Resource()
    scope_metrics: tuple[OfScope, ...] = ()


class Request(Struct, rename="camel", frozen=True):
    """ExportMetricsServiceRequest."""

    resource_metrics: tuple[OfResource, ...] = ()


request_of = msgspec.json.Decoder(Request, strict=False).decode  # not strict: numbers may be strings
