"""The fields of records in a batch of Kafka's format 2, of many records at once with numpy.

Varints are zigzag-encoded; a length of -1 is null. What does not add up is said, or raises BadRecords. `N`: records.
"""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from models.data.arrays import Bools, Bytes, Int64s
from service.log.port import KeptHeaders

LONGEST_VARINT = 10
MAX_HEADERS = 1_000  # of a record; the others are left out
HEADER_COST = 150  # bytes that a header takes as Python objects, beside those that it has anyway


class BadRecords(Exception):
    """A batch's checksum is right, and what it holds cannot be read all the same."""


class Index(NamedTuple):
    """Where N records and their fields lie in the bytes (an end of -1: null), and their deltas."""

    starts: Int64s
    ends: Int64s
    key_starts: Int64s
    key_ends: Int64s
    value_starts: Int64s
    value_ends: Int64s
    header_starts: Int64s  # of the first one, behind their count
    header_counts: Int64s
    offset_deltas: Int64s
    time_deltas: Int64s


def padded_bytes(data: bytes) -> Bytes:
    return np.frombuffer(data + bytes(16), dtype=np.uint8)


def fields(padded: Bytes, starts: Int64s, ends: Int64s) -> tuple[Index, Bools]:
    """Decode the fields of the records from `starts` to `ends`; and of which of them all adds up."""
    _, at = varints(padded, starts)
    time_deltas, at = varints(padded, at + 1)  # attributes: one byte, unused
    offset_deltas, at = varints(padded, at)
    key_lengths, key_starts = varints(padded, at)
    key_ends = key_starts + np.maximum(key_lengths, 0)
    value_lengths, value_starts = varints(padded, key_ends)
    value_ends = value_starts + np.maximum(value_lengths, 0)
    header_counts, at = varints(padded, value_ends)
    # Each field lies behind the one before it, so only the last can reach past the record's end.
    whole = (key_ends >= key_starts) & (value_ends >= value_starts) & (header_counts >= 0)
    whole &= np.where(header_counts == 0, at == ends, at < ends)
    headers = at
    key_ends[key_lengths < 0] = -1
    value_ends[value_lengths < 0] = -1
    index = Index(
        starts,
        ends,
        key_starts,
        key_ends,
        value_starts,
        value_ends,
        headers,
        header_counts,
        offset_deltas,
        time_deltas,
    )
    return index, whole


def sizes_of(index: Index) -> Int64s:
    """What the records take in bytes, each with those before it."""
    sizes: Int64s = index.ends - index.starts[0]  # they lie one behind the other
    if index.header_counts.any():
        sizes = sizes + HEADER_COST * np.cumsum(np.minimum(index.header_counts, MAX_HEADERS))
    return sizes


def headers_between(data: bytes, at: int, end: int, count: int) -> KeptHeaders:
    """The headers of a record, from the first of them to the record's end; those that do not add up are left out."""
    kept: list[tuple[str, bytes | None]] = []
    try:
        while len(kept) < min(count, MAX_HEADERS):
            length, start = varint(data, at)
            value_length, value_start = varint(data, start + length)
            at = value_start + max(0, value_length)
            if length < 0 or at > end:
                break
            name = data[start : start + length].decode(errors="backslashreplace")
            kept.append((name, None if value_length < 0 else data[value_start:at]))
    except BadRecords:
        pass
    return KeptHeaders(tuple(kept), count - len(kept))


def guessed_starts(data: bytes, padded: Bytes, total: int) -> Int64s | None:
    """Where the records start, if they all end like the first (a JSON value's last byte, no headers), else None.

    A guess, then a proof: every record's length must lead exactly to the next one's start.
    """
    try:
        length, at = varint(data, 0)
    except BadRecords:
        return None
    first_end = at + length
    if not 2 <= first_end <= len(data) or data[first_end - 1] != 0:
        return None
    ends = np.flatnonzero((padded[1 : len(data)] == 0) & (padded[: len(data) - 1] == data[first_end - 2])) + 2
    if len(ends) != total:
        return None
    starts = np.concatenate(([0], ends[:-1]))
    lengths, at_body = varints(padded, starts)
    return starts if np.array_equal(at_body + lengths, ends) else None


def walked_starts(data: bytes | memoryview, at: int, most: int, record_bytes: int) -> tuple[list[int], int]:
    """Where the next records start that are all there, from length to length, and where the last of them ends."""
    starts: list[int] = []
    end = len(data)
    while len(starts) < most and at < end:
        low = data[at]
        if low < 0x80:
            raw, body = low, at + 1
        elif at + 1 < end and (high := data[at + 1]) < 0x80:
            raw, body = (high << 7) | (low & 0x7F), at + 2
        else:
            try:
                length, body = varint(data, at)
            except BadRecords:
                break
            raw = 2 * length if length >= 0 else 1
        after = body + (raw >> 1)
        if raw & 1 or after > end or raw > 2 * record_bytes:  # odd: negative
            break
        starts.append(at)
        at = after
    return starts, at


def varints(padded: Bytes, at: Int64s) -> tuple[Int64s, Int64s]:
    """Decode N zigzag varints at N places: the values, and the places after them. Places out of range give nonsense."""
    limit = len(padded) - 1
    byte = padded[np.clip(at, 0, limit)]
    raw = (byte & 0x7F).astype(np.uint64)
    after = at + 1
    more = np.flatnonzero(byte >= 0x80)
    shift = 7
    while len(more) and shift < 64:
        byte = padded[np.clip(after[more], 0, limit)]
        raw[more] |= (byte & 0x7F).astype(np.uint64) << np.uint64(shift)
        after[more] += 1
        more = more[byte >= 0x80]
        shift += 7
    return ((raw >> np.uint64(1)) ^ (~(raw & np.uint64(1)) + np.uint64(1))).view(np.int64), after


def varint(data: bytes | memoryview, at: int) -> tuple[int, int]:
    """Decode one zigzag varint: the value, and the place after it."""
    raw = shift = 0
    while True:
        if not 0 <= at < len(data) or shift > 63:
            raise BadRecords(f"a number at byte {at} does not end")
        byte = data[at]
        at += 1
        raw |= (byte & 0x7F) << shift
        if byte < 0x80:
            return (raw >> 1) ^ -(raw & 1), at
        shift += 7


def slices(data: bytes, starts: Int64s, ends: Int64s) -> list[bytes | None]:
    pairs = zip(starts.tolist(), ends.tolist(), strict=True)
    if (ends < 0).any():
        return [None if end < 0 else data[start:end] for start, end in pairs]
    return [data[start:end] for start, end in pairs]


def int64s(values: Iterable[int]) -> Int64s:
    return np.fromiter(values, dtype=np.int64)
