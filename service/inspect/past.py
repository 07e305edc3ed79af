"""What the changelog still knows of a stream: every version of its row, and the markers."""

from collections.abc import Iterator
from typing import NamedTuple

import torch

from models.detection.rows import Rows
from service.input.reading_batch import StreamKey
from service.inspect.groupless_log import GrouplessLog, Search
from service.log.port import Partition
from service.state.changelog import Collected, Layout, Marker, Stale, UnreadableRecord, read_marker, read_page
from service.state.changelog_keys import Origin
from service.state.pauses import TaskPauses, restored_pauses
from service.state.slab import Page
from service.state.task import ClockState


class Version(NamedTuple):
    """A stream's row, as it was once written."""

    page: int
    through: int  # every reading before it is in the row
    applied: int  # offset of the last that is
    rows: Rows  # of this one stream
    clock: ClockState | None  # its partition's, at `through`

    def scalar(self, name: str) -> float:
        return float(self.rows.scalar(name)[0])


class StreamPast(NamedTuple):
    """What the changelog still has of a stream, oldest first."""

    origin: Origin
    marker: Marker  # the newest
    versions: list[Version]
    predecessor: bool  # there are rows of another checkpoint
    pauses: TaskPauses  # of the partition, and until when


def past_of(log: GrouplessLog, search: Search, stream: StreamKey, layout: Layout) -> StreamPast:
    """That of the first partition whose pages have held the stream; else of the first where it could be."""
    first: StreamPast | None = None
    for partition in search.partitions(log, stream):
        past = _past_in(log, Origin(search.group, partition), stream, layout)
        if past is None:
            continue
        if past.versions or past.predecessor:
            return past
        first = first or past
    if first is None:
        raise search.no_state()
    return first


def _past_in(log: GrouplessLog, origin: Origin, stream: StreamKey, layout: Layout) -> StreamPast | None:
    versions: list[Version] = []
    waiting: list[Version] = []  # for the marker of their transaction
    marker: Marker | None = None
    predecessor, pauses = False, TaskPauses()
    for key, value in _records(log, origin.partition):
        one = Collected(origin)
        one.add((key,), (value,))
        if one.marker is not None:
            marker = _marker(origin, one.marker) or marker
            versions += [_with_clock(version, marker) for version in waiting]
            waiting = []
        elif one.pauses is not None:
            pauses = _pauses(one.pauses) or pauses
        elif value is not None and bytes(stream) in value:  # headers hold keys as they are
            for number in one.pages:
                page = read_page(one, layout, number)
                predecessor |= isinstance(page, Stale) and stream in page.keys
                if isinstance(page, Page) and stream in page.keys:
                    waiting.append(_version(page, stream))
    versions += waiting
    versions.sort(key=lambda version: version.through)
    return None if marker is None else StreamPast(origin, marker, versions, predecessor, pauses)


def _records(log: GrouplessLog, partition: Partition) -> Iterator[tuple[bytes | None, bytes | None]]:
    while True:
        stored = log.restore(partition)
        yield from zip(stored.keys, stored.values, strict=True)
        if stored.read >= stored.size:
            return


def _marker(origin: Origin, value: bytes) -> Marker | None:
    try:
        return read_marker(origin, value)
    except UnreadableRecord:
        return None


def _pauses(value: bytes) -> TaskPauses | None:
    try:
        return restored_pauses(value)
    except UnreadableRecord:
        return None


def _version(page: Page, stream: StreamKey) -> Version:
    row = page.keys.index(stream)
    rows = page.rows.take(torch.tensor([row]))
    return Version(page.number, page.through, int(page.applied[row]), rows, None)


def _with_clock(version: Version, marker: Marker | None) -> Version:
    """Compaction may have left a page without its marker; the next one is of a later time."""
    if marker is None or marker.next_offset != version.through:
        return version
    return version._replace(clock=ClockState.of(marker))
