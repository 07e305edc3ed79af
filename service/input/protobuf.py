"""Protobuf to documents, by a message of a descriptor set: what `protoc --include_imports --descriptor_set_out` writes.

Values may begin with the id of their schema and the place of their message in it, as the serializer of a schema
registry writes them: no message begins with the zero byte that those begin with.
"""

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from service.errors import RefusedSetting, RejectedReading
from service.input.reasons import Reason
from service.input.registry import ID_BYTES

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
TIMESTAMP = "google.protobuf.Timestamp"
WRAPPERS = frozenset(
    f"google.protobuf.{kind}Value"
    for kind in ("Double", "Float", "Int64", "UInt64", "Int32", "UInt32", "Bool", "String", "Bytes")
)
MOST_INDICES = 32  # of messages within one another


def of_file(file: str, message: str, setting: str) -> Callable[[bytes], Iterable[Any]]:
    """Reads values of a message by the descriptor set in a file. Raises RefusedSetting."""
    from google.protobuf.message import DecodeError  # noqa: PLC0415  (most need no Protobuf)

    made = _message_class(file, message, setting)
    expected = _indices(made.DESCRIPTOR)

    def documents(value: bytes) -> Iterable[Any]:
        body = _body(value, expected, message) if value[:1] == b"\0" else value
        try:
            return [_document(made.FromString(body))]
        except (DecodeError, UnicodeDecodeError, OverflowError, RecursionError) as error:
            raise RejectedReading(Reason.BAD_PROTOBUF, f"no {message}: {error} in {len(value)} bytes") from error

    return documents


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


def _body(value: bytes, expected: tuple[int, ...], message: str) -> bytes:
    """What stands behind the id of a schema and the place of a message, which must be the expected one."""
    schema, at = int.from_bytes(value[1:ID_BYTES]), ID_BYTES
    count, at = _zigzag(value, at)
    found = [] if count else [0]
    for _ in range(min(count, MOST_INDICES)):
        index, at = _zigzag(value, at)
        found.append(index)
    if tuple(found) != expected:
        raise RejectedReading(
            Reason.BAD_PROTOBUF,
            f"schema id {schema}: message {found} of its file, expected {message}, which is {list(expected)}",
        )
    return value[at:]


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
        return EPOCH + timedelta(seconds=message.seconds, microseconds=message.nanos // 1000)
    if descriptor.full_name in WRAPPERS:
        return message.value
    return {
        field.name: _value(field, getattr(message, field.name))
        for field in descriptor.fields
        if not field.has_presence or message.HasField(field.name)
    }


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
