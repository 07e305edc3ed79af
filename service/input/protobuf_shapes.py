"""Messages of Protobuf into the classes of a shape, a field of all messages at once.

An instance holds what msgspec would make of the message's document: see service.input.protobuf.
"""

from collections.abc import Callable, Mapping
from operator import attrgetter
from typing import Any, get_args, get_origin

import msgspec

Fill = Callable[[list[Any]], list[Any]]


def filler(empty: Any, root: Any, value_of: Callable[[Any, Any], Any]) -> Fill:
    """What makes instances of the class in the type `root` of messages such as `empty`, which has nothing set.

    value_of: what a field's value is in a document.
    """
    return _filler(empty, _class_in(root), value_of)


def _filler(empty: Any, part: Any, value_of: Callable[[Any, Any], Any]) -> Fill:
    columns = [_column(empty, field, value_of) for field in msgspec.structs.fields(part)]
    return lambda messages: list(map(part, *(column(messages) for column in columns)))


def _column(empty: Any, wanted: msgspec.structs.FieldInfo, value_of: Callable[[Any, Any], Any]) -> Fill:
    field = empty.DESCRIPTOR.fields_by_name.get(wanted.encode_name)
    if field is None:
        return lambda messages: [wanted.default] * len(messages)
    get = attrgetter(field.name)
    convert = _converter(get(empty), field, wanted.type, value_of)

    def column(messages: list[Any]) -> list[Any]:
        values = list(map(get, messages))
        return values if convert is None else convert(values)

    if not field.has_presence:
        return column
    name = field.name

    def of_those_that_have_it(messages: list[Any]) -> list[Any]:
        there = [message.HasField(name) for message in messages]
        if all(there):
            return column(messages)
        found = iter(column([message for message, has in zip(messages, there, strict=True) if has]))
        return [next(found) if has else wanted.default for has in there]

    return of_those_that_have_it


def _converter(empty: Any, field: Any, wanted: Any, value_of: Callable[[Any, Any], Any]) -> Fill | None:
    """What makes of a field's values those of documents; None: they are the same."""
    part = _class_in(wanted)
    if isinstance(empty, Mapping):
        plain: Fill = lambda values: [value_of(field, value) for value in values]  # noqa: E731
        return (lambda values: [msgspec.convert(one, part) for one in plain(values)]) if part else plain
    if part is not None and hasattr(empty, "add") and _takes_many(wanted):
        fill = _filler(empty.add(), part, value_of)
        return lambda values: [fill(list(value)) for value in values]
    if part is not None and field.message_type is not None and not hasattr(empty, "add"):
        document = value_of(field, empty)
        return _filler(empty, part, value_of) if isinstance(document, dict) else _each(field, value_of)
    if field.message_type is None and field.enum_type is None and not hasattr(empty, "append"):
        return None
    return _each(field, value_of)


def _takes_many(wanted: Any) -> bool:
    return any(get_origin(one) is list and get_args(one) != (Any,) for one in get_args(wanted))


def _each(field: Any, value_of: Callable[[Any, Any], Any]) -> Fill:
    return lambda values: [value_of(field, value) for value in values]


def _class_in(wanted: Any) -> Any:
    """The class of a type, be it one of several; None: it has none."""
    for one in (wanted, *get_args(wanted)):
        if isinstance(one, type) and issubclass(one, msgspec.Struct):
            return one
    return None
