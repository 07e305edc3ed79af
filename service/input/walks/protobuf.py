"""Messages of proto3 to the slots of a shape, compiled: by the fields that a schema has.

A value is left in which anything is not as libraries write it: a field that is written in another way than the schema
says, a group, two fields of one `oneof`, a message twice where the schema has it once. Sizes: R values, S slots; M
messages of a schema, each in one place of the shape or in none; F fields of them all.
"""

import numpy as np
from numpy.typing import NDArray

from models.data.arrays import Bools, Bytes, Int64s
from models.detection.compiling import compiled, kept
from service.input.walks.fields import (
    AS_32,
    AS_64,
    AS_SPAN,
    AS_VARINT,
    BELOW,
    END,
    ENUM,
    FIELD_COUNT,
    FIELDS,
    FIRST,
    HERE,
    HOW,
    KIND,
    LARGEST_TAG,
    LIKELY,
    LIMIT_S,
    MESSAGE,
    MOMENT_SPAN,
    MOST_DEPTH,
    NOWHERE,
    NUMBERS_32,
    NUMBERS_64,
    ONCE,
    OWN_KIND,
    OWN_SLOT,
    SEEN,
    SIGNED_32,
    SLOT,
    SYMBOLS,
    TAG,
    TEXT_SPAN,
    TRUTH,
    UNSIGNED,
    UNSIGNED_32,
    VARINTS,
    ZIGZAG,
    ZIGZAG_32,
)
from service.input.walks.kinds import ASCII, SYMBOL, TEXT, WHOLE
from service.input.walks.utf8 import ALL_ASCII, NO_TEXT, kind_of_text
from service.input.walks.varints import little_endian, signed, varint


@kept
def walk(
    data: Bytes,
    begins_at: Int64s,
    ends_at: Int64s,
    messages: Int64s,
    fields: Int64s,
    enums: Int64s,
    unset: Int64s,
    kinds: NDArray[np.uint8],
    begins: Int64s,
    ends: Int64s,
    frames: Int64s,
    refused: Bools,
) -> None:
    """Put what is in the values data[begins_at[n]:ends_at[n]], each the first of the messages, into slots, (S, R).

    messages: (M, 4). fields: (F, 8). enums: the number of each symbol. unset: (S, 2) kind and number of what is in a
    slot of which nothing is written. frames: (MOST_DEPTH, 4) for those being read. refused: (R,) which are left.
    """
    for n in range(len(begins_at)):
        for slot in range(len(kinds)):
            kinds[slot, n], begins[slot, n], ends[slot, n] = unset[slot, 0], unset[slot, 1], unset[slot, 1]
        at, depth = begins_at[n], 0
        _enter(frames, 0, 0, ends_at[n], messages, kinds, n)
        while depth >= 0 and at >= 0:
            if at == frames[depth, END]:
                depth -= 1
                continue
            place, tag, at = _field(data, at, frames, depth, messages, fields)
            if at < 0:
                break
            if place == NOWHERE:
                at = _behind_unknown(data, at, frames[depth, END], tag)
            elif fields[place, HOW] == MESSAGE:
                until, at = _size(data, at, frames[depth, END])
                depth += 1
                if depth == MOST_DEPTH:
                    at = -1
                if at >= 0:
                    _enter(frames, depth, fields[place, BELOW], until, messages, kinds, n)
            else:
                kind, value, until, at = _value(data, at, frames[depth, END], fields, place, enums)
                slot = fields[place, SLOT]
                if slot != NOWHERE:
                    kinds[slot, n], begins[slot, n], ends[slot, n] = kind, value, until
        refused[n] = at < 0


@compiled
def _enter(
    frames: Int64s, depth: int, message: int, end: int, messages: Int64s, kinds: NDArray[np.uint8], n: int
) -> None:
    """Begin to read a message."""
    frames[depth, END], frames[depth, HERE], frames[depth, SEEN], frames[depth, LIKELY] = end, message, 0, 0
    slot = messages[message, OWN_SLOT]
    if slot != NOWHERE:
        kinds[slot, n] = messages[message, OWN_KIND]


@compiled
def _field(data: Bytes, at: int, frames: Int64s, depth: int, messages: Int64s, fields: Int64s) -> tuple[int, int, int]:
    """Which field begins at a place, or NOWHERE for one that the schema has not; its tag; what is behind that, or -1.

    It is looked for from a likely one on: fields have an order.
    """
    code, at = varint(data, at, frames[depth, END])
    tag = int(np.int64(code))
    if at < 0 or tag < 8 or tag > LARGEST_TAG or data[at - 1] == 0:
        return NOWHERE, tag, -1
    message = frames[depth, HERE]
    first, count, likely = messages[message, FIELDS], messages[message, FIELD_COUNT], frames[depth, LIKELY]
    known = False
    for n in range(count):
        place = first + (likely + n if likely + n < count else likely + n - count)
        if fields[place, TAG] == tag:
            frames[depth, LIKELY] = place - first + 1 if place - first + 1 < count else 0
            bit = fields[place, ONCE]
            if bit != NOWHERE:
                if (frames[depth, SEEN] >> bit) & 1:
                    at = -1
                frames[depth, SEEN] |= 1 << bit
            return place, tag, at
        known |= fields[place, TAG] >> 3 == tag >> 3
    return NOWHERE, tag, -1 if known else at


@compiled
def _size(data: Bytes, at: int, end: int) -> tuple[int, int]:
    """Where the span ends whose size is at a place, and where it begins, or -1."""
    code, behind = varint(data, at, end)
    size = int(np.int64(code))
    if behind < 0 or size < 0 or size > end - behind or (data[behind - 1] == 0 and behind > at + 1):
        return 0, -1
    return behind + size, behind


@compiled
def _behind_unknown(data: Bytes, at: int, end: int, tag: int) -> int:
    """What is behind a field that the schema has not."""
    written, until = tag & 7, -1
    if written == AS_VARINT:
        _, until = varint(data, at, end)
    elif written == AS_SPAN:
        until, at = _size(data, at, end)
        if at < 0:
            until = -1
    elif written == AS_64:
        until = at + 8
    elif written == AS_32:
        until = at + 4
    return until if until <= end else -1


@compiled
def _value(data: Bytes, at: int, end: int, fields: Int64s, place: int, enums: Int64s) -> tuple[int, int, int, int]:
    """What a field holds: its kind, a number or the place where it begins, where it ends, and what is behind, or -1."""
    how, kind, written = fields[place, HOW], fields[place, KIND], fields[place, TAG] & 7
    if written == AS_SPAN:
        return _span(data, at, end, how, kind)
    if written == AS_VARINT:
        code, at = varint(data, at, end)
        value = int(np.int64(code))
    else:
        size = 8 if written == AS_64 else 4
        if size > end - at:
            return kind, 0, 0, -1
        value, at = little_endian(data, at, size), at + size
        code = np.uint64(value)
    if how == UNSIGNED and value < 0:
        at = -1
    elif how == UNSIGNED_32:
        value &= 0xFFFFFFFF
    elif how == ZIGZAG:
        value = signed(code)
    elif how == ZIGZAG_32:
        value = signed(code & np.uint64(0xFFFFFFFF))
    elif how == TRUTH:
        value = 1 if value != 0 else 0
    elif how in (SIGNED_32, ENUM):
        value = ((value & 0xFFFFFFFF) ^ 0x80000000) - 0x80000000
        if how == ENUM:
            kind, value = _symbol(value, enums, fields[place, FIRST], fields[place, SYMBOLS])
    return kind, value, 0, at


@compiled
def _symbol(number: int, enums: Int64s, first: int, count: int) -> tuple[int, int]:
    """That of a number, or the number itself where none has it."""
    for symbol in range(first, first + count):
        if enums[symbol] == number:
            return SYMBOL, symbol
    return WHOLE, number


@compiled
def _span(data: Bytes, at: int, end: int, how: int, kind: int) -> tuple[int, int, int, int]:
    """What is in a span: text, bytes, a moment, or numbers that are not needed."""
    until, at = _size(data, at, end)
    if at < 0:
        return kind, 0, 0, -1
    begin, behind = at, until
    if how == TEXT_SPAN:
        text = kind_of_text(data, at, until)
        kind = ASCII if text == ALL_ASCII else TEXT
        if text == NO_TEXT:
            behind = -1
    elif how == MOMENT_SPAN:
        begin = _moment(data, at, until)
        if begin < 0:
            behind = -1
    elif how in (NUMBERS_64, NUMBERS_32):
        if (until - at) % (8 if how == NUMBERS_64 else 4) != 0:
            behind = -1
    elif how == VARINTS:
        while 0 <= at < until:
            _, at = varint(data, at, until)
        if at < 0:
            behind = -1
    return kind, begin, until, behind


@compiled
def _moment(data: Bytes, at: int, end: int) -> int:
    """Microseconds since 1970 of a Timestamp; -1 of an unusual one."""
    seconds = nanoseconds = 0
    while 0 <= at < end:
        tag = data[at]
        code, at = varint(data, at + 1, end)
        value = int(np.int64(code))
        if tag == (1 << 3) | AS_VARINT and 0 <= value < LIMIT_S:
            seconds = value
        elif tag == (2 << 3) | AS_VARINT and 0 <= value < 1_000_000_000:
            nanoseconds = value
        else:
            at = -1
    return seconds * 1_000_000 + nanoseconds // 1000 if at >= 0 else -1
