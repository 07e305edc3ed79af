"""The names of the features in a record, before there is a checkpoint that says which they are."""

from collections.abc import Callable
from typing import Any

import msgspec

from service.errors import RejectedReading
from service.input.arrow import names_of_numbers
from service.input.formats import InputFormat

DECODERS: dict[InputFormat, Callable[[bytes], Any]] = {
    InputFormat.JSON: msgspec.json.decode,
    InputFormat.MSGPACK: msgspec.msgpack.decode,
}
NUMBERS = (int, float, type(None))


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
