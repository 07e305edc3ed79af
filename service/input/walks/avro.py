"""Values of Avro walked by a program, compiled: what is in each part of a shape, or that a value cannot be walked.

Sizes: R values, S slots.
"""

import numpy as np
from numpy.typing import NDArray

from models.data.arrays import Bools, Bytes, Int64s
from models.detection.compiling import compiled, kept
from service.input.walks.kinds import ASCII, MOMENT, SYMBOL, TEXT
from service.input.walks.operations import (
    BEHIND_LENGTH,
    BITS,
    BRANCH,
    END,
    ENUM,
    FLAT,
    INTEGER,
    ITEM,
    JUMP,
    SPAN,
    TIME,
)
from service.input.walks.utf8 import ALL_ASCII, NO_TEXT, kind_of_text
from service.input.walks.varints import little_endian, signed, varint


@kept
def walk(
    data: Bytes,
    begins_at: Int64s,
    ends_at: Int64s,
    rows: Int64s,
    kinds: NDArray[np.uint8],
    begins: Int64s,
    ends: Int64s,
    left: Int64s,
    refused: Bools,
) -> None:
    """Put what is in the values data[begins_at[n]:ends_at[n]] into slots, (S, R).

    left: (MOST_DEPTH,) to count with. refused: (R,) which are not of the schema to their last byte, or are not walked.
    """
    for n in range(len(begins_at)):
        at, end, row = begins_at[n], ends_at[n], 0
        left[:] = 0
        while at >= 0:
            operation, slot, first, second = rows[row, 0], rows[row, 1], rows[row, 2], rows[row, 3]
            row += 1
            if operation == END:
                break
            if operation == JUMP:
                row = slot
            elif operation == BRANCH:
                branch, at = _below(data, at, end, slot)
                row += branch
            elif operation == ITEM:
                if left[slot] == 0:
                    left[slot], at = _items(data, at, end)
                if left[slot] == 0:
                    row = first
                else:
                    left[slot] -= 1
            else:
                kind, value, until, at = _value(data, at, end, operation, first, second)
                if slot >= 0:
                    kinds[slot, n], begins[slot, n], ends[slot, n] = kind, value, until
        refused[n] = at != end


@compiled
def _below(data: Bytes, at: int, end: int, limit: int) -> tuple[int, int]:
    """A number from 0 to below the limit, and the place behind it; -1 where there is none, as below."""
    code, at = varint(data, at, end)
    number = signed(code)
    if number < 0 or number >= limit:
        at = -1
    return number, at


@compiled
def _items(data: Bytes, at: int, end: int) -> tuple[int, int]:
    """How many items the next block of an array has; 0: there is no more."""
    code, at = varint(data, at, end)
    count = signed(code)
    if at >= 0 and count < 0:  # behind it is the size of the block
        count = -count
        code, at = varint(data, at, end)
    if count < 0:
        at = -1
    return count, at


@compiled
def _value(data: Bytes, at: int, end: int, operation: int, first: int, second: int) -> tuple[int, int, int, int]:
    """What an instruction reads: its kind, a number or the place where it begins, where it ends, and what is behind."""
    kind, value, until = first, 0, at
    if operation == TIME:
        number, at = _below(data, at, end, second + 1)
        kind, value = MOMENT, number * first
    elif operation == ENUM:
        number, at = _below(data, at, end, first)
        kind, value = SYMBOL, number + second
    elif operation == BITS:
        value, at = _bits(data, at, end, second)
    elif operation == SPAN:
        kind, value, until, at = _span(data, at, end, first, second)
    elif operation == INTEGER:
        code, at = varint(data, at, end)
        value = signed(code)
    elif operation != FLAT:
        at = -1
    return kind, value, until, at


@compiled
def _bits(data: Bytes, at: int, end: int, size: int) -> tuple[int, int]:
    """Those of a number of that size in bytes; a boolean, of one, is 0 or 1."""
    if size > end - at or (size == 1 and data[at] > 1):
        return 0, -1
    return little_endian(data, at, size), at + size


@compiled
def _span(data: Bytes, at: int, end: int, kind: int, size: int) -> tuple[int, int, int, int]:
    """Text or bytes: of a size, or behind their length."""
    if size == BEHIND_LENGTH:
        size, at = _below(data, at, end, end - at)
    if at < 0 or size > end - at:
        return kind, 0, 0, -1
    until = at + size
    if kind == TEXT:
        text = kind_of_text(data, at, until)
        if text == ALL_ASCII:
            kind = ASCII
        elif text == NO_TEXT:
            return kind, 0, 0, -1
    return kind, at, until, until
