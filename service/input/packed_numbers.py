"""Arrays of numbers in MessagePack, many at once with numpy: those in which every number is written alike.

A producer that packs an array of doubles, or of times in milliseconds, writes each with the same tag in the same
number of bytes, so the numbers lie at equal distances. Sizes: N numbers, or rows of W numbers, of one array.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from msgspec import Raw
from numpy.typing import NDArray

from models.data.arrays import Bools, Bytes, Doubles, Int64s
from service.input.formats import as_doubles

# By tag, how the number behind it is written.
NUMBERS: dict[int, np.dtype[Any]] = {
    0xCA: np.dtype(">f4"),
    0xCB: np.dtype(">f8"),
    0xCC: np.dtype(">u1"),
    0xCD: np.dtype(">u2"),
    0xCE: np.dtype(">u4"),
    0xCF: np.dtype(">u8"),
    0xD0: np.dtype(">i1"),
    0xD1: np.dtype(">i2"),
    0xD2: np.dtype(">i4"),
    0xD3: np.dtype(">i8"),
}
HEAD_BYTES = {0xDC: 3, 0xDD: 5}  # of an array, by its first byte; of a short one 1
SHORT = 16  # items: fewer make a short array
LARGEST = np.iinfo(np.int64).max

Packed = Doubles | Int64s


class _Layout(NamedTuple):
    """How arrays of one kind are written, whole: bytes before the rows, before each row, and each row's numbers."""

    head: bytes
    rows: int
    row_head: bytes  # empty where there are no rows
    width: int
    tag: int


def read_packed(arrays: Sequence[Raw], width: int | None = None) -> list[Packed | None]:
    """The numbers of each array, (N,), or (N, width) of arrays of rows; None where they are not all written alike."""
    found: list[Packed | None] = [None] * len(arrays)
    row_head = b"" if width is None else _head_of(width, 1 if width < SHORT else 3)
    alike: dict[tuple[int, int, bytes], list[int]] = {}
    data = list(map(bytes, arrays))
    for n, one in enumerate(data):
        first = HEAD_BYTES.get(one[0], 1) + len(row_head)
        alike.setdefault((len(one), one[0], one[first : first + 1]), []).append(n)
    for (length, begins_with, tag), places in alike.items():
        layout = _layout_of(length, begins_with, tag, row_head, width or 1)
        if layout is None:
            continue
        whole, numbers = _numbers([data[n] for n in places], layout)
        for n, good, row in zip(places, whole.tolist(), numbers, strict=True):
            if good:
                found[n] = row[:, 0] if width is None else row
    return found


def _layout_of(length: int, begins_with: int, tag: bytes, row_head: bytes, width: int) -> _Layout | None:
    """Of an array of `length` bytes whose first number has this tag; None where that cannot be."""
    kind = NUMBERS.get(tag[0]) if tag else None
    if kind is None:
        return None
    head_bytes = HEAD_BYTES.get(begins_with, 1)
    rows, rest = divmod(length - head_bytes, len(row_head) + width * (1 + kind.itemsize))
    return None if rest else _Layout(_head_of(rows, head_bytes), rows, row_head, width, tag[0])


def _head_of(items: int, size: int) -> bytes:
    """What an array of `items` begins with, written in 1, 3 or 5 bytes."""
    if size == 1:
        return bytes([0x90 | items]) if items < SHORT else b"\xc1"  # which begins nothing
    return (b"\xdc" if size == 3 else b"\xdd") + items.to_bytes(size - 1)


def _numbers(arrays: Sequence[bytes], layout: _Layout) -> tuple[Bools, Packed]:
    """Of R arrays: (R,) those in which all is written as in `layout`, and the numbers, (R, N, W)."""
    count, begin, between = len(arrays), len(layout.head), len(layout.row_head)
    kind = NUMBERS[layout.tag]
    table: Bytes = np.frombuffer(b"".join(arrays), np.uint8).reshape(count, -1)
    rows = table[:, begin:].reshape(count, layout.rows, between + layout.width * (1 + kind.itemsize))
    cells = rows[:, :, between:].reshape(count, layout.rows, layout.width, 1 + kind.itemsize)
    whole: Bools = (table[:, :begin] == np.frombuffer(layout.head, np.uint8)).all(axis=1)
    whole &= (cells[..., 0] == layout.tag).all(axis=(1, 2))
    if between:
        whole &= (rows[:, :, :between] == np.frombuffer(layout.row_head, np.uint8)).all(axis=(1, 2))
    numbers: NDArray[Any] = np.ascontiguousarray(cells[..., 1:]).view(kind)[..., 0]
    if kind.kind == "f":
        return whole, as_doubles(numbers)
    if kind == np.dtype(">u8"):
        whole &= (numbers <= LARGEST).all(axis=(1, 2))
    return whole, numbers.astype(np.int64)
