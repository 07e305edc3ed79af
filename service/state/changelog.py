"""The changelog's records <-> bytes: pages, rosters, markers.

One compacted topic holds the memory of all streams; an input partition's records are in the changelog partition of the
same number, under keys that name input topic, kind and consumer group. Four kinds:

- a page: up to 128 rows, as they were when every reading before offset `through` was in them;
- a roster: the names of a page's streams, so that it is known exactly who is lost when the page cannot be read;
- the marker: how far the partition has come. On restore it is the truth; group offsets can expire;
- the pauses: in which times nothing is learned of some streams, and from which offset on people had said so.

A page whose membership changed is written with its roster in the same transaction, so who is remembered is always
known; what is in the rows may be up to a flush interval old, and the input is read again from the marker's
`replay_from`. Pages and rosters: magic, version, kind, CRC-32 of all that follows, length and MessagePack of a header,
then the columns of the rows, little-endian. Markers are JSON, to be read with any consumer, with a CRC-32 of their own.
"""

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from math import prod
from typing import Any, NamedTuple, TypeVar
from zlib import crc32

import msgspec
import numpy as np
import torch
from msgspec import UNSET, UnsetType
from torch import Tensor

from models.data.stream_key import MAX_KEY_BYTES
from models.detection.rows import CHANNELS, SCALARS, Rows
from service.input.labels import Labels
from service.input.reading_batch import StreamKey
from service.log.port import Partition, Record
from service.state.changelog_keys import (
    MARKER,
    PAGE,
    PAUSES,
    ROSTER,
    Origin,
    marker_key,
    page_key,
    parse_key,
    roster_key,
)
from service.state.slab import PAGE_ROWS, Page

VERSION = 1  # of the container and its headers
MAGIC = b"TTCL"
_FRAME = struct.Struct("<4sBcI")  # magic, version, kind, CRC-32 of the rest
_LENGTH = struct.Struct("<I")


class UnreadableRecord(Exception):
    """A changelog record is not what it should be. reason: one of the words that `telltale.state.lost` gives."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Layout:
    """What a row is made of: the checkpoint that gave it its meaning, and the sizes and names of its columns."""

    checkpoint: str  # digest
    shapes: tuple[tuple[int, ...], ...]  # of one row: hidden, cell, channels, scalars

    @classmethod
    def of(cls, checkpoint: str, rows: Rows) -> "Layout":
        return cls(checkpoint, tuple(tuple(column.shape[1:]) for column in rows))

    @property
    def names(self) -> int:
        """Changes when a quantity is added, removed or moved within a row."""
        return _digest((CHANNELS.stored_names, SCALARS.stored_names, self.shapes))

    @property
    def row_bytes(self) -> int:
        return sum(prod(shape) * dtype.itemsize for shape, dtype in zip(self.shapes, _DTYPES, strict=True)) + 8


@cache
def _digest(names: tuple[tuple[Any, ...], ...]) -> int:
    """It is asked for with every page, and takes longer than a page's check sum."""
    return crc32(repr(names).encode())


class Meaning(NamedTuple):
    """What gives rows their meaning."""

    layout: Layout
    numerics: str  # fingerprint of this machine's arithmetic


_DTYPES = tuple(map(np.dtype, ("<f4", "<f4", "<f8", "<f8")))  # of Rows' columns, as they travel


class _PageHeader(msgspec.Struct, array_like=True):
    group: str
    topic: str
    partition: int
    page: int
    through: int
    checkpoint: str
    names: int
    places: list[int]  # of each row in the page, 0 to 127
    keys: list[StreamKey]


class _LabelledPageHeader(_PageHeader, array_like=True):
    """Of a page of which streams have labels; one without any is as it was before there were labels."""

    label_sets: list[dict[str, str]] = []  # the different ones
    labels: list[int] = []  # of each row, which of them; -1: it has none


class _RosterHeader(msgspec.Struct, array_like=True):
    group: str
    topic: str
    partition: int
    page: int
    keys: list[StreamKey]


_Header = TypeVar("_Header", _LabelledPageHeader, _RosterHeader)
_Sealed = TypeVar("_Sealed", bound=msgspec.Struct)


class Marker(msgspec.Struct, frozen=True, kw_only=True):
    """How far a partition has come: judged and published before next_offset, read again from replay_from."""

    version: int = VERSION
    group: str
    topic: str
    partition: int
    next_offset: int
    replay_from: int
    topic_id: str  # of the input topic
    partitions: int  # of the input topic
    checkpoint: str  # digest of the one that judges
    names: int  # of its rows' quantities: Layout.names
    checkpoint_from: int  # offset from which on it does
    primed_from: int  # offset from which on readings before that were looked through for the last of each stream
    numerics: str
    pages: int  # 0 to pages - 1 exist
    streams: int
    counts: dict[str, int]  # what became of the partition's records since the first marker
    event_time_ms: int | None
    ticks: list[int]  # offsets at which the partition's event time last moved on by a sixteenth of the idle time
    writer: str  # transactional id
    # Left out where no rule of a sensor has ever excluded a value, so that such markers stay as they were.
    rules: str | UnsetType = UNSET  # digest of the sensors' rules that judge
    rules_from: int | UnsetType = UNSET  # offset from which on they do
    # The latest ticks by which silence is told, as Ticks.stored(); left out until there are any.
    silence_ticks: list[list[int]] | UnsetType = UNSET


class Stale(NamedTuple):
    """A page of another checkpoint: whole, but its rows mean nothing to this one."""

    number: int
    places: tuple[int, ...]
    keys: tuple[StreamKey, ...]


class Lost(NamedTuple):
    """A page that cannot be read. streams: all that were in it; None: not even that is known."""

    number: int
    reason: str
    detail: str
    streams: tuple[StreamKey, ...] | None


# --- writing


def page_record(origin: Origin, layout: Layout, page: Page) -> Record:
    first = page.number * PAGE_ROWS
    header = _PageHeader(
        origin.group,
        *origin.partition,
        page.number,
        page.through,
        layout.checkpoint,
        layout.names,
        [slot - first for slot in page.slots.tolist()],
        list(page.keys),
    )
    if page.labels is not None:
        header = _labelled(header, page.labels)
    columns = [column.numpy().astype(dtype, copy=False) for column, dtype in zip(page.rows, _DTYPES, strict=True)]
    columns.append(page.applied.numpy().astype("<i8", copy=False))
    value = _framed(b"P", msgspec.msgpack.encode(header), b"".join(column.tobytes() for column in columns))
    return Record(page_key(origin, page.number), value)


def _labelled(header: _PageHeader, labels: Sequence[Labels | None]) -> _PageHeader:
    sets = dict[tuple[tuple[str, str], ...], int]()
    which = [-1 if one is None else sets.setdefault(tuple(one.items()), len(sets)) for one in labels]
    if not sets:
        return header
    return _LabelledPageHeader(**msgspec.structs.asdict(header), label_sets=list(map(dict, sets)), labels=which)


def roster_record(origin: Origin, number: int, keys: Sequence[StreamKey]) -> Record:
    header = _RosterHeader(origin.group, *origin.partition, number, list(keys))
    return Record(roster_key(origin, number), _framed(b"R", msgspec.msgpack.encode(header), b""))


def marker_record(marker: Marker) -> Record:
    return Record(marker_key(Origin(marker.group, Partition(marker.topic, marker.partition))), sealed(marker))


def sealed(one: msgspec.Struct) -> bytes:
    """As JSON, with a checksum of its own. The struct has a field `version`."""
    body = msgspec.json.encode(one)
    return b'{"crc":"%08x",' % crc32(body) + body[1:]


def _framed(kind: bytes, header: bytes, columns: bytes) -> bytes:
    body = _LENGTH.pack(len(header)) + header + columns
    return _FRAME.pack(MAGIC, VERSION, kind, crc32(body)) + body


# --- reading


@dataclass(slots=True)
class Collected:
    """The newest record under each key that belongs to one origin; bytes, not looked into yet."""

    origin: Origin
    pages: dict[int, bytes] = field(default_factory=dict)
    rosters: dict[int, bytes] = field(default_factory=dict)
    marker: bytes | None = None
    pauses: bytes | None = None
    foreign: int = 0  # records under keys that nothing here writes

    @property
    def end(self) -> int:
        """One more than the highest number of a page."""
        return 1 + max(self.pages, default=-1)

    def drop(self, number: int) -> None:
        """A page has been read."""
        self.pages.pop(number, None)
        self.rosters.pop(number, None)

    def add(self, keys: Iterable[bytes | None], values: Iterable[bytes | None]) -> None:
        """Take in records in the order of the changelog."""
        for key, value in zip(keys, values, strict=True):
            parsed = parse_key(key or b"")
            if parsed is None:
                self.foreign += 1
                continue
            mine = (parsed.topic, parsed.group) == (self.origin.partition.topic, self.origin.group)
            if mine and parsed.kind == MARKER:
                self.marker = value
            elif mine and parsed.kind == PAUSES:
                self.pauses = value
            elif mine and parsed.kind in (PAGE, ROSTER):
                held, number = self.pages if parsed.kind == PAGE else self.rosters, int(parsed.name)
                if value is None:
                    held.pop(number, None)
                else:
                    held[number] = value


def read_marker(origin: Origin, value: bytes) -> Marker:
    """Raises UnreadableRecord."""
    marker = unsealed(value, Marker, VERSION, "the marker")
    _require_origin(origin, Origin(marker.group, Partition(marker.topic, marker.partition)), "marker")
    return marker


def unsealed(value: bytes, kind: type[_Sealed], version: int, what: str) -> _Sealed:
    """What `sealed` wrote, if it is of this version. Raises UnreadableRecord."""
    try:
        checked = msgspec.json.decode(value, type=_Checked)
        if checked.version != version:
            raise UnreadableRecord("version", f"{what} is of version {checked.version}, expected {version}")
        found = msgspec.json.decode(value, type=kind)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise UnreadableRecord("corrupt", f"{what} is not JSON as expected: {error}") from error
    if f"{crc32(msgspec.json.encode(found)):08x}" != checked.crc:
        raise UnreadableRecord("corrupt", f"{what}: its checksum is not {checked.crc}")
    return found


class _Checked(msgspec.Struct):
    """What can be read of a sealed record of any version."""

    crc: str
    version: int


def read_page(collected: Collected, layout: Layout, number: int) -> Page | Stale | Lost:
    """Page `number`, whatever its bytes: never raises."""
    value = collected.pages.get(number)
    try:
        if value is None:
            raise UnreadableRecord("missing", "there is no such record")
        return _read_page(collected.origin, layout, number, value)
    except UnreadableRecord as error:
        return Lost(number, error.reason, f"page {number}: {error}", _read_roster(collected, number))


def roster_agrees(collected: Collected, page: Page) -> bool:
    """Whether the page's roster can be read and names the page's streams."""
    roster = _read_roster(collected, page.number)
    return roster is not None and (roster == page.keys or sorted(roster) == sorted(page.keys))


def _read_roster(collected: Collected, number: int) -> tuple[StreamKey, ...] | None:
    try:
        body = _body(b"R", collected.rosters.get(number, b""))
        header, _ = _decoded(_RosterHeader, body)
        _require_origin(
            collected.origin, Origin(header.group, Partition(header.topic, header.partition)), f"roster {header.page}"
        )
    except UnreadableRecord:
        return None
    if header.page != number:
        return None
    return tuple(header.keys)


def _read_page(origin: Origin, layout: Layout, number: int, value: bytes) -> Page | Stale:
    header, columns = _decoded(_LabelledPageHeader, _body(b"P", value))
    _require_origin(origin, Origin(header.group, Partition(header.topic, header.partition)), f"page {header.page}")
    if header.page != number:
        raise UnreadableRecord("foreign", f"holds page {header.page}")
    _require_rows(header)
    keys, places = tuple(header.keys), tuple(header.places)
    if (header.checkpoint, header.names) != (layout.checkpoint, layout.names):
        return Stale(number, places, keys)
    if len(columns) != len(keys) * layout.row_bytes:
        raise UnreadableRecord("corrupt", f"{len(columns)} bytes of rows, expected {len(keys) * layout.row_bytes}")
    rows, applied = _read_columns(layout, len(keys), columns)
    slots = torch.from_numpy(np.array(places, np.int64) + number * PAGE_ROWS)  # torch takes three times as long
    return Page(number, header.through, slots, keys, rows, applied, _read_labels(header))


def _read_labels(header: _LabelledPageHeader) -> tuple[Labels | None, ...] | None:
    sets, which = header.label_sets, header.labels
    if not which:
        return None
    if len(which) != len(header.keys) or not -1 <= min(which) <= max(which) < len(sets):
        raise UnreadableRecord("corrupt", "its streams and their labels do not fit together")
    return tuple(None if n < 0 else sets[n] for n in which)


def _read_columns(layout: Layout, streams: int, data: memoryview) -> tuple[Rows, Tensor]:
    columns, at = [], 0
    for shape, dtype in zip((*layout.shapes, ()), (*_DTYPES, np.dtype("<i8")), strict=True):
        count = streams * prod(shape)
        column = np.frombuffer(data, dtype, count, at).reshape(streams, *shape)
        columns.append(torch.from_numpy(column.astype(dtype.newbyteorder("="))))  # a copy, so it may be written to
        at += count * dtype.itemsize
    return Rows(*columns[:4]), columns[4]


def _body(kind: bytes, value: bytes) -> memoryview:
    if len(value) < _FRAME.size:
        raise UnreadableRecord("corrupt", f"{len(value)} bytes, too few for a frame")
    magic, version, found, crc = _FRAME.unpack_from(value)
    if magic != MAGIC or found != kind:
        raise UnreadableRecord("corrupt", f"starts with {bytes(value[:6])!r}")
    if version != VERSION:
        raise UnreadableRecord("version", f"is of version {version}, expected {VERSION}")
    body = memoryview(value)[_FRAME.size :]
    if crc32(body) != crc:
        raise UnreadableRecord("corrupt", f"the checksum of its {len(value)} bytes is wrong")
    return body


def _decoded(kind: type[_Header], body: memoryview) -> tuple[_Header, memoryview]:
    try:
        (length,) = _LENGTH.unpack_from(body)
        header = msgspec.msgpack.decode(body[_LENGTH.size : _LENGTH.size + length], type=kind)
    except (struct.error, msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise UnreadableRecord("corrupt", f"its header cannot be read: {error}") from error
    return header, body[_LENGTH.size + length :]


def _require_origin(expected: Origin, found: Origin, what: str) -> None:
    if found != expected:
        raise UnreadableRecord(
            "foreign",
            f"holds {what} of {found.partition} and group {found.group}, expected {expected.partition} and group "
            f"{expected.group}",
        )


def _require_rows(header: _PageHeader) -> None:
    places, keys = header.places, header.keys
    good = (
        len(places) == len(keys) == len(set(places)) == len(set(keys))
        and all(0 <= place < PAGE_ROWS for place in (min(places, default=0), max(places, default=0)))
        and all(1 <= length <= MAX_KEY_BYTES for length in set(map(len, keys)))
    )
    if not good:
        raise UnreadableRecord("corrupt", "its streams and their places do not fit together")
