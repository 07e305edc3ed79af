"""Requests of OTLP in Protobuf to rows of numbers, compiled: one for each point of a gauge or a sum.

A request is left in which anything is not as exporters write it: another kind of metric, exemplars, a field that is
not known or is there twice, or one around a point that comes after it. Sizes: D points.
"""

import numpy as np

from models.data.arrays import Bytes, Int64s
from models.detection.compiling import compiled, kept
from service.input.walks.utf8 import NO_TEXT, kind_of_text
from service.input.walks.varints import little_endian, varint

# Columns of a row. What begins in one ends in the next one; nothing begins at NOWHERE.
REQUEST, RESOURCE, SCOPE, NAME, UNIT, ATTRIBUTES = 0, 1, 3, 5, 7, 9
IS_SUM, TEMPORALITY, MONOTONIC, TIME, VALUE_KIND, VALUE, FLAGS = range(11, 18)
COLUMNS = 18
NOWHERE = -1
NO_NUMBER, DOUBLE, INTEGER = 0, 1, 2  # of VALUE_KIND
VARINT, BITS_64, SPAN = 0, 1, 2  # how a field is written: the lower three bits of its tag
MOST_SIZE = 2**28
LEAST_POINT = 9  # bytes: its time alone
TEMPORALITIES = 3
MOST_FLAGS = 2**32


@kept
def walk(data: Bytes, begins_at: Int64s, ends_at: Int64s, rows: Int64s) -> int:
    """Put the points of the requests data[begins_at[n]:ends_at[n]] into rows, (D, COLUMNS); returns D."""
    count = 0
    for n in range(len(begins_at)):
        first, at, end = count, begins_at[n], ends_at[n]
        if _may_be_json(data, at, end):
            at = -1
        while 0 <= at < end:
            tag, begin, until, at = _field(data, at, end)
            if at >= 0 and tag == (1 << 3) | SPAN:
                count = _of_resource(data, begin, until, rows, count, n)
            if count < 0 or tag != (1 << 3) | SPAN:
                at = -1
        if at < 0:
            count = first
    return count


@compiled
def _may_be_json(data: Bytes, at: int, end: int) -> bool:
    """Whether the first byte that is no blank begins an object."""
    while at < end and (data[at] == ord(" ") or 9 <= data[at] <= 13):
        at += 1
    return at < end and data[at] == ord("{")


@compiled
def _field(data: Bytes, at: int, end: int) -> tuple[int, int, int, int]:
    """The tag of the field at a place, its number or where it begins, where it ends, and what is behind it; or -1."""
    tag = int(data[at])
    written, value, until = tag & 7, 0, 0
    at += 1
    if written == BITS_64:
        if end - at < 8:
            return tag, 0, 0, -1
        return tag, little_endian(data, at, 8), 0, at + 8
    code, at = varint(data, at, end)
    value = int(np.int64(code))
    if tag >= 0x80 or value < 0 or written not in (VARINT, SPAN):
        at = -1
    if at >= 0 and written == SPAN:
        if value > min(end - at, MOST_SIZE):
            return tag, 0, 0, -1
        value, until = at, at + value
        at = until
    return tag, value, until, at


@compiled
def _is_text(data: Bytes, begin: int, end: int) -> bool:
    return kind_of_text(data, begin, end) != NO_TEXT


@compiled
def _of_resource(data: Bytes, at: int, end: int, rows: Int64s, count: int, n: int) -> int:
    """The points of request n in a ResourceMetrics; returns how many there are then, or -1, as below."""
    resource, resource_end, first = NOWHERE, NOWHERE, True
    while at < end and count >= 0:
        tag, begin, until, at = _field(data, at, end)
        if at < 0:
            return -1
        if tag == (2 << 3) | SPAN:
            count = _of_scope(data, begin, until, rows, count, n, resource, resource_end)
        elif tag == (1 << 3) | SPAN and first:
            resource, resource_end = begin, until
        elif tag != (3 << 3) | SPAN or not _is_text(data, begin, until):
            return -1
        first = False
    return count


@compiled
def _of_scope(
    data: Bytes, at: int, end: int, rows: Int64s, count: int, n: int, resource: int, resource_end: int
) -> int:
    """Those in a ScopeMetrics."""
    scope, scope_end, first = NOWHERE, NOWHERE, True
    while at < end and count >= 0:
        tag, begin, until, at = _field(data, at, end)
        if at < 0:
            return -1
        if tag == (2 << 3) | SPAN:
            before = count
            count = _of_metric(data, begin, until, rows, count)
            for row in range(before, count):
                rows[row, REQUEST] = n
                rows[row, RESOURCE], rows[row, RESOURCE + 1] = resource, resource_end
                rows[row, SCOPE], rows[row, SCOPE + 1] = scope, scope_end
        elif tag == (1 << 3) | SPAN and first:
            scope, scope_end = begin, until
        elif tag != (3 << 3) | SPAN or not _is_text(data, begin, until):
            return -1
        first = False
    return count


@compiled
def _of_metric(data: Bytes, at: int, end: int, rows: Int64s, count: int) -> int:
    """Those of a Metric: first what is of all of them, whose fields are in the order of their numbers."""
    name, name_end, unit, unit_end, points, points_end, is_sum, last = 0, 0, 0, 0, NOWHERE, NOWHERE, 0, 0
    while at < end:
        tag, begin, until, at = _field(data, at, end)
        if at < 0 or tag <= last or tag & 7 != SPAN:
            return -1
        last = tag
        if tag == (5 << 3) | SPAN or (tag == (7 << 3) | SPAN and points == NOWHERE):
            points, points_end, is_sum = begin, until, 1 if tag == (7 << 3) | SPAN else 0
        elif tag > (3 << 3) | SPAN or not _is_text(data, begin, until):
            return -1
        elif tag == (1 << 3) | SPAN:
            name, name_end = begin, until
        elif tag == (3 << 3) | SPAN:
            unit, unit_end = begin, until
    before = count
    count = _points(data, points, points_end, rows, count, is_sum) if points != NOWHERE else count
    for row in range(before, count):
        rows[row, NAME], rows[row, NAME + 1] = name, name_end
        rows[row, UNIT], rows[row, UNIT + 1] = unit, unit_end
    return count


@compiled
def _points(data: Bytes, at: int, end: int, rows: Int64s, count: int, is_sum: int) -> int:
    """Those of a Gauge or a Sum."""
    before, temporality, monotonic = count, 0, 0
    while at < end:
        tag, begin, until, at = _field(data, at, end)
        if at >= 0 and tag == (1 << 3) | SPAN and _point(data, begin, until, rows, count):
            count += 1
        elif at >= 0 and tag == (2 << 3) | VARINT and is_sum and begin < TEMPORALITIES:
            temporality = begin
        elif at >= 0 and tag == (3 << 3) | VARINT and is_sum and begin <= 1:
            monotonic = begin
        else:
            return -1
    for row in range(before, count):
        rows[row, IS_SUM], rows[row, TEMPORALITY], rows[row, MONOTONIC] = is_sum, temporality, monotonic
    return count


@compiled
def _point(data: Bytes, at: int, end: int, rows: Int64s, row: int) -> bool:
    """Whether a NumberDataPoint is a usual one; its attributes lie side by side then."""
    if end - at < LEAST_POINT:
        return False
    attributes = attributes_end = NOWHERE
    time = flags = NOWHERE
    kind = value = 0
    while at < end:
        here = at
        tag, begin, _, at = _field(data, at, end)
        if at < 0:
            return False
        if tag == (7 << 3) | SPAN:
            if attributes == NOWHERE:
                attributes = here
            elif attributes_end != here:
                return False
            attributes_end = at
        elif tag == (3 << 3) | BITS_64 and time == NOWHERE and begin >= 0:
            time = begin
        elif (tag == (4 << 3) | BITS_64 or tag == (6 << 3) | BITS_64) and kind == NO_NUMBER:
            kind, value = DOUBLE if tag == (4 << 3) | BITS_64 else INTEGER, begin
        elif tag == (8 << 3) | VARINT and flags == NOWHERE and begin < MOST_FLAGS:
            flags = begin
        elif tag != (2 << 3) | BITS_64:
            return False
    rows[row, ATTRIBUTES], rows[row, ATTRIBUTES + 1] = attributes, attributes_end
    rows[row, TIME], rows[row, FLAGS] = max(time, 0), max(flags, 0)
    rows[row, VALUE_KIND], rows[row, VALUE] = kind, value
    return True
