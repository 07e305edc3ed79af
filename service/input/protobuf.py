"""Protobuf to documents, by a message of a descriptor set, or by the schema that a value names in a registry.

A descriptor set is what `protoc --include_imports --descriptor_set_out` writes. Values may begin with the id of their
schema and the place of their message in it, as the serializer of a schema registry writes them: no message begins with
the zero byte that those begin with.
"""

import base64
import binascii
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import msgspec
import numpy as np

from service.errors import RefusedSetting, RejectedReading
from service.input.parts import NOTHING, Walk, Walked, joined
from service.input.protobuf_columns import TIMESTAMP, WRAPPERS, BodyWalk, walk_of
from service.input.protobuf_shapes import Fill, filler
from service.input.reasons import Reason
from service.input.registry import ID_BYTES, RegisteredSchema, Registry, schema_id

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
HEAD_BYTES = ID_BYTES + 1  # of a value whose message is the first of its schema
MOST_INDICES = 32  # of messages within one another
NO_VALUES = (UnicodeDecodeError, OverflowError, RecursionError)  # what is raised where a field has none


def of_file(file: str, message: str, setting: str) -> "Messages":
    """Values of a message by the descriptor set in a file. Raises RefusedSetting."""
    made = _message_class(file, message, setting)
    expected = _indices(made.DESCRIPTOR)

    def find(value: bytes) -> _Found:
        return _Found(message, made, _begin(value, expected, message) if value[:1] == b"\0" else 0)

    return Messages(find)


def of_registry(registry: Registry) -> "Messages":
    """Values behind the id of their schema and the place of their message in it. Reading raises RegistryUnavailable."""
    schemas: dict[int, _Schema | str] = {}
    messages: dict[tuple[int, tuple[int, ...]], tuple[str, Any]] = {}

    def find(value: bytes) -> _Found:
        number = schema_id(value)
        if number is None:
            raise RejectedReading(
                Reason.BAD_PROTOBUF,
                f"found {value[:ID_BYTES].hex(' ') or 'nothing'}, expected a zero byte and a schema id; "
                "schema_file and message describe values without one",
            )
        place, begin = _place(value)
        found = messages.get((number, place))
        if found is None:
            if number not in schemas:
                schemas[number] = _registered(registry, number)
            found = messages[number, place] = _message_at(schemas[number], number, place)
        return _Found(*found, begin)

    return Messages(find)


class _Found(NamedTuple):
    """The message that a value is."""

    name: str
    made: Any  # its class
    begin: int  # where in the value it begins


class Messages:
    """Reads values, one at a time to documents or many at once to instances of a class."""

    def __init__(self, find: Callable[[bytes], _Found]) -> None:
        self._find = find

    def documents(self, value: bytes) -> Iterable[Any]:
        """The one in a value."""
        name, made, begin = self._find(value)
        body = value[begin:]
        return [_parsed(name, body, lambda: _document(made.FromString(body)))]

    def shaped(self, root: Any) -> Walk:
        """What makes instances of a type of values, all of one message at once. It raises RegistryUnavailable."""
        walks: dict[Any, BodyWalk] = {}

        def of_one_message(found: _Found, values: Sequence[bytes], begins: Sequence[int]) -> Walked:
            if found.made not in walks:
                walks[found.made] = _walk_of(found.made, root)
            return walks[found.made](values, begins)

        def read(values: Sequence[bytes]) -> Walked:
            if _are_alike(values):
                found = _found_or_none(self._find, values[0])
                return NOTHING if found is None else of_one_message(found, values, [found.begin] * len(values))
            places: dict[Any, list[tuple[int, _Found]]] = {}
            for n, value in enumerate(values):
                if (found := _found_or_none(self._find, value)) is not None:
                    places.setdefault(found.made, []).append((n, found))
            return joined(
                (
                    [n for n, _ in some],
                    of_one_message(some[0][1], [values[n] for n, _ in some], [one.begin for _, one in some]),
                )
                for some in places.values()
            )

        return read


def _are_alike(values: Sequence[bytes]) -> bool:
    """Whether all have nothing before their message, or all the same head: a schema, and its first message."""
    if not any(value.startswith(b"\0") for value in values):
        return True
    heads = {value[:HEAD_BYTES] for value in values}
    return len(heads) == 1 and heads.pop()[ID_BYTES:] == b"\0"


def _walk_of(made: Any, root: Any) -> BodyWalk:
    """What makes instances of a type of values of a message."""
    if not _is_checked(made.DESCRIPTOR, set()) or made.DESCRIPTOR.full_name in (TIMESTAMP, *WRAPPERS):
        return lambda _values, _begins: NOTHING
    return walk_of(made.DESCRIPTOR, root) or _filled(made, filler(made(), root, _value))


def _filled(made: Any, fill: Fill) -> BodyWalk:
    """Of messages that the library reads, all of them or none."""
    from google.protobuf.message import DecodeError  # noqa: PLC0415

    def read(values: Sequence[bytes], begins: Sequence[int]) -> Walked:
        try:
            messages = [made.FromString(value[begin:]) for value, begin in zip(values, begins, strict=True)]
            return Walked(fill(messages), np.arange(len(values)))
        except (DecodeError, msgspec.MsgspecError, *NO_VALUES):
            return NOTHING

    return read


def _found_or_none(find: Callable[[bytes], _Found], value: bytes) -> _Found | None:
    try:
        return find(value)
    except RejectedReading:
        return None


def _is_checked(descriptor: Any, known: set[str]) -> bool:
    """Whether all text of a message is checked when it is parsed.

    proto2 checks text when it is looked at: then whether a message is good would hang on what is looked at.
    """
    from google.protobuf.descriptor_pb2 import FileDescriptorProto  # noqa: PLC0415

    if descriptor.full_name in known:
        return True
    known.add(descriptor.full_name)
    file = FileDescriptorProto()
    descriptor.file.CopyToProto(file)
    below = [field.message_type for field in descriptor.fields if field.message_type is not None]
    return file.syntax == "proto3" and all(_is_checked(one, known) for one in below)


class _Schema(NamedTuple):
    """A file of a registry, and all that it imports."""

    file: Any  # its descriptor, as a message
    pool: Any


def _registered(registry: Registry, number: int) -> _Schema | str:
    """A schema, or why it describes no values. An unknown id may be known later: raises RejectedReading."""
    schema = registry.schema(number)
    if schema is None:
        raise RejectedReading(Reason.BAD_PROTOBUF, f"schema id {number}: {registry.name} has no such schema")
    if schema.kind != "PROTOBUF":
        return f"schema id {number} is of the type {schema.kind}, expected PROTOBUF"
    try:
        return _schema(schema)
    except ValueError as error:
        return f"schema id {number}: {error}"


def _schema(schema: RegisteredSchema) -> _Schema:
    """Raises ValueError, which says what is wrong with it."""
    from google.protobuf import (  # noqa: PLC0415
        descriptor_pool,
        duration_pb2,
        empty_pb2,
        struct_pb2,
        timestamp_pb2,
        wrappers_pb2,
    )
    from google.protobuf.descriptor_pb2 import FileDescriptorProto  # noqa: PLC0415
    from google.protobuf.message import DecodeError  # noqa: PLC0415

    def file_of(text: str) -> Any:
        try:
            return FileDescriptorProto.FromString(base64.b64decode(text, validate=True))
        except (binascii.Error, DecodeError, ValueError):
            raise ValueError(
                f"the registry has no descriptor of it, but {text[:40]!r}: schema_file and message describe the values"
            ) from None

    known = {}
    for usual in (duration_pb2, empty_pb2, struct_pb2, timestamp_pb2, wrappers_pb2):
        known[usual.DESCRIPTOR.name] = FileDescriptorProto.FromString(usual.DESCRIPTOR.serialized_pb)
    for reference in schema.references:
        known[reference.name] = file_of(reference.text)
        known[reference.name].name = reference.name
    file, pool, added = file_of(schema.text), descriptor_pool.DescriptorPool(), set[str]()

    def add(one: Any) -> None:
        added.add(one.name)
        for name in one.dependency:
            if name not in known:
                raise ValueError(f"it imports {name}, to which it has no reference in the registry")
            if name not in added:
                add(known[name])
        pool.Add(one)

    try:
        add(file)
        pool.FindFileByName(file.name)
    except (TypeError, KeyError, RecursionError) as error:
        raise ValueError(f"no schema of Protobuf: {error}") from error
    return _Schema(file, pool)


def _message_at(schema: _Schema | str, number: int, place: tuple[int, ...]) -> tuple[str, Any]:
    from google.protobuf import message_factory  # noqa: PLC0415

    if isinstance(schema, str):
        raise RejectedReading(Reason.BAD_PROTOBUF, schema)
    names, siblings = [schema.file.package] if schema.file.package else [], schema.file.message_type
    for index in place or (-1,):
        if not 0 <= index < len(siblings):
            raise RejectedReading(
                Reason.BAD_PROTOBUF, f"schema id {number}: it has no message {list(place)}, {len(siblings)} are there"
            )
        names.append(siblings[index].name)
        siblings = siblings[index].nested_type
    name = ".".join(names)
    return name, message_factory.GetMessageClass(schema.pool.FindMessageTypeByName(name))


def _parsed(name: str, body: bytes, read: Callable[[], Any]) -> Any:
    from google.protobuf.message import DecodeError  # noqa: PLC0415

    try:
        return read()
    except (DecodeError, *NO_VALUES) as error:
        raise RejectedReading(Reason.BAD_PROTOBUF, f"no {name}: {error} in {len(body)} bytes") from error


def _message_class(file: str, message: str, setting: str) -> Any:
    from google.protobuf import descriptor_pool, message_factory  # noqa: PLC0415
    from google.protobuf.descriptor_pb2 import FileDescriptorSet  # noqa: PLC0415
    from google.protobuf.message import DecodeError  # noqa: PLC0415

    pool = descriptor_pool.DescriptorPool()
    try:
        with open(file, "rb") as opened:  # noqa: PTH123
            found = FileDescriptorSet.FromString(opened.read())
        for one in found.file:
            pool.Add(one)
        names = [f"{one.package}.{kind.name}".lstrip(".") for one in found.file for kind in one.message_type]
        if not names:
            raise TypeError("no messages in it")
    except (OSError, DecodeError, TypeError) as error:
        raise RefusedSetting(
            f"{setting}.schema_file: found {file}, expected what protoc --include_imports --descriptor_set_out writes: "
            f"{error}"
        ) from None
    try:
        return message_factory.GetMessageClass(pool.FindMessageTypeByName(message))
    except (KeyError, TypeError) as error:
        raise RefusedSetting(
            f"{setting}.message: found {message}, expected one of {', '.join(names)}: {error}"
        ) from None


def _indices(descriptor: Any) -> tuple[int, ...]:
    """The place of a message among those of its file, or of the message that it is in."""
    above = descriptor.containing_type
    siblings = list(descriptor.file.message_types_by_name.values()) if above is None else list(above.nested_types)
    own = next(n for n, one in enumerate(siblings) if one.full_name == descriptor.full_name)
    return (own,) if above is None else (*_indices(above), own)


def _begin(value: bytes, expected: tuple[int, ...], message: str) -> int:
    """What stands behind the id of a schema and the place of a message, which must be the expected one."""
    found, at = _place(value)
    if found != expected:
        raise RejectedReading(
            Reason.BAD_PROTOBUF,
            f"schema id {schema_id(value)}: message {list(found)} of its file, expected {message}, which is "
            f"{list(expected)}",
        )
    return at


def _place(value: bytes) -> tuple[tuple[int, ...], int]:
    """The place of a message in its file, behind the id of the schema, and where the message begins."""
    count, at = _zigzag(value, ID_BYTES)
    found = [] if count else [0]
    for _ in range(min(count, MOST_INDICES)):
        index, at = _zigzag(value, at)
        found.append(index)
    return tuple(found), at


def _zigzag(value: bytes, at: int) -> tuple[int, int]:
    """A number and where it ends."""
    number = 0
    for n, byte in enumerate(value[at : at + 5]):
        number |= (byte & 127) << 7 * n
        if byte < 128:
            return number >> 1 ^ -(number & 1), at + n + 1
    raise RejectedReading(Reason.BAD_PROTOBUF, f"{len(value)} bytes end within the place of a message")


def _document(message: Any) -> Any:
    """Its fields by name. One that is not set is left out, or has its default if it cannot say so."""
    descriptor = message.DESCRIPTOR
    if descriptor.full_name == TIMESTAMP:
        return _moment(message)
    if descriptor.full_name in WRAPPERS:
        return message.value
    return {
        field.name: _value(field, getattr(message, field.name))
        for field in descriptor.fields
        if not field.has_presence or message.HasField(field.name)
    }


def _moment(timestamp: Any) -> datetime | str:
    """Text where it is beyond the years that there are dates of: no time, which harms only where one is looked for."""
    try:
        return EPOCH + timedelta(seconds=timestamp.seconds, microseconds=timestamp.nanos // 1000)
    except OverflowError:
        return f"{timestamp.seconds} s since 1970"


def _value(field: Any, value: Any) -> Any:
    if isinstance(value, Mapping):
        inner = field.message_type.fields_by_name["value"]
        return {str(name): _one(inner, value[name]) for name in value}
    if hasattr(value, "add") or hasattr(value, "append"):  # it is repeated
        return [_one(field, one) for one in value]
    return _one(field, value)


def _one(field: Any, value: Any) -> Any:
    if field.message_type is not None:
        return _document(value)
    if field.enum_type is not None:
        named = field.enum_type.values_by_number.get(value)
        return value if named is None else named.name
    return value
