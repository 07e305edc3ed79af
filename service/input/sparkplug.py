"""Sparkplug B, as bridges from MQTT write it to Kafka, to documents: one for each metric of a payload.

A value is the payload of an MQTT message; a key of the format `sparkplug` is the topic that it was published to:
`spBv1.0/GROUP/TYPE/NODE[/DEVICE]`. Numbers are metrics with `scalar` true; texts, booleans, births' `bdSeq`, controls,
deaths and the state of hosts are not, and the preset leaves them out. The fields and their numbers are those of the
Sparkplug 3.0 specification, section 6.4.

A metric may come with an alias and no name, which only its node's birth explains. `telltale rekey` keeps what births
say and fills it in (service/stages/rekey/births.py). Here such a payload is refused, unless the mapping names streams
by the alias. An empty name is none.
"""

from collections.abc import Callable, Iterable, Iterator
from functools import cache
from typing import Any

from service.errors import RejectedReading
from service.input.formats import TopicMapping
from service.input.reasons import Reason

NAMESPACE = "spBv1.0"
MEASURES = frozenset(("NBIRTH", "DBIRTH", "NDATA", "DDATA"))  # types of messages that hold what was measured
SIGNED_BITS = {1: 8, 2: 16, 3: 32, 4: 64}  # by the number of a data type: Int8 to Int64
NUMBERS = range(11)  # data types, Unknown among them: data may leave out what the birth said
SIZES = {"int_value": 32, "long_value": 64}
FLOATS = ("float_value", "double_value")
CONTROLS = ("Node Control/", "Device Control/")
NO_READING = {"scalar": False}
STATES = (b"{", b"ONLINE", b"OFFLINE")  # with which the payload of a host's state begins: it is text

# Type as in descriptor.proto: double 1, float 2, uint64 4, uint32 13, bool 8, bytes 12, message 11.
_METRIC = (
    (1, "name", 12),  # as bytes: those of a string need not be UTF-8 by what the library checks
    (2, "alias", 4),
    (3, "timestamp", 4),
    (4, "datatype", 13),
    (5, "is_historical", 8),
    (7, "is_null", 8),
    (9, "properties", ".telltale.sparkplug.Properties"),
    (10, "int_value", 13),
    (11, "long_value", 4),
    (12, "float_value", 2),
    (13, "double_value", 1),
)
_PROPERTY = ((1, "type", 13), (3, "int_value", 13), (4, "long_value", 4))
REPEATED = 3
OPTIONAL = 1


def documents_of(mapping: TopicMapping) -> Callable[[bytes], Iterable[Any]]:
    """Reads payloads. A document: name, alias, value, timestamp (ms), datatype, quality (192: good) and historical."""
    _payload_class()
    needed_by = mapping.setting if needs_names(mapping) else None

    def documents(value: bytes) -> Iterable[Any]:
        if value.startswith(STATES):
            return [NO_READING]
        payload = payload_of(value)
        if not payload.metrics and not payload.HasField("timestamp"):
            raise RejectedReading(
                Reason.BAD_SPARKPLUG, f"neither metrics nor a timestamp in {len(value)} bytes, expected Sparkplug B"
            )
        return _metrics(payload, needed_by) if payload.metrics else [NO_READING]

    return documents


def needs_names(mapping: TopicMapping) -> bool:
    """Whether a metric needs a name: no part of its stream's is the alias."""
    return not any(part.rpartition(".")[2] == "alias" for part in mapping.stream)


def payload_of(value: bytes) -> Any:
    """The message, with the fields of `_METRIC`; others are kept, unread. Raises RejectedReading."""
    from google.protobuf.message import DecodeError  # noqa: PLC0415  (most need no Sparkplug)

    try:
        return _payload_class().FromString(value)
    except (DecodeError, UnicodeDecodeError, OverflowError, RecursionError) as error:
        raise RejectedReading(
            Reason.BAD_SPARKPLUG, f"no payload of Sparkplug B: {error} in {len(value)} bytes"
        ) from error


def data_of(source: str, metrics: Iterable[tuple[str, int | None, int]], time_ms: int) -> tuple[bytes, bytes]:
    """Key and value of a message with a number of each of these metrics: name, alias, data type."""
    group, _, place = source.partition("/")
    payload = _payload_class()(timestamp=time_ms)
    for name, alias, datatype in metrics:
        payload.metrics.add(name=name.encode(), alias=alias, datatype=datatype, int_value=0)
    kind = "DDATA" if "/" in place else "NDATA"
    return f"{NAMESPACE}/{group}/{kind}/{place}".encode(), payload.SerializeToString()


def topic_of(key: bytes | None) -> Any:
    """A topic of Sparkplug: `source` (GROUP/NODE[/DEVICE]), `type`, and `measures` if what it holds was measured."""
    if key is None:
        return None
    parts = key.decode(errors="replace").split("/")
    if len(parts) == 3 and parts[1] == "STATE":  # spBv1.0/STATE/HOST
        return {"source": parts[2], "type": "STATE", "measures": False}
    if len(parts) not in (4, 5) or parts[0] != NAMESPACE or "" in parts:
        raise RejectedReading(
            Reason.BAD_KEY,
            f"the key is {key[:80]!r}, expected a topic of Sparkplug: {NAMESPACE}/GROUP/TYPE/NODE or …/NODE/DEVICE",
        )
    _, group, kind, *place = parts
    return {"source": "/".join((group, *place)), "type": kind, "measures": kind in MEASURES}


def _metrics(payload: Any, names_needed_by: str | None) -> Iterator[dict[str, Any]]:
    """names_needed_by: the setting for which a number needs a name; None: an alias will do."""
    time = payload.timestamp if payload.HasField("timestamp") else None
    for metric in payload.metrics:
        name = name_of(metric)
        field = next((one for one in (*FLOATS, *SIZES) if metric.HasField(one)), None)
        scalar = _is_number(metric, name, field)
        if scalar and name is None and names_needed_by is not None:
            raise _nameless(metric, names_needed_by)
        yield {
            "name": name,
            "alias": metric.alias if metric.HasField("alias") else None,
            "scalar": scalar,
            "value": None if metric.is_null or field is None else _number(metric, field),
            "timestamp": metric.timestamp if metric.HasField("timestamp") else time,
            "datatype": metric.datatype,
            "historical": metric.is_historical,
            "quality": _quality(metric.properties),
        }


def _nameless(metric: Any, setting: str) -> RejectedReading:
    if not metric.HasField("alias"):
        return RejectedReading(Reason.BAD_SPARKPLUG, "a metric without a name and without an alias, expected a name")
    return RejectedReading(
        Reason.UNKNOWN_ALIAS,
        f"a metric with the alias {metric.alias} and no name, which its node's birth has. `telltale rekey` keeps what "
        f"births say; {setting}.stream: [$key.source, alias] reads it where aliases stay the same",
    )


def name_of(metric: Any) -> str | None:
    """None: it has none, or an empty one. Raises RejectedReading."""
    try:
        return metric.name.decode() or None
    except UnicodeDecodeError:
        raise RejectedReading(Reason.BAD_SPARKPLUG, f"the name {metric.name[:80]!r} is not UTF-8") from None


def _is_number(metric: Any, name: str | None, field: str | None) -> bool:
    """Whether it is a number that was measured, or a missing one."""
    if metric.datatype not in NUMBERS or (name is not None and (name == "bdSeq" or name.startswith(CONTROLS))):
        return False
    return field is not None or metric.is_null


def _number(metric: Any, field: str) -> Any:
    """What was measured. Signed integers travel as unsigned ones; only the data type tells which they are.

    A number that may be one or the other, as it comes without its data type, is answered as text: it is refused.
    """
    number = getattr(metric, field)
    if field in FLOATS:
        return number
    bits = SIGNED_BITS.get(metric.datatype)
    if bits is not None:
        number &= (1 << bits) - 1
        return number - (1 << bits) if number >> (bits - 1) else number
    size = SIZES[field]
    if not metric.datatype and number >> (size - 1):
        return f"{number - (1 << size)} or {number}, as it comes without its data type"
    return number


def _quality(properties: Any) -> int | None:
    for name, value in zip(properties.keys, properties.values, strict=False):
        if name == b"Quality":
            return int(value.int_value or value.long_value)
    return None


@cache
def _payload_class() -> Any:
    """The messages of Sparkplug's payloads, with the fields of them that are read."""
    from google.protobuf import descriptor_pool, message_factory  # noqa: PLC0415
    from google.protobuf.descriptor_pb2 import FileDescriptorProto  # noqa: PLC0415

    file = FileDescriptorProto(name="telltale/sparkplug.proto", package="telltale.sparkplug", syntax="proto2")
    for message, fields, repeated in (
        ("Property", _PROPERTY, ()),
        ("Properties", ((1, "keys", 12), (2, "values", ".telltale.sparkplug.Property")), ("keys", "values")),
        ("Metric", _METRIC, ()),
        (
            "Payload",
            ((1, "timestamp", 4), (2, "metrics", ".telltale.sparkplug.Metric"), (3, "seq", 4)),
            ("metrics",),
        ),
    ):
        made = file.message_type.add(name=message)
        for number, name, kind in fields:
            label = REPEATED if name in repeated else OPTIONAL
            field = made.field.add(name=name, number=number, label=label)
            if isinstance(kind, str):
                field.type, field.type_name = 11, kind
            else:
                field.type = kind
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("telltale.sparkplug.Payload"))
