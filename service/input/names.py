"""The names of the features in a record, before there is a checkpoint that says which they are."""

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from service.errors import RejectedReading
from service.input.arrow import names_of_numbers
from service.input.formats import InputFormat

DECODERS: dict[InputFormat, Callable[[bytes], Any]] = {
    InputFormat.JSON: msgspec.json.decode,
    InputFormat.MSGPACK: msgspec.msgpack.decode,
}
TIMES = ("timestamp", "@timestamp", "time", "ts", "measuredat", "sourcetimestamp", "servertimestamp", "datetime")
TIMES_MORE = (
    *("eventtime", "event_time", "_time", "date", "created_at", "createdat", "ts_ms", "timestamp_ms", "recorded_at"),
    *("sampletime", "sample_time", "last_changed", "last_updated", "enqueuedtime", "enqueuedtimeutc", "last_seen"),
    *("senton", "sent_on", "sent_at", "origin", "time_fired", "publishtime", "publish_time", "t_stamp", "epoch"),
)
STREAMS = (
    *("sensorid", "sensor_id", "sensor", "deviceid", "device_id", "device", "stream", "asset", "tag", "id"),
    *("devicename", "device_name", "sensorname", "machine", "equipment", "entity_id", "entityid", "deveui"),
    *("thingid", "thing_id", "nodeid", "node_id", "assetid", "asset_id", "tagpath", "tagname", "tag_name", "pointname"),
    *("serialnumber", "serial_number", "connectiondeviceid", "iothub-connection-device-id", "src", "topic"),
)
NO_FEATURES = frozenset(
    (*TIMES, *TIMES_MORE, *STREAMS, "seq", "revision", "version", "qos", "fcnt", "f_cnt", "fport", "f_port", "_msgid")
)  # in any case: what stands beside values, as a number too
NUMBERS = (int, float, type(None))


def kind_of(found: Any) -> str:
    """What is there that is no number, in words."""
    if isinstance(found, str):
        return "text"
    if isinstance(found, bool):
        return "true or false"
    return "an object" if isinstance(found, dict) else "an array" if isinstance(found, list) else "no number"


def left_out_of(value: bytes, features: Sequence[str]) -> dict[str, str]:
    """What stands among the values of a record and is none of the features, by name: what it is."""
    written = InputFormat.AUTO.of(value)
    try:
        message = {} if written is InputFormat.ARROW else DECODERS[written](value)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return {}
    values = message.get("values") if isinstance(message, dict) else None
    if not isinstance(values, dict):
        return {}
    named = ((name, one) for name, one in values.items() if isinstance(name, str) and name not in features)
    return {name: "no feature" if _is_numbers(one) else kind_of(one) for name, one in named}


def names_in(value: bytes) -> tuple[str, ...]:
    """The numbers of a record by name; none of one that names nothing or cannot be read."""
    written = InputFormat.AUTO.of(value)
    try:
        return names_of_numbers(value) if written is InputFormat.ARROW else _names(DECODERS[written](value))
    except (RejectedReading, msgspec.MsgspecError, ValueError, RecursionError):
        return ()


def _names(message: Any) -> tuple[str, ...]:
    values = message.get("values", {"value": message.get("value", "")}) if isinstance(message, dict) else None
    if not isinstance(values, dict):
        return ()
    return tuple(name for name, one in values.items() if isinstance(name, str) and _is_numbers(one))


def _is_numbers(one: Any) -> bool:
    """Of one reading a number or null, of many an array of them."""
    return all(type(each) in NUMBERS for each in (one if isinstance(one, list) else [one]))
