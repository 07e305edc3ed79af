"""Integers of seven bits a byte, in compiled code: those of Avro and of Protobuf."""

import numpy as np

from models.data.arrays import Bytes
from models.detection.compiling import compiled

MOST_BYTES = 10


@compiled
def varint(data: Bytes, at: int, end: int) -> tuple[np.uint64, int]:
    """The integer at a place, and the place behind it; -1 where there is none of 64 bits."""
    value = np.uint64(0)
    for n in range(min(end - at, MOST_BYTES)):
        byte = np.uint64(data[at + n])
        if n == MOST_BYTES - 1 and byte > np.uint64(1):
            break
        value |= (byte & np.uint64(0x7F)) << np.uint64(7 * n)
        if byte < np.uint64(0x80):
            return value, at + n + 1
    return value, -1


@compiled
def signed(value: np.uint64) -> int:
    """The number of a zig-zag: 0, -1, 1, -2 …"""
    return int(np.int64(value >> np.uint64(1)) ^ -np.int64(value & np.uint64(1)))


@compiled
def little_endian(data: Bytes, at: int, size: int) -> int:
    """The bits of a number of that size in bytes."""
    value = np.uint64(0)
    for n in range(size):
        value |= np.uint64(data[at + n]) << np.uint64(8 * n)
    return int(np.int64(value))
