"""The metadata of Arrow's IPC messages, read from their flatbuffers: what columns there are, and where each one lies.

The formats: https://arrow.apache.org/docs/format/Columnar.html, Schema.fbs and Message.fbs; flatbuffers.dev/internals.
Whatever is out of bounds raises BadArrow, before anything is taken for it.
"""

import struct
from collections.abc import Iterator
from enum import IntEnum
from typing import NamedTuple

MOST_COLUMNS = 1_000
_SIGNED, _UNSIGNED, _LONG = struct.Struct("<i"), struct.Struct("<I"), struct.Struct("<q")
_PAIR = struct.Struct("<qq")  # of a field node (length, nulls), of a buffer (offset, length)
_SHORT = struct.Struct("<H")
OLDEST_VERSION = 3  # V4, of Arrow 0.8


class BadArrow(ValueError):
    """The bytes are not what the format says, or something that is not read here."""


class Header(IntEnum):
    """What a message is."""

    SCHEMA = 1
    DICTIONARY = 2
    BATCH = 3


class Kind(IntEnum):
    """A column's type, those that are flat: each with its number of buffers in BUFFERS."""

    NULL = 1
    INT = 2
    FLOAT = 3
    BINARY = 4
    UTF8 = 5
    BOOL = 6
    DECIMAL = 7
    DATE = 8
    TIME = 9
    TIMESTAMP = 10
    INTERVAL = 11
    FIXED_BINARY = 15
    DURATION = 18
    LARGE_BINARY = 19
    LARGE_UTF8 = 20
    BINARY_VIEW = 23
    UTF8_VIEW = 24


BUFFERS = dict.fromkeys(Kind, 2) | {Kind.NULL: 0}
BUFFERS |= dict.fromkeys((Kind.BINARY, Kind.UTF8, Kind.LARGE_BINARY, Kind.LARGE_UTF8), 3)
VIEWS = (Kind.BINARY_VIEW, Kind.UTF8_VIEW)  # and as many buffers more as their batch says


class ColumnType(NamedTuple):
    kind: Kind
    detail: int  # bits of an INT, precision of a FLOAT, unit of a TIMESTAMP
    signed: bool = True
    dictionary: int | None = None  # id of the one that its numbers point into; `kind` is then that of the numbers


class Schema(NamedTuple):
    names: tuple[str, ...]
    types: tuple[ColumnType, ...]


class Buffer(NamedTuple):
    begin: int  # in the body
    size: int


class Column(NamedTuple):
    """Where a column of a batch lies."""

    nulls: int
    buffers: tuple[Buffer, ...]


class Batch(NamedTuple):
    """N rows."""

    rows: int
    columns: tuple[Column, ...]


class Dictionary(NamedTuple):
    id: int
    batch: Batch


class Message(NamedTuple):
    header: Header
    table: "_Table"
    body_bytes: int


def message_of(metadata: bytes) -> Message:
    root = _Table(metadata, _unsigned(metadata, 0))
    version, header = root.short(0), root.byte(1)
    if version < OLDEST_VERSION:
        raise BadArrow(f"metadata version {version}, expected at least {OLDEST_VERSION} (V4)")
    if header not in tuple(Header):
        raise BadArrow(f"a message of type {header}, expected a schema, a dictionary or a record batch")
    body_bytes = root.long(3)
    if body_bytes < 0:
        raise BadArrow(f"a body of {body_bytes} bytes")
    return Message(Header(header), root.table(2), body_bytes)


def schema_of(message: Message) -> Schema:
    if message.table.short(0):
        raise BadArrow("big-endian numbers, expected little-endian ones")
    fields = [*message.table.tables(1)]
    return Schema(tuple(field.text(0) for field in fields), tuple(map(_type_of, fields)))


def batch_of(message: Message, schema: Schema) -> Batch:
    return _batch(message.table, message.body_bytes, schema.types)


def dictionary_of(message: Message, kinds: dict[int, ColumnType]) -> Dictionary:
    """kinds: by the id of a dictionary, what its values are."""
    number = message.table.long(0)
    if message.table.byte(2):
        raise BadArrow("a dictionary that adds to the one before (delta), expected a whole one")
    if number not in kinds:
        raise BadArrow(f"a dictionary {number} that no column names")
    return Dictionary(number, _batch(message.table.table(1), message.body_bytes, (kinds[number],)))


def dictionary_kinds(message: Message) -> dict[int, ColumnType]:
    """Of a schema: by the id of each dictionary, what its values are."""
    fields = [field for field in message.table.tables(1) if field.has(4)]
    return {field.table(4).long(0): _plain_type(field) for field in fields}


def _type_of(field: "_Table") -> ColumnType:
    if not field.has(4):
        return _plain_type(field)
    encoding = field.table(4)
    bits, signed = (encoding.table(1).signed(0), bool(encoding.table(1).byte(1))) if encoding.has(1) else (32, True)
    return ColumnType(Kind.INT, bits, signed, encoding.long(0))


def _plain_type(field: "_Table") -> ColumnType:
    number = field.byte(2)
    if number not in tuple(Kind):
        raise BadArrow(f"column {field.text(0)} is of the type with number {number}, expected flat columns only")
    kind = Kind(number)
    if not field.has(3):
        return ColumnType(kind, 0)
    of = field.table(3)
    if kind is Kind.INT:
        return ColumnType(kind, of.signed(0), bool(of.byte(1)))
    return ColumnType(kind, of.short(0) if kind in (Kind.FLOAT, Kind.TIMESTAMP) else 0)


def _batch(table: "_Table", body_bytes: int, types: tuple[ColumnType, ...]) -> Batch:
    if table.has(3):
        raise BadArrow("compressed buffers, expected plain ones: let Kafka's producer compress")
    rows, nodes = table.long(0), [*table.pairs(1)]
    buffers = [Buffer(*pair) for pair in table.pairs(2)]
    views = iter([*table.longs(4)])
    for begin, size in buffers:
        if begin < 0 or size < 0 or begin + size > body_bytes:
            raise BadArrow(f"a buffer at {begin} to {begin + size} of a body of {body_bytes} bytes")
    if len(nodes) != len(types):
        raise BadArrow(f"{len(nodes)} columns in a batch, {len(types)} in the schema")
    columns, at = [], 0
    for one, (length, nulls) in zip(types, nodes, strict=True):
        more = next(views, 0) if one.kind in VIEWS and one.dictionary is None else 0
        end = at + BUFFERS[one.kind] + more
        if length != rows or rows < 0 or not 0 <= more <= len(buffers) or end > len(buffers):
            raise BadArrow(
                f"a column of {length} rows with {len(buffers) - at} buffers left, in a batch of {rows} rows"
            )
        columns.append(Column(nulls, tuple(buffers[at:end])))
        at = end
    return Batch(rows, tuple(columns))


class _Table:
    """A table of a flatbuffer; fields by their number, with the format's defaults where they are not there."""

    def __init__(self, data: bytes, at: int) -> None:
        self._data = data
        self._at = at
        self._fields = at - _signed(data, at)
        self._size = _word(data, self._fields)

    def has(self, field: int) -> bool:
        return bool(self._offset(field))

    def byte(self, field: int) -> int:
        offset = self._offset(field)
        return self._data[_within(self._data, self._at + offset, 1)] if offset else 0

    def short(self, field: int) -> int:
        offset = self._offset(field)
        return _word(self._data, self._at + offset) if offset else 0

    def signed(self, field: int) -> int:
        offset = self._offset(field)
        return _signed(self._data, self._at + offset) if offset else 0

    def long(self, field: int) -> int:
        offset = self._offset(field)
        return int(_LONG.unpack_from(self._data, _within(self._data, self._at + offset, 8))[0]) if offset else 0

    def table(self, field: int) -> "_Table":
        return _Table(self._data, self._target(field))

    def text(self, field: int) -> str:
        if not self._offset(field):
            return ""
        at = self._target(field)
        size = _unsigned(self._data, at)
        return self._data[_within(self._data, at + 4, size) : at + 4 + size].decode()

    def tables(self, field: int) -> "Iterator[_Table]":
        for at in self._items(field, 4):
            yield _Table(self._data, at + _unsigned(self._data, at))

    def pairs(self, field: int) -> Iterator[tuple[int, int]]:
        for at in self._items(field, _PAIR.size):
            first, second = _PAIR.unpack_from(self._data, at)
            yield int(first), int(second)

    def longs(self, field: int) -> Iterator[int]:
        for at in self._items(field, _LONG.size):
            yield int(_LONG.unpack_from(self._data, at)[0])

    def _items(self, field: int, size: int) -> range:
        """Where the items of a vector lie."""
        if not self._offset(field):
            return range(0)
        at = self._target(field)
        count = _unsigned(self._data, at)
        if count > 4 * MOST_COLUMNS:
            raise BadArrow(f"{count} items in a list, expected at most {4 * MOST_COLUMNS} ({MOST_COLUMNS} columns)")
        first = _within(self._data, at + 4, count * size)
        return range(first, first + count * size, size)

    def _offset(self, field: int) -> int:
        """Of a field, from the table's beginning; 0 where it is not there."""
        place = 4 + 2 * field
        return _word(self._data, self._fields + place) if place + 2 <= self._size else 0

    def _target(self, field: int) -> int:
        offset = self._offset(field)
        if not offset:
            raise BadArrow("a part of the metadata is missing")
        at = self._at + offset
        return at + _unsigned(self._data, at)


def _within(data: bytes, at: int, size: int) -> int:
    if not 0 <= at <= len(data) - size:
        raise BadArrow(f"metadata of {len(data)} bytes that lead to bytes {at} to {at + size}")
    return at


def _word(data: bytes, at: int) -> int:
    return int(_SHORT.unpack_from(data, _within(data, at, 2))[0])


def _signed(data: bytes, at: int) -> int:
    return int(_SIGNED.unpack_from(data, _within(data, at, 4))[0])


def _unsigned(data: bytes, at: int) -> int:
    return int(_UNSIGNED.unpack_from(data, _within(data, at, 4))[0])
