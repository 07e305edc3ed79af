"""Messages of proto3 to instances of a shape, all of a poll at once.

A document is as in service.input.protobuf. Messages of which the shape needs what is repeated, a map or a message as a
whole are read another way, and those of proto2, whose text is checked only when it is looked at.
"""

from collections.abc import Callable, Sequence
from itertools import accumulate, chain
from typing import Any

import numpy as np

from models.data.arrays import Int64s
from service.input.parts import Part, SlotDocuments, Slots, Walked, part_of, slots_of
from service.input.places import places_of
from service.input.walks.fields import (
    AS_32,
    AS_64,
    AS_SPAN,
    AS_VARINT,
    BITS,
    BYTES_SPAN,
    ENUM,
    KIND,
    MESSAGE,
    MOMENT_SPAN,
    MOST_DEPTH,
    MOST_ONCE,
    NOWHERE,
    NUMBERS_32,
    NUMBERS_64,
    SIGNED_32,
    TEXT_SPAN,
    TRUTH,
    UNSIGNED,
    UNSIGNED_32,
    VARINTS,
    ZIGZAG,
    ZIGZAG_32,
)
from service.input.walks.kinds import ABSENT, ASCII, BOOLEAN, BYTES, DOUBLE, MOMENT, OBJECT, SINGLE, SYMBOL, WHOLE

TIMESTAMP = "google.protobuf.Timestamp"
WRAPPERS = frozenset(
    f"google.protobuf.{kind}Value"
    for kind in ("Double", "Float", "Int64", "UInt64", "Int32", "UInt32", "Bool", "String", "Bytes")
)

MESSAGE_TYPE, ENUM_TYPE = 11, 14  # as descriptor.proto has them
# Of the other types: how each is written, how it is read, and what is found.
SCALAR_TYPES = {
    1: (AS_64, BITS, DOUBLE),
    2: (AS_32, BITS, SINGLE),
    3: (AS_VARINT, BITS, WHOLE),  # int64
    4: (AS_VARINT, UNSIGNED, WHOLE),
    5: (AS_VARINT, SIGNED_32, WHOLE),
    6: (AS_64, UNSIGNED, WHOLE),
    7: (AS_32, UNSIGNED_32, WHOLE),
    8: (AS_VARINT, TRUTH, BOOLEAN),
    9: (AS_SPAN, TEXT_SPAN, ASCII),
    12: (AS_SPAN, BYTES_SPAN, BYTES),
    13: (AS_VARINT, UNSIGNED_32, WHOLE),
    ENUM_TYPE: (AS_VARINT, ENUM, SYMBOL),
    15: (AS_32, SIGNED_32, WHOLE),
    16: (AS_64, BITS, WHOLE),
    17: (AS_VARINT, ZIGZAG_32, WHOLE),
    18: (AS_VARINT, ZIGZAG, WHOLE),
}
MANY = {AS_VARINT: VARINTS, AS_64: NUMBERS_64, AS_32: NUMBERS_32}  # how a span of them is read

BodyWalk = Callable[[Sequence[bytes], Sequence[int]], Walked]  # of values, and where in each its message begins


def walk_of(descriptor: Any, root: Any) -> BodyWalk | None:
    """What makes instances of a type of values of a message, all whose text is checked; None where none can be made."""
    part = part_of(root)
    compiler = _Compiler(slots_of(part))
    try:
        compiler.message(descriptor, part)
    except _NotWalkedError:
        return None
    tables = compiler.tables()
    from service.input.walks.protobuf import walk  # noqa: PLC0415  (which loads the compiler)

    def read(values: Sequence[bytes], begins: Sequence[int]) -> Walked:
        data = b"".join(values)
        first, ends = places_of(values)
        size = (slots_of(part), len(values))
        found = Slots(
            data, np.zeros(size, np.uint8), np.zeros(size, np.int64), np.zeros(size, np.int64), compiler.symbols
        )
        refused, frames = np.zeros(len(values), np.bool_), np.zeros((MOST_DEPTH, 4), np.int64)
        walk(np.frombuffer(data, np.uint8), first + np.array(begins), ends, *tables, *found[1:4], frames, refused)
        where = np.flatnonzero(~refused)
        return Walked(SlotDocuments(part, found.part(where) if refused.any() else found), where)

    return read


class _NotWalkedError(Exception):
    """The shape needs what is not put into slots."""


class _Compiler:
    """Makes the tables that service.input.walks.protobuf reads."""

    def __init__(self, slots: int) -> None:
        self.symbols: list[str] = []
        self._numbers: list[int] = []  # of the symbols
        self._enums: dict[str, tuple[int, int]] = {}
        self._messages: list[tuple[int, int]] = []  # own slot and own kind
        self._fields: list[list[tuple[int, ...]]] = []  # of each message
        self._known: dict[tuple[str, int | None], int] = {}
        self._unset = [(ABSENT, 0)] * slots

    def tables(self) -> tuple[Int64s, Int64s, Int64s, Int64s]:
        """Messages, fields, numbers of symbols, and what is in slots of which nothing is written."""
        counts = list(map(len, self._fields))
        firsts = [0, *accumulate(counts)]
        messages = [(first, count, *own) for first, count, own in zip(firsts, counts, self._messages, strict=False)]
        return (
            np.array(messages, np.int64),
            np.array(list(chain.from_iterable(self._fields)), np.int64).reshape(-1, 8),
            np.array(self._numbers, np.int64),
            np.array(self._unset, np.int64),
        )

    def message(self, descriptor: Any, part: Part | None) -> int:
        """Its place among the messages. part: what is made of it; None: nothing."""
        key = descriptor.full_name, part and part.slot
        if key in self._known:
            return self._known[key]
        place = self._known[key] = len(self._messages)
        self._messages.append((NOWHERE, 0) if part is None else (part.slot, self._own_kind(descriptor, part)))
        rows: list[tuple[int, ...]] = []
        self._fields.append(rows)
        repeated, once = _repeated(descriptor), dict[str, int]()
        for field in descriptor.fields:
            wanted = part if descriptor.full_name in WRAPPERS else part and part.fields.get(field.name)
            if field.name in repeated:
                if wanted is not None:
                    raise _NotWalkedError
                rows += self._rows_of_many(field)
            else:
                of = _at_most_once(field)
                bit = NOWHERE if of is None else once.setdefault(of, len(once))
                rows.append(self._row(field, wanted, bit))
                if wanted is not None and wanted is not part and not field.has_presence:
                    self._unset[wanted.slot] = rows[-1][KIND], self._number_of_unset(field)
        if len(once) > MOST_ONCE:
            raise _NotWalkedError
        return place

    def _own_kind(self, descriptor: Any, part: Part) -> int:
        if descriptor.full_name in WRAPPERS:
            return self._taken(SCALAR_TYPES[descriptor.fields[0].type][2], part)
        if part.made is None:
            raise _NotWalkedError
        return OBJECT

    def _rows_of_many(self, field: Any) -> list[tuple[int, ...]]:
        """A repeated field, of which nothing is made: each by itself, or numbers all in one span."""
        row = self._row(field, None, NOWHERE)
        written = SCALAR_TYPES[field.type][0] if field.type in SCALAR_TYPES else AS_SPAN
        return [row] if written == AS_SPAN else [row, (field.number << 3 | AS_SPAN, MANY[written], *row[2:])]

    def _row(self, field: Any, part: Part | None, bit: int) -> tuple[int, ...]:
        slot = NOWHERE if part is None else part.slot
        if field.type == MESSAGE_TYPE and field.message_type.full_name == TIMESTAMP and part is not None:
            return (field.number << 3 | AS_SPAN, MOMENT_SPAN, slot, self._taken(MOMENT, part), 0, bit, 0, 0)
        if field.type == MESSAGE_TYPE:
            below = self.message(field.message_type, part)
            return (field.number << 3 | AS_SPAN, MESSAGE, NOWHERE, OBJECT, below, bit, 0, 0)
        if field.type not in SCALAR_TYPES:
            raise _NotWalkedError
        written, how, kind = SCALAR_TYPES[field.type]
        if how == UNSIGNED and part is None:
            how = BITS
        first, count = (0, 0) if field.type != ENUM_TYPE else self._enum(field.enum_type)
        if part is not None:
            self._taken(kind, part)
        return (field.number << 3 | written, how, slot, kind, 0, bit, first, count)

    def _taken(self, kind: int, part: Part) -> int:
        """A kind, where it may be there in the shape."""
        if kind not in part.takes:
            raise _NotWalkedError
        return kind

    def _number_of_unset(self, field: Any) -> int:
        """Of a field that cannot say whether it is set: 0, or the symbol of 0."""
        if field.type != ENUM_TYPE:
            return 0
        first, _ = self._enum(field.enum_type)
        return first + self._numbers[first:].index(0)

    def _enum(self, kind: Any) -> tuple[int, int]:
        """Its first symbol, and how many it has."""
        if kind.full_name not in self._enums:
            self._enums[kind.full_name] = len(self.symbols), len(kind.values_by_number)
            self._numbers += kind.values_by_number
            self.symbols += [kind.values_by_number[number].name for number in kind.values_by_number]
        return self._enums[kind.full_name]


def _repeated(descriptor: Any) -> frozenset[str]:
    """The names of its fields that are repeated, maps too. Only a field's own description has it in every version."""
    from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto  # noqa: PLC0415

    described = DescriptorProto()
    descriptor.CopyToProto(described)
    return frozenset(one.name for one in described.field if one.label == FieldDescriptorProto.LABEL_REPEATED)


def _at_most_once(field: Any) -> str | None:
    """What may be in a message once, of which a second one changes more than itself; None: the last one counts."""
    of = field.containing_oneof
    if of is not None and len(of.fields) > 1:
        return str(of.name)
    return str(field.name) if field.type == MESSAGE_TYPE else None
